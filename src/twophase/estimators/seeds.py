"""What all estimators share: an estimate over seeds, and the scale on which times are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95  # of intervals, unless another is asked for


class Estimate(NamedTuple):
    """A number with its interval (of level `LEVEL` or that asked for), and the number of seeds
    behind it.

    An end of an interval is infinite where the data only say that it lies outside of what was
    measured, and not a number where there are too few seeds to give one. The number is none where
    only its interval is known.
    """

    value: float
    low: float
    high: float
    seeds: int


class CannotSay(Exception):
    """There is nothing to estimate; the message says why."""


def wide(table: pd.DataFrame, column: str, value: str = "value") -> pd.DataFrame:
    """A row for each seed and a column for each time in `column`: the mean of `value` there, not a
    number where there is none. (Like pandas' `pivot_table`, thirty times faster on small tables.)
    """
    seeds, row = np.unique(table["seed"], return_inverse=True)
    times, place = np.unique(table[column], return_inverse=True)
    cell, cells = row * len(times) + place, len(seeds) * len(times)
    sums = np.bincount(cell, table[value], cells)
    with np.errstate(invalid="ignore"):
        means = sums / np.bincount(cell, minlength=cells)
    return pd.DataFrame(means.reshape(len(seeds), len(times)), seeds, times)


def over_seeds(values: ArrayLike, resolution: float = 0.0, level: float = LEVEL) -> Estimate:
    """Mean of one value for each seed, with Student's t interval.

    For few seeds it is wide, and holds the mean as often as it says if the values are normal. It
    is wider by `resolution` at both ends: how far a value may be off because its grid is coarse,
    which seeds that agree cannot show.

    Raises `CannotSay` if there is no seed, or one has no finite value.
    """
    values = np.asarray(values, float)
    count = len(values)
    if not count:
        raise CannotSay("has no seed")
    if not np.isfinite(values).all():
        raise CannotSay("a seed has no value")
    if count < 2:
        return Estimate(float(values.mean()), np.nan, np.nan, count)
    half = stats.t.ppf(0.5 + level / 2, count - 1) * values.std(ddof=1) / count**0.5 + resolution
    mean, half = float(values.mean()), float(half)
    return Estimate(mean, mean - half, mean + half, count)


def exact_share(shares: ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean share of runs over seeds, with the exact interval of a binomial (Clopper and Pearson
    1934).

    `shares` (n,) are of each seed's runs. Seeds are the independent draws. So for the upper end a
    seed counts if any of its runs does, and for the lower if all do: with one run a seed the
    interval is exact, with more it is wider.

    Raises `CannotSay` if there is no seed, or one has no share.
    """
    shares = np.asarray(shares, float)
    count = len(shares)
    if not count:
        raise CannotSay("has no seed")
    if not np.isfinite(shares).all():
        raise CannotSay("a seed has no value")
    every, some = int((shares >= 1).sum()), int((shares > 0).sum())
    rest = (1 - level) / 2
    low = stats.beta.ppf(rest, every, count - every + 1) if every else 0.0
    high = stats.beta.ppf(1 - rest, some + 1, count - some) if some < count else 1.0
    return Estimate(float(shares.mean()), float(low), float(high), count)


def holm(values: ArrayLike) -> np.ndarray:
    """P-values (n,) corrected for their number (Holm 1979): if those below a are called, the chance
    of any false one is at most a, however they depend on each other.
    """
    values = np.asarray(values, float)
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(raised, 1)
    return corrected


def least_error(decided: Callable[[float], bool], steps: int = 20) -> float:
    """The smallest 1 - level at which an interval still decides: a p-value for `holm`.

    `decided` says of a level whether it does; wider intervals decide no more. 1 if none does.
    """
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if decided(1 - middle) else (middle, high)
    return high


def expected_false(levels: ArrayLike) -> float:
    """How many of the verdicts that come from intervals of these levels are false at most, in the
    mean, if they are all that can be: the sum of their errors. They need not be independent.
    """
    return float((1 - np.asarray(levels, float)).sum())


def wilson(share: float, seeds: int) -> tuple[float, float]:
    """95 % interval of a share over seeds (Wilson 1927).

    Runs of one seed are no independent draws: the seeds are, each with the share of its runs.
    """
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    middle = (share + z**2 / (2 * seeds)) / (1 + z**2 / seeds)
    half = z / (1 + z**2 / seeds) * (share * (1 - share) / seeds + z**2 / (4 * seeds**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def transformed(estimate: Estimate, function: object) -> Estimate:
    """The estimate on another scale; `function` rises."""
    return Estimate(*(float(function(number)) for number in estimate[:3]), estimate.seeds)


class Scale:
    """Times compared by their ratio: x = log(1 + t / unit), which has a place for t = 0.

    The unit is the smallest positive time of a grid.
    """

    def __init__(self, times: ArrayLike) -> None:
        times = np.asarray(times, float)
        self.unit = float(times[times > 0].min())

    def x(self, times: ArrayLike) -> np.ndarray:
        """Places of times."""
        return np.log1p(np.asarray(times, float) / self.unit)

    def times(self, x: ArrayLike) -> np.ndarray:
        """Times of places, none before 0; infinite places stay what they are."""
        with np.errstate(over="ignore"):
            return np.where(np.isneginf(x), -np.inf, self.unit * np.expm1(np.maximum(x, 0)))
