"""Whether kernels stay within a cone: from the table of distances between all pairs.

The null of all of it is a random walk with the same distances between neighbours. Windows of equal
length hold kernels of equal number and distance.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from twophase.estimators.seeds import LEVEL, CannotSay, Estimate, over_seeds, transformed

FEWEST = 5  # kernels of a window


def matrix(distances: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Times (n,) and distances (n, n) of a run's table with `t`, `u`, `distance`.

    Raises `CannotSay` if a pair is not there once, or its distance is no number.
    """
    t, u, d = distances.sort_values(["t", "u"])[["t", "u", "distance"]].to_numpy(float).T
    times = np.unique(t)
    count = len(times)
    if not (np.array_equal(t, times.repeat(count)) and np.array_equal(u, np.tile(times, count))):
        raise CannotSay("has a pair of kernels twice, or lacks one")
    if not np.isfinite(d).all():
        raise CannotSay("a distance of kernels is no number")
    return times, d.reshape(count, count)


def widest(times: np.ndarray) -> float:
    """The widest distance of neighbours. Raises `CannotSay` if there are fewer than 2 kernels."""
    if len(times) < 2:
        raise CannotSay("has fewer than 2 kernels")
    return float(np.diff(times).max())


def spread(cosines: np.ndarray) -> float:
    """Root mean square distance of the directions, as (-log cosine) ** 0.5, over all pairs;
    `cosines` (n, n) are those between them.

    For small angles that is the angle over the root of 2. In a walk of many dimensions -log cosine
    grows by the same at each step, however far it has come, where angles end at 90 degrees. So over
    a `walk`'s it is (3 / (n + 1)) ** 0.5 for directions that scatter about one, and 1 for a walk,
    whatever the size of their steps; the largest angle over a walk's is neither.
    """
    pairs = cosines[np.triu_indices(len(cosines), 1)]
    return float(-np.log(pairs.clip(1e-12, 1)).mean()) ** 0.5


def walk(cosines: np.ndarray) -> np.ndarray:
    """Cosines of a random walk with the same angles between neighbours, each step at right angles
    to all before: products of the cosines between neighbours.
    """
    way = np.log(np.diagonal(cosines, 1).clip(1e-300)).cumsum()
    way = np.concatenate([[0.0], way])
    return np.exp(-np.abs(way[:, None] - way[None, :]))


def growth(d: np.ndarray) -> float:
    """The exponent of S(t, t + dt) in dt: for each kernel the slope of log S over log dt, for dt of
    one place to half of the kernels; the mean over all that have so many after them. 0 if kernels
    scatter about one direction, 2 if they move straight on. A walk lies between; where depends on
    its steps, because S ends at 1.

    `d` (n, n) are distances at equally spaced times. Each slope is what stage `cone` writes as
    `growth_exponent` where it reaches as far.
    """
    reach = len(d) // 2
    dt = np.log(np.arange(1, reach + 1))
    dt -= dt.mean()
    starts = range(len(d) - reach)
    ahead = np.array([np.log(np.maximum(d[i, i + 1 : i + 1 + reach], 1e-12)) for i in starts])
    return float((ahead @ dt / (dt @ dt)).mean())


def window(times: np.ndarray, start: float, stop: float, step: float) -> np.ndarray:
    """Indices of the kernels at `start`, `start + step`, ... up to `stop`.

    Raises `CannotSay` if one of them is missing, or they are fewer than 5.
    """
    wanted = np.arange(start, stop + step / 2, step)
    found = np.flatnonzero(np.isin(times, wanted))
    if len(wanted) < FEWEST or len(found) < len(wanted):
        raise CannotSay(f"has fewer than {FEWEST} kernels as far apart as the widest of neighbours")
    return found


def radius_ratios(distances: pd.DataFrame, late: bool) -> pd.Series:
    """Logarithm of the cone's `spread` over that of a random walk, for each seed, in the last
    quarter of training or the first: below 0, kernels stay closer together than a walk of the same
    steps.

    `distances` has `seed`, `t`, `u`, `distance`. Both windows are of one length, and their kernels
    as far apart as the widest of neighbours.

    Raises `CannotSay` if a kernel is the same in a whole window: then there is no cone.
    """
    logs = {}
    for seed, run in distances.groupby("seed"):
        times, d = matrix(run)
        step = widest(times)
        length = step * np.floor((times[-1] - times[0]) / 4 / step)
        start = times[-1] - length if late else times[0]
        found = window(times, start, start + length, step)
        cosines = 1 - d[np.ix_(found, found)]
        own, walked = spread(cosines), spread(walk(cosines))
        if not (own > 0 and walked > 0):
            raise CannotSay("the kernel does not turn")
        logs[seed] = np.log(own / walked)
    return pd.Series(logs)


def exponent_excess(distances: pd.DataFrame) -> pd.Series:
    """The `growth` exponent of kernels in the second half of training less that of the walk with
    the same steps, for each seed: below 0, S grows less with dt than a walk's.
    """
    found = {}
    for seed, run in distances.groupby("seed"):
        times, d = matrix(run)
        step = widest(times)
        length = step * np.floor((times[-1] - times[0]) / 2 / step)
        kept = window(times, times[-1] - length, times[-1], step)
        d = d[np.ix_(kept, kept)]
        found[seed] = growth(d) - growth(1 - walk(1 - d))
    return pd.Series(found)


def ratio(logs: ArrayLike, level: float = LEVEL) -> Estimate:
    """A ratio over seeds, from its logarithm in each."""
    return transformed(over_seeds(logs, level=level), np.exp)
