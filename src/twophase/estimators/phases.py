"""The times of both transitions of one network, from its tables, at two horizons.

The tables are `chaos`, `kernel_distance` and `training`, of all seeds. Chaos ends at the t0 from
which half the forks end behind a barrier. The kernel is read in two ways: it *enters* its later
cone, and its *speed* falls. See `twophase.estimators.times`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from twophase.estimators import times
from twophase.estimators.censored import over_intervals
from twophase.estimators.seeds import LEVEL, CannotSay, Estimate, over_seeds, transformed

READINGS = {"entry": times.entry_curve, "speed": times.speed_curve}
FEWEST_FORKS = 3  # perturbation times from which a change over them can be seen


class Times(NamedTuple):
    """Between which iterations a time lies: `each` seed's as `low` and `high`, and the mean over
    seeds with its interval; looked at until `horizon` (of forks that are followed: for so long).
    `ends` are the comparisons that say when chaos ends.
    """

    each: pd.DataFrame
    mean: Estimate
    horizon: int
    ends: pd.DataFrame | None = None


def first_phase(
    table: pd.DataFrame, training: pd.DataFrame | None, needs: str = ""
) -> pd.DataFrame:
    """Rows of a table up to the first drop of the learning rate: a drop slows the kernel down and
    ends chaos by itself, and would be taken for the transition. A drop halves it, or more, between
    neighbouring points; a schedule that falls little by little has none until it is near 0.

    Raises `CannotSay` if there are none, and a row, called what the table `needs`, must be there.
    """
    if training is not None:
        rates = training.groupby("t")["lr"].first()
        dropped = rates.index[rates <= rates.shift() / 2]
        if len(dropped):
            own = [column for column in ("t", "u", "t1") if column in table]
            table = table[(table[own] <= dropped[0]).all(axis=1)]
    if needs and table.empty:
        raise CannotSay(f"has no {needs} before the learning rate drops")
    return table


def waits(forks: pd.DataFrame) -> list[int]:
    """For how long all forks were followed alike: every t1 - t0 that each t0 has."""
    each = [set(own["wait"]) for _, own in forks.groupby("t0")]
    return sorted(set.intersection(*each)) if each else []


def last_comparisons(forks: pd.DataFrame) -> pd.DataFrame:
    """The last comparisons. Where forks were followed for the same time each (`chaos.follow`), the
    last time that all have; else those at the last t1.
    """
    alike = waits(forks)
    if forks.groupby("t0")["t1"].max().nunique() > 1 and alike:
        return forks[forks["wait"] == alike[-1]]
    return forks[forks["t1"] == forks["t1"].max()]


def judged(comparisons: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The same rows with `above`: does a barrier part the two? Raises `CannotSay` if that cannot be
    said of all of them.
    """
    if comparisons["t0"].nunique() < 2:
        raise CannotSay("has but one perturbation time")
    if not np.isfinite(comparisons["test_barrier"]).all():
        raise CannotSay("a fork ended with a loss that is no number")
    return comparisons.assign(above=comparisons["test_barrier"] > threshold)


def over_t0(table: pd.DataFrame) -> pd.DataFrame:
    """The same table, if it has perturbation times enough to see a change over them."""
    if table["t0"].nunique() < FEWEST_FORKS:
        raise CannotSay(f"has fewer than {FEWEST_FORKS} perturbation times")
    return table


def barriers_over_t0(table: pd.DataFrame) -> pd.DataFrame:
    """The same, if any run ends behind a barrier: without one there is no time to look for."""
    if not over_t0(table)["above"].any():
        raise CannotSay("no run ends behind a barrier")
    return table


def falls(depth: pd.Series) -> None:
    """Raises `CannotSay` if a reading does not fall in the mean over seeds: then it has no time."""
    fall = over_seeds(depth)
    if fall.seeds > 1 and not fall.low > 0:
        raise CannotSay("the kernel is early no further from where it ends than it is later")


def logs(each: pd.DataFrame) -> pd.DataFrame:
    """Logarithms of times."""
    with np.errstate(divide="ignore"):
        return np.log(each)


def mean_time(each: pd.DataFrame, level: float = LEVEL) -> Estimate:
    """Geometric mean over seeds of times that are known within bounds."""
    own = logs(each)
    return transformed(over_intervals(own["low"], own["high"], level), np.exp)


def half_way(grid: list[int], why: str = "nothing was measured near half of the training") -> int:
    """The point of a grid that is nearest, as a ratio, to half of its last, from a quarter to three
    quarters of it. Raises `CannotSay`, with `why`, if there is none.
    """
    near = [each for each in grid if each > 0 and grid[-1] / 4 <= each <= grid[-1] * 3 / 4]
    if not near:
        raise CannotSay(why)
    return min(near, key=lambda each: abs(np.log(each / grid[-1] * 2)))


def chaos_end(
    chaos: pd.DataFrame,
    training: pd.DataFrame | None,
    threshold: float,
    half: bool = False,
    level: float = LEVEL,
) -> Times:
    """When chaos ends, by the last comparisons; or by those of `half` the time followed, or of half
    of training. `chaos` has the comparisons of one perturbation, without the control.

    Raises `CannotSay` if there is no such time.
    """
    forks = first_phase(chaos.assign(wait=chaos["t1"] - chaos["t0"]), training, "comparison")
    last = last_comparisons(forks)
    followed = last["t1"].nunique() > 1
    by = "wait" if followed else "t1"
    horizon = int(last[by].max())
    if half:
        grid = waits(forks) if followed else sorted(forks["t1"].unique())
        horizon = int(half_way([each for each in grid if each <= horizon]))
        last = forks[forks[by] == horizon]
    last = barriers_over_t0(judged(last, threshold))
    each = times.chaos_times(last)
    return Times(each, mean_time(each, level), horizon, last)


def kernel_time(
    distances: pd.DataFrame,
    training: pd.DataFrame | None,
    reading: str = "entry",
    half: bool = False,
    level: float = LEVEL,
) -> Times:
    """When the kernel has gone half of a reading's way, looked at to the end, or to `half` of it.

    Raises `CannotSay` if there is no such time.
    """
    table, curve = first_phase(distances, training, "kernel"), READINGS[reading]
    grid = sorted(table["t"].unique())
    horizon = half_way(grid) if half else grid[-1]
    falls(times.depths(table[(table[["t", "u"]] <= horizon).all(axis=1)], curve))
    each = times.kernel_times(table, curve, horizon=horizon)
    return Times(each, mean_time(each, level), int(horizon))


def ratio(one: Times, other: Times, level: float = LEVEL) -> Estimate:
    """One time over the other, seed by seed. Raises `CannotSay` if a seed has but one of them."""
    return transformed(over_intervals(*times.log_ratio(one.each, other.each), level), np.exp)


def attempted(estimate: Callable[..., Times], *arguments: object, **options: object) -> Times | str:
    """What an estimate gives, or why it cannot."""
    try:
        return estimate(*arguments, **options)
    except CannotSay as reason:
        return str(reason)
