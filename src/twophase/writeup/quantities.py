"""The quantities that claims are about: each a function of a source, with an interval over seeds.

Each returns an `Estimate` or raises `CannotSay`, which says why nothing can be said. Arguments are
those that `paper/claims.yaml` gives under `at`; a time may be `first` or `last`, of the grid.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from twophase.estimators import changepoint, coincidence, transition
from twophase.estimators.phases import over_t0
from twophase.estimators.seeds import (
    LEVEL,
    CannotSay,
    Estimate,
    Scale,
    over_seeds,
    transformed,
    wide,
)
from twophase.writeup.moved import (
    chaos_times_ratio,
    covariation,
    first_horizon_exponent,
    kernel_follows,
)
from twophase.writeup.readings import (
    comparisons,
    ends,
    first_phase,
    forks,
    kernel_table,
    late_ends,
    long_enough,
    per_source,
    scale,
)
from twophase.writeup.selections import difference, measured, ratio, share, together, trend
from twophase.writeup.sources import Source
from twophase.writeup.transitions import (
    chaos_horizon_ratio,
    chaos_time,
    cone_depth,
    cone_exponent,
    cone_horizon_exponent,
    cone_radius,
    cone_radius_contrast,
    cone_sharpness,
    entry_time,
    late_share,
    same_time_entry,
    same_time_speed,
    speed_depth,
    speed_horizon_exponent,
    speed_sharpness,
    speed_time,
)

Time = int | str
# Seeds from which the mean of a mixture of runs with and without a barrier has an interval that
# holds it as often as it says (docs/rules.md).
FEWEST_MIXED = 8


def chaos(source: Source, measure: str, t0: Time, t1: Time, level: float = LEVEL) -> Estimate:
    """A measure of the comparison at (t0, t1): a description, after a drop of the rate, too."""
    table = comparisons(source)
    return _seed_means(_at(_at(table, "t0", t0), "t1", t1), measure, level)


def barrier(source: Source, t0: Time, t1: Time, level: float = LEVEL) -> Estimate:
    """The test loss barrier of the comparison at (t0, t1), in nats, where its interval covers."""
    rows = _at(_at(forks(source), "t0", t0), "t1", t1)
    return _covering(source, rows, level)


def late_barrier(source: Source, after: int, level: float = LEVEL) -> Estimate:
    """The same of the last forks at the last comparison.

    They must have been followed at least as long as the first forks took to show a barrier.
    """
    late = late_ends(source, after)
    long_enough(source)
    return _covering(source, _at(late, "t0", "last"), level)


def _covering(source: Source, rows: pd.DataFrame, level: float) -> Estimate:
    """Mean barrier over seeds. Where half the runs have one and half have none, few seeds may show
    one kind alone, and an interval without width: three in one case of four.
    """
    each = _means(rows, "test_barrier")
    if each.notna().all() and not (each > source.threshold).all() and len(each) < FEWEST_MIXED:
        raise CannotSay(
            f"a mean of barriers, some of which may be 0, asks for {FEWEST_MIXED} seeds"
        )
    return over_seeds(each, level=level)


def contrast(source: Source, measure: str, after: int, level: float = LEVEL) -> Estimate:
    """A measure of the last forks over that of the first, at the last comparison."""
    rows = late_ends(source, after)
    _has(rows, measure)
    means = wide(rows, "t0", measure)
    first, last = means.iloc[:, 0], means.iloc[:, -1]
    if (first <= 0).any() or (last <= 0).any():
        raise CannotSay(f"a fork has {measure} 0")
    return transformed(over_seeds(np.log(last / first), level=level), np.exp)


def late_growth(source: Source, after: int, level: float = LEVEL) -> Estimate:
    """Distance of base run and last forks at the last comparison, over the perturbation's size."""
    late = _at(late_ends(source, after), "t0", "last")
    if not (late["perturbation_l2"] > 0).all():
        raise CannotSay("nothing was added to the parameters")
    late = late.assign(growth=np.log(late["l2"] / late["perturbation_l2"]))
    return transformed(_seed_means(late, "growth", level), np.exp)


def peak(source: Source, measure: str, t0: Time, level: float = LEVEL) -> Estimate:
    """The largest value of a measure over t1."""
    return over_seeds(_over_t1(source, measure, t0).max(axis=1), level=level)


def peak_time(source: Source, measure: str, t0: Time, level: float = LEVEL) -> Estimate:
    """The t1 of the largest value."""
    means = _over_t1(source, measure, t0)
    return over_seeds(means.idxmax(axis=1), _coarseness(means.columns), level)


def disagreements(source: Source) -> pd.DataFrame:
    """Disagreement over t0, as `value`."""
    return over_t0(ends(source)).rename(columns={"disagreement": "value"})


def disagreement_transition(source: Source) -> Estimate:
    """The t0 at which disagreement has fallen halfway."""
    return transition.fall_transition(disagreements(source), scale(source))


def neighbours(source: Source) -> pd.DataFrame:
    """S(t, t + dt) of neighbouring kernels: `seed`, `t`, `distance`."""
    table = kernel_table(source)
    gap = table["u"] - table["t"]
    near = table[gap == gap[gap > 0].min()]
    if near["u"].max() < table["t"].max():
        raise CannotSay("kernels are not evenly spaced")
    return near


def kernel_changes(source: Source) -> changepoint.Changes:
    """The change points of log S(t, t + dt) between neighbouring kernels, where it falls."""
    changes = course_changes(source, "kernel distance")
    if changes.number.value and changes.falls.isna().any():
        raise CannotSay("the kernel does not slow down in all seeds")
    return changes


# Measures along base runs whose change may come with the kernel's: table, column, and whether
# ratios count.
COURSES = {
    "kernel distance": ("kernel_distance", "distance", True),
    "kernel norm": ("kernel", "norm", True),
    "kernel alignment": ("kernel_content", "alignment", False),
    "sharpness": ("curvature", "sharpness", True),
    "test accuracy": ("training", "test_accuracy", False),
    "test loss": ("training", "test_loss", True),
}


@per_source
def course_changes(source: Source, course: str) -> changepoint.Changes:
    """The change points of a measure along base runs. If it rises, `falls` are its rises, but for
    the kernel distance.
    """
    name, column, ratios = COURSES[course]
    near = course == "kernel distance"
    table = neighbours(source) if near else first_phase(source, source.table(name))
    _has(table, column)
    values = _log(table[column]) if ratios else table[column]
    late = table["t"] >= table["t"].max() / 2
    if not near and values[late].mean() > values[~late].mean():
        values = -values
    return changepoint.change_points(table[["seed", "t"]].assign(value=values))


def course_time(source: Source, course: str) -> Estimate:
    """When a measure along base runs changes."""
    times = source.table(COURSES[course][0])["t"]
    return changepoint.fall_time(course_changes(source, course), Scale(times))


def course_ratio(source: Source, course: str) -> Estimate:
    """When a measure changes, over when the kernel does, seed by seed."""
    one, other = course_changes(source, course), kernel_changes(source)
    if not (one.number.value and other.number.value):
        raise CannotSay("one of the two has no change point")
    both = scale(source)
    coarse = changepoint.step_width(one, both) + changepoint.step_width(other, both)
    return coincidence.time_coincidence(one.falls, other.falls, both, coarse)


def disagreement_ratio(source: Source) -> Estimate:
    """When disagreement has fallen halfway, over when the kernel changes, seed by seed."""
    kernel = kernel_changes(source)
    if not kernel.number.value:
        raise CannotSay("the kernel has no change point")
    both, curves = scale(source), disagreements(source)
    falls = transition.half_falls(curves, both)
    times = pd.Series(both.times(falls), index=falls.index)
    coarse = changepoint.step_width(kernel, both) + transition.gap(curves, falls, both)
    return coincidence.time_coincidence(times, kernel.falls, both, coarse)


def kernel_distance(source: Source, t: Time, u: Time, level: float = LEVEL) -> Estimate:
    """S between the kernels at t and u."""
    table = kernel_table(source)
    return _seed_means(_at(_at(table, "t", t), "u", u), "distance", level)


def kernel_floor(source: Source, dt: int, level: float = LEVEL) -> Estimate:
    """S(t, t + dt), mean over the second half of training."""
    table = kernel_table(source)
    late = table[(table["u"] - table["t"] == dt) & (table["t"] >= table["t"].max() / 2)]
    if late.empty:
        raise CannotSay(f"has no kernels {dt} iterations apart")
    return _seed_means(late, "distance", level)


def block_boundary(source: Source, level: float = LEVEL) -> Estimate:
    """The time that cuts the table of kernel distances into its two blocks."""
    table = kernel_table(source)
    cuts = [changepoint.block_boundary(run) for _, run in table.groupby("seed")]
    return over_seeds(cuts, _coarseness(table["t"].unique()), level)


def linearized(source: Source, switch: Time, level: float = LEVEL) -> Estimate:
    """Test accuracy at the end of training that is linearised from the switch on."""
    return _seed_means(_at(source.table("linearized"), "switch", switch), "test_accuracy", level)


def end_accuracy(source: Source, level: float = LEVEL) -> Estimate:
    """Test accuracy at the end of normal training."""
    return _seed_means(_at(source.table("training"), "t", "last"), "test_accuracy", level)


def linearized_rise(source: Source, level: float = LEVEL) -> Estimate:
    """The same for the last switch, less that for the first."""
    table = source.table("linearized")
    _has(table, "test_accuracy")
    means = wide(table, "switch", "test_accuracy")
    if means.shape[1] < 2:
        raise CannotSay("has fewer than 2 switches")
    return over_seeds(means.iloc[:, -1] - means.iloc[:, 0], level=level)


QUANTITIES: dict[str, Callable[..., Estimate]] = {
    function.__name__: function
    for function in (
        chaos, barrier, late_barrier, late_share, contrast, late_growth, peak, peak_time,
        kernel_distance, kernel_floor, block_boundary, linearized, linearized_rise, chaos_time,
        chaos_horizon_ratio, entry_time, cone_depth, cone_horizon_exponent, cone_sharpness,
        cone_radius, cone_radius_contrast, cone_exponent, speed_time, speed_depth,
        speed_horizon_exponent, speed_sharpness, same_time_entry, same_time_speed,
        measured, difference, ratio, share, trend, together, covariation, chaos_times_ratio,
        kernel_follows, first_horizon_exponent,
    )
}  # fmt: skip


def _at(table: pd.DataFrame, column: str, time: Time) -> pd.DataFrame:
    if time in ("first", "last"):
        time = table[column].min() if time == "first" else table[column].max()
    rows = table[table[column] == time]
    if rows.empty:
        raise CannotSay(f"has nothing at {column} = {time}")
    return rows


def _has(table: pd.DataFrame, measure: str) -> None:
    """Raises `CannotSay` if a table lacks a measure, as accuracy where the task has none."""
    if measure not in table:
        raise CannotSay(f"has no {measure}")


def _seed_means(rows: pd.DataFrame, measure: str, level: float) -> Estimate:
    _has(rows, measure)
    return over_seeds(_means(rows, measure), level=level)


def _means(rows: pd.DataFrame, measure: str) -> pd.Series:
    """The mean of each seed; not a number where one of its values is none."""
    known = rows[measure].notna().groupby(rows["seed"]).all()
    return rows.groupby("seed")[measure].mean().where(known)


def _over_t1(source: Source, measure: str, t0: Time) -> pd.DataFrame:
    rows = _at(forks(source), "t0", t0)
    _has(rows, measure)
    means = wide(rows, "t1", measure)
    if not np.isfinite(means).all(axis=None):
        raise CannotSay(f"a seed has no {measure} at one of the points")
    return means


def _coarseness(times: ArrayLike) -> float:
    """Half the smallest distance of times of a grid. Raises `CannotSay` if it has but one."""
    if len(times) < 2:
        raise CannotSay("has but one point of a grid")
    return float(np.diff(np.sort(times)).min() / 2)


def _log(values: pd.Series) -> pd.Series:
    if (values <= 0).any():
        raise CannotSay("a value is 0, whose ratio to others says nothing")
    return np.log(values)
