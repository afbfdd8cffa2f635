"""The quantities that claims are about: each a function of a source, with an interval over seeds.

Each returns an `Estimate` or raises `CannotSay`, which says why nothing can be said. Arguments are
those that `paper/claims.yaml` gives under `at`; a time may be `first` or `last`, of the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from twophase.estimators import changepoint, coincidence, confinement, transition
from twophase.estimators.seeds import CannotSay, Estimate, Scale, over_seeds, transformed, wide
from twophase.writeup.sources import Source

Time = int | str
per_source = lru_cache(maxsize=64)  # many quantities begin with the same tables
FEWEST_FORKS = 3  # perturbation times from which a change over them can be seen


@per_source
def forks(source: Source) -> pd.DataFrame:
    """The comparisons of perturbed forks; the control is left out."""
    chaos = source.table("chaos")
    return chaos[chaos["direction"] != "control"]


def ends(source: Source) -> pd.DataFrame:
    """The same at the last comparison, with `above`: does a barrier part the two?"""
    chaos = forks(source)
    chaos = chaos[chaos["t1"] == chaos["t1"].max()]
    if chaos["t0"].nunique() < 2:
        raise CannotSay("has but one perturbation time")
    if not np.isfinite(chaos["test_barrier"]).all():
        raise CannotSay("a fork ended with a loss that is no number")
    return chaos.assign(above=chaos["test_barrier"] > source.threshold)


def late_ends(source: Source, after: int) -> pd.DataFrame:
    """The same, if the last forks come at iteration `after` or later."""
    table = ends(source)
    if table["t0"].max() < after:
        raise CannotSay(f"has no forks from iteration {after} on")
    return table


def over_t0(source: Source) -> pd.DataFrame:
    """The same, where there are perturbation times enough to see a transition."""
    table = ends(source)
    if table["t0"].nunique() < FEWEST_FORKS:
        raise CannotSay(f"has fewer than {FEWEST_FORKS} perturbation times")
    return table


def barriers_over_t0(source: Source) -> pd.DataFrame:
    """The same, if any run ends behind a barrier: without one there is no time to look for."""
    table = over_t0(source)
    if not table["above"].any():
        raise CannotSay("no run ends behind a barrier")
    return table


def scale(source: Source) -> Scale:
    """The scale on which times of this source are compared."""
    return Scale(over_t0(source)["t0"])


def first_phase(source: Source, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table along base runs up to the first drop of the learning rate: a drop slows the
    kernel down by itself, and would be taken for the transition. A drop halves it, or more, between
    neighbouring points; a schedule that falls little by little has none until it is near 0.
    """
    if "training" not in source.tables:
        return table
    rates = source.tables["training"].groupby("t")["lr"].first()
    dropped = rates.index[rates <= rates.shift() / 2]
    if not len(dropped):
        return table
    times = [column for column in ("t", "u") if column in table]
    return table[(table[times] <= dropped[0]).all(axis=1)]


@per_source
def kernel_table(source: Source) -> pd.DataFrame:
    """Distances of all pairs of kernels, in the first phase of the learning rate."""
    return first_phase(source, source.table("kernel_distance"))


def chaos(source: Source, measure: str, t0: Time, t1: Time) -> Estimate:
    """A measure of the comparison at (t0, t1)."""
    table = forks(source)
    return _seed_means(_at(_at(table, "t0", t0), "t1", t1), measure)


def late_barrier(source: Source, after: int) -> Estimate:
    """The test loss barrier of the last forks at the last comparison, in nats.

    They must have been followed at least as long as the first forks took to show a barrier.
    """
    table = forks(source)
    late_ends(source, after)
    first, last = table["t0"].min(), table["t0"].max()
    means = table[table["t0"] == first].groupby("t1")["test_barrier"].mean()
    parted = means.index[means > source.threshold]
    followed = table["t1"].max() - last
    if len(parted) and followed < parted[0] - first:
        raise CannotSay("the last forks were followed for less time than the first took to part")
    return chaos(source, "test_barrier", "last", "last")


def fall(source: Source, measure: str, after: int) -> Estimate:
    """A measure of the last forks over that of the first, at the last comparison."""
    means = wide(late_ends(source, after), "t0", measure)
    first, last = means.iloc[:, 0], means.iloc[:, -1]
    if not ((first > 0) & (last > 0)).all():
        raise CannotSay(f"a fork has {measure} 0")
    return transformed(over_seeds(np.log(last / first)), np.exp)


def late_growth(source: Source, after: int) -> Estimate:
    """Distance of base run and last forks at the last comparison, over the perturbation's size."""
    late = _at(late_ends(source, after), "t0", "last")
    late = late.assign(growth=np.log(late["l2"] / late["perturbation_l2"]))
    return transformed(_seed_means(late, "growth"), np.exp)


def peak(source: Source, measure: str, t0: Time) -> Estimate:
    """The largest value of a measure over t1."""
    return over_seeds(_over_t1(source, measure, t0).max(axis=1))


def peak_time(source: Source, measure: str, t0: Time) -> Estimate:
    """The t1 of the largest value."""
    means = _over_t1(source, measure, t0)
    return over_seeds(means.idxmax(axis=1), _coarseness(means.columns))


def chaos_transition(source: Source) -> Estimate:
    """The t0 at which the share of runs with a barrier crosses a half."""
    return transition.share_transition(barriers_over_t0(source), scale(source))


def disagreements(source: Source) -> pd.DataFrame:
    """Disagreement over t0, as `value`."""
    return over_t0(source).rename(columns={"disagreement": "value"})


def disagreement_transition(source: Source) -> Estimate:
    """The t0 at which disagreement has fallen halfway."""
    return transition.fall_transition(disagreements(source), scale(source))


def neighbours(source: Source) -> pd.DataFrame:
    """S(t, t + dt) of neighbouring kernels: `seed`, `t`, `distance`."""
    table = kernel_table(source)
    gap = table["u"] - table["t"]
    return table[gap == gap[gap > 0].min()]


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


def kernel_change_number(source: Source) -> Estimate:
    """How many change points S(t, t + dt) has: 0, 1 or 2."""
    return kernel_changes(source).number


def kernel_slowing(source: Source) -> Estimate:
    """S(t, t + dt) in the first quarter of training over that in its second half."""
    near = neighbours(source)
    end = near["t"].max()
    early = near[near["t"] <= end / 4].groupby("seed")["distance"].mean()
    late = near[near["t"] >= end / 2].groupby("seed")["distance"].mean()
    if near["t"].nunique() < 8:
        raise CannotSay("has fewer than 8 kernels")
    return transformed(over_seeds(np.log(early / late)), np.exp)


def kernel_distance(source: Source, t: Time, u: Time) -> Estimate:
    """S between the kernels at t and u."""
    table = kernel_table(source)
    return _seed_means(_at(_at(table, "t", t), "u", u), "distance")


def kernel_floor(source: Source, dt: int) -> Estimate:
    """S(t, t + dt), mean over the second half of training."""
    table = kernel_table(source)
    late = table[(table["u"] - table["t"] == dt) & (table["t"] >= table["t"].max() / 2)]
    if late.empty:
        raise CannotSay(f"has no kernels {dt} iterations apart")
    return _seed_means(late, "distance")


def cone_starts(source: Source) -> pd.Series:
    """For each seed, from when on its kernel may be confined: its transition, or a quarter of
    training if it has none.
    """
    table = kernel_table(source)
    quarter = pd.Series(table["t"].max() / 4, index=table["seed"].unique())
    try:
        changes = kernel_changes(source)
    except CannotSay:
        return quarter
    return changes.falls if changes.number.value else quarter


def cone_radius(source: Source) -> Estimate:
    """The cone's radius over that of a random walk with the same steps."""
    return confinement.radius_ratio(kernel_table(source), cone_starts(source))


def cone_exponent(source: Source) -> Estimate:
    """The exponent of S(t, t + dt) in dt, within the cone."""
    return confinement.exponent(kernel_table(source), cone_starts(source))


def block_boundary(source: Source) -> Estimate:
    """The time that cuts the table of kernel distances into its two blocks."""
    table = kernel_table(source)
    cuts = [changepoint.block_boundary(run) for _, run in table.groupby("seed")]
    return over_seeds(cuts, _coarseness(table["t"].unique()))


def same_time(source: Source) -> Estimate:
    """The time of the chaos transition over that of the kernel, seed by seed."""
    changes = kernel_changes(source)
    if changes.number.value == 0:
        raise CannotSay("the kernel has no change point")
    both = scale(source)
    coarse = changepoint.step_width(changes, both)
    return coincidence.share_coincidence(barriers_over_t0(source), changes.falls, both, coarse)


def linearized(source: Source, switch: Time) -> Estimate:
    """Test accuracy at the end of training that is linearised from the switch on."""
    return _seed_means(_at(source.table("linearized"), "switch", switch), "test_accuracy")


def end_accuracy(source: Source) -> Estimate:
    """Test accuracy at the end of normal training."""
    return _seed_means(_at(source.table("training"), "t", "last"), "test_accuracy")


def linearized_rise(source: Source) -> Estimate:
    """The same for the last switch, less that for the first."""
    means = wide(source.table("linearized"), "switch", "test_accuracy")
    if means.shape[1] < 2:
        raise CannotSay("has fewer than 2 switches")
    return over_seeds(means.iloc[:, -1] - means.iloc[:, 0])


QUANTITIES: dict[str, Callable[..., Estimate]] = {
    function.__name__: function
    for function in (
        chaos, late_barrier, fall, late_growth, peak, peak_time, kernel_change_number,
        kernel_slowing, kernel_distance, kernel_floor, cone_radius, cone_exponent, block_boundary,
        same_time, linearized, linearized_rise,
    )
}  # fmt: skip


def _at(table: pd.DataFrame, column: str, time: Time) -> pd.DataFrame:
    if time in ("first", "last"):
        time = table[column].min() if time == "first" else table[column].max()
    rows = table[table[column] == time]
    if rows.empty:
        raise CannotSay(f"has nothing at {column} = {time}")
    return rows


def _seed_means(rows: pd.DataFrame, measure: str) -> Estimate:
    return over_seeds(rows.groupby("seed")[measure].mean())


def _over_t1(source: Source, measure: str, t0: Time) -> pd.DataFrame:
    return wide(_at(forks(source), "t0", t0), "t1", measure)


def _coarseness(times: ArrayLike) -> float:
    """Half the smallest distance of times of a grid."""
    return float(np.diff(np.sort(times)).min() / 2)


def _log(values: pd.Series) -> pd.Series:
    if not (values > 0).all():
        raise CannotSay("a value is 0, whose ratio to others says nothing")
    return np.log(values)
