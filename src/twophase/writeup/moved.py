"""Quantities of several conditions, which are the same seeds under several settings: whether what
moves the end of chaos moves the kernel's time.

Nothing is skipped: a seed that one of the conditions that are compared lacks, or that has no number
there, such as a fork that ended with a loss that is none, leaves the quantity without a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from twophase.estimators import followed, phases
from twophase.estimators.censored import over_intervals, shift
from twophase.estimators.seeds import LEVEL, CannotSay, Estimate, over_seeds
from twophase.estimators.seeds import transformed as on
from twophase.writeup.sources import Source
from twophase.writeup.transitions import (
    chaos_times,
    depths,
    horizon_bounds,
    kernel_times,
)

Reading = Literal["entry", "speed"]
Conditions = Mapping[str, Source]


def covariation(conditions: Conditions, reading: Reading, level: float = LEVEL) -> Estimate:
    """Whether what moves the end of chaos moves the kernel's time by the same factor: the slope of
    log kernel time over log chaos time, over conditions: 1 if both move alike, 0 if the kernel's
    time stays.

    `conditions` are the same seeds under several settings. Chaos times are means over seeds, so
    that one seed's coarse time flattens no slope; each seed has its slope, and the interval is over
    seeds, which are the independent draws. A time of which only bounds are known, both of them,
    stands at their middle.

    Raises `CannotSay` with fewer than 3 conditions, if one leaves a time without a bound, if seeds
    differ, or if chaos times differ by less than a factor of 1.5.
    """
    if len(conditions) < 3:
        raise CannotSay("has fewer than 3 conditions")
    kernels, chaos = _both_times(conditions, reading)
    x = np.log([phases.mean_time(own).value for own in chaos])
    y = np.stack([phases.logs(own).mean(axis=1) for own in kernels], axis=1)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise CannotSay("a time has no bound")
    if np.ptp(x) < np.log(1.5):
        raise CannotSay("chaos times of the conditions differ by less than a factor of 1.5")
    x -= x.mean()
    return over_seeds(y @ x / (x @ x), level=level)


def chaos_times_ratio(conditions: Conditions, level: float = LEVEL) -> Estimate:
    """The chaos time of the last condition over that of the first.

    Raises `CannotSay` if seeds of these two differ, or fewer than two have a bound.
    """
    first, *_, last = conditions.values()
    one, other = _same_seeds([chaos_times(source) for source in (first, last)])
    return on(shift(phases.logs(one), phases.logs(other), level=level), np.exp)


def kernel_follows(conditions: Conditions, reading: Reading, level: float = LEVEL) -> Estimate:
    """Whether the kernel's time follows the end of chaos over conditions that stand in the order of
    a dose: by how much the logarithm of the first rises from one to the next, over the second's. 1
    if both move by the same factor, 0 if the kernel's time stays.

    Unlike `covariation` it asks nothing of the distances between conditions, and errors of chaos
    times flatten it by nothing (`twophase.estimators.followed.slope`).

    Raises `CannotSay` if a kernel does not settle, no fork of a condition ends behind a barrier,
    seeds differ, or the conditions do not move the end of chaos.
    """
    for source in conditions.values():
        phases.falls(depths(source, reading))
    both = _both_times(conditions, reading)
    return followed.slope(*(followed.contrast(*_logs(each)) for each in both), level)


def first_horizon_exponent(
    conditions: Conditions, reading: Reading, level: float = LEVEL
) -> Estimate:
    """d log kernel time / d log horizon, from half the horizon to all of it, in the first
    condition: 0 for a time of the run's own. One that only says where we stopped looking follows
    nothing, whatever moves. Later conditions do not count: half the horizon may be too short for a
    time that they have moved.
    """
    source = next(iter(conditions.values()))
    phases.falls(depths(source, reading))
    return over_intervals(*horizon_bounds(source, reading), level)


def _both_times(conditions: Conditions, reading: Reading) -> tuple[list[pd.DataFrame], ...]:
    """The kernel's and chaos' times of each condition. Raises `CannotSay` if seeds differ."""
    each = [chaos_times(source) for source in conditions.values()]
    each += [kernel_times(source, reading) for source in conditions.values()]
    each = _same_seeds(each)
    return each[len(conditions) :], each[: len(conditions)]


def _same_seeds(each: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Tables with a row for each seed, in the same order. Raises `CannotSay` if seeds differ."""
    each = [own.sort_index() for own in each]
    if not all(own.index.equals(each[0].index) for own in each):
        raise CannotSay("seeds differ: a condition lacks one, or one of its two times does")
    return each


def _logs(each: list[pd.DataFrame]) -> list[np.ndarray]:
    """Logarithms of the bounds of times of the same seeds, low and high: (seeds, conditions)."""
    table = np.stack([phases.logs(own)[["low", "high"]].to_numpy() for own in each], axis=1)
    if np.isnan(table).any():
        raise CannotSay("a seed has no value")
    return [table[..., end] for end in (0, 1)]
