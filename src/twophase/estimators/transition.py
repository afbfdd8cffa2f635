"""The time at which what forks do changes: a share of runs that crosses a half, a curve's fall."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from twophase.estimators.seeds import (
    LEVEL,
    CannotSay,
    Estimate,
    Scale,
    over_seeds,
    transformed,
    wide,
)

# The grid of the fit, in parts of the span of the times.
MARGIN = 0.5
PLACES, SPREADS, SLOPES = 121, 8, 5


def share_transition(runs: pd.DataFrame, scale: Scale) -> Estimate:
    """The perturbation time at which the share of runs with a barrier crosses a half.

    `runs` has a row for each fork: `seed`, `t0`, and `above`, whether it ended behind a barrier.
    See `crossing`; an end of the interval is infinite where it lies outside of the grid of t0.
    """
    x = scale.x(runs["t0"])
    estimate = crossing(runs["seed"].to_numpy(), x, runs["above"].to_numpy(), x.min(), x.max())
    return transformed(estimate, scale.times)


def crossing(
    seeds: np.ndarray, x: np.ndarray, above: np.ndarray, first: float, last: float
) -> Estimate:
    """Where a falling share crosses a half: median and interval of the posterior.

    The model: seed s has its own place m_s ~ N(m, spread²); each of its runs at x (n,) is above
    with probability 1 / (1 + exp((x - m_s) / slope)). The share over seeds is a half at m. Priors:
    m uniform, half a span beyond both ends of [first, last]; spread and slope uniform in their
    logarithm, from a 50th of the span to the span and from a 100th to a half. All is summed on a
    grid, so nothing is random. An end outside of [first, last] is infinite; other ends are moved
    out to the next x of a run, because between two of them the data say nothing.
    """
    span = last - first
    if not span > 0:
        raise CannotSay("there is but one perturbation time")
    prior, places = _prior()
    slopes = np.geomspace(0.01, 0.5, SLOPES)
    # Log probabilities of each x (x, places * slopes); of all runs of a seed, from its counts.
    points, at = np.unique((x - first) / span, return_inverse=True)
    z = ((places[:, None] - points[:, None, None]) / slopes).reshape(len(points), -1)
    codes, names = pd.factorize(seeds)
    yes, no = np.zeros((2, len(names), len(points)))
    np.add.at(yes, (codes, at), above)
    np.add.at(no, (codes, at), ~np.asarray(above, bool))
    log_seed = -(yes @ np.logaddexp(0, -z) + no @ np.logaddexp(0, z))
    # Over the seeds' own places: (m and spread, slopes) for each; then the product over seeds.
    each = np.exp(log_seed).reshape(len(names), PLACES, SLOPES)
    each = prior @ each
    log_all = np.log(np.maximum(each, 1e-300)).sum(0)
    weight = np.exp(log_all - log_all.max()).sum(1).reshape(PLACES, SPREADS).sum(1)
    cumulative = (np.cumsum(weight) - weight / 2) / weight.sum()
    ends = np.interp([0.5, (1 - LEVEL) / 2, (1 + LEVEL) / 2], cumulative, places)
    middle, low, high = np.where(ends < 0, -np.inf, np.where(ends > 1, np.inf, first + span * ends))
    points = first + span * points
    low = points[points <= low + 1e-9].max(initial=-np.inf)
    high = points[points >= high - 1e-9].min(initial=np.inf)
    return Estimate(float(middle), float(low), float(high), len(names))


@lru_cache
def _prior() -> tuple[np.ndarray, np.ndarray]:
    """Probability of a seed's place, given m and spread (places * spreads, places); the places."""
    places = np.linspace(-MARGIN, 1 + MARGIN, PLACES)
    spreads = np.geomspace(0.02, 1, SPREADS)
    z = (places[None, None] - places[:, None, None]) / spreads[None, :, None]
    density = np.exp(-0.5 * z**2)
    density /= density.sum(2, keepdims=True)
    return density.reshape(PLACES * SPREADS, PLACES), places


def half_falls(curves: pd.DataFrame, scale: Scale) -> pd.Series:
    """For each seed the place x at which its curve has fallen halfway from its first value to its
    last; not a number if it ends no lower than it began.

    `curves` has `seed`, `t0` and `value`; runs of one seed and t0 are averaged, and what rises in
    between is smoothed by isotonic regression.
    """
    means = wide(curves, "t0")
    x = scale.x(means.columns)
    return means.apply(lambda row: _half_fall(x, row.to_numpy()), axis=1)


def fall_transition(curves: pd.DataFrame, scale: Scale) -> Estimate:
    """The perturbation time of the half fall, over seeds; `half_falls` says of what. Wider by what
    the grid of t0 leaves open.

    Raises `CannotSay` if the fall from first to last is not there in the mean over seeds.
    """
    means = wide(curves, "t0")
    fall = over_seeds(means.iloc[:, 0] - means.iloc[:, -1])
    if not fall.low > 0:
        raise CannotSay("the curve does not fall in all seeds alike")
    falls = half_falls(curves, scale)
    return transformed(over_seeds(falls, gap(curves, falls, scale)), scale.times)


def gap(curves: pd.DataFrame, falls: pd.Series, scale: Scale) -> float:
    """How far half falls may be off because the grid is coarse: the widest gap that holds one."""
    x = scale.x(np.unique(curves["t0"]))
    after = np.searchsorted(x, falls.dropna()).clip(1)
    return float(np.diff(x)[after - 1].max(initial=0))


def _half_fall(x: np.ndarray, values: np.ndarray) -> float:
    smooth = isotonic_regression(values, increasing=False).x
    half = (smooth[0] + smooth[-1]) / 2
    if not smooth[0] > smooth[-1]:
        return np.nan
    before = int(np.flatnonzero(smooth >= half)[-1])
    part = (smooth[before] - half) / (smooth[before] - smooth[before + 1])
    return float(x[before] + part * (x[before + 1] - x[before]))
