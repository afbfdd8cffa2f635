"""Means over seeds of what is known only within bounds, because a grid is coarse or ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from twophase.estimators.seeds import LEVEL, CannotSay, Estimate, over_seeds

REACH = 12.0  # how far beyond the bounds a mean is looked for, in parts of their span
MEANS, SPREADS = 241, 48
SHIFTS, PLACES = 101, 180  # of `shift`
LEAST = 1e-300


def over_intervals(low: ArrayLike, high: ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean over seeds of values of which only bounds are known: median and central interval of its
    posterior.

    The values are normal over seeds; `low` and `high` (n,) are the bounds of each, equal where it
    is known, infinite where the grid ends. Priors: uniform in the mean and in the logarithm of the
    spread. With all values known this is Student's t, which is then what is computed; all else is
    summed on a grid, so nothing is random. Three things go beyond the posterior, since a flat prior
    is no knowledge: a mean at which all seeds could be equal is never excluded; an end that lies
    beyond all bounds, on a side on which a seed has none, is infinite; and where all seeds lack a
    bound on the same side, the interval ends at the last of the others' if this many seeds can
    show a median (2^-n below the share of errors of that side), and nowhere else.

    Raises `CannotSay` if a seed has no bounds, or none is finite.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    if not _hold(low, high).all():
        raise CannotSay("a seed has no value")
    count, known = len(low), low == high
    if known.all():
        return over_seeds(low, level=level)
    bounds = np.concatenate([low, high])
    bounds = bounds[np.isfinite(bounds)]
    if not len(bounds):
        raise CannotSay("no seed has a bound")
    open_low, open_high = np.isneginf(low), np.isposinf(high)
    if count < 2:
        return Estimate(float((low[0] + high[0]) / 2), np.nan, np.nan, count)
    if open_low.all() or open_high.all():
        return _one_sided(low, high, level)
    value, start, stop = _posterior(low, high, known, bounds, level)
    if low.max() < high.min():
        start, stop = min(start, low.max()), max(stop, high.min())
    if open_low.any() and start < bounds.min():
        start = -np.inf
    if open_high.any() and stop > bounds.max():
        stop = np.inf
    return Estimate(float(value), float(start), float(stop), count)


def _hold(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which bounds hold a finite number: they are in this order, and not one infinity."""
    return (low <= high) & (low < np.inf) & (high > -np.inf)


def _one_sided(low: np.ndarray, high: np.ndarray, level: float) -> Estimate:
    """All seeds lack a bound on one side: what their median says."""
    count = len(low)
    enough = 0.5**count <= (1 - level) / 2
    if np.isneginf(low).all() and np.isposinf(high).all():
        raise CannotSay("no seed has a bound")
    if np.isneginf(low).all():
        return Estimate(-np.inf, -np.inf, float(high.max()) if enough else np.inf, count)
    return Estimate(np.inf, float(low.min()) if enough else -np.inf, np.inf, count)


def _posterior(
    low: np.ndarray, high: np.ndarray, known: np.ndarray, bounds: np.ndarray, level: float
) -> tuple[float, float, float]:
    """Median and central interval of the mean."""
    widths = (high - low)[np.isfinite(high - low) & ~known]
    span = max(np.ptp(bounds), 1e-12)
    smallest = 0.05 * np.median(widths) if len(widths) and not known.any() else span / 200
    # Means lie close together within the bounds, and further apart beyond them.
    way = np.linspace(-1, 1, MEANS)
    means = (bounds.max() + bounds.min()) / 2 + REACH * span * np.sinh(5 * way) / np.sinh(5)
    spreads = np.geomspace(smallest, REACH * span, SPREADS)
    place = means[:, None, None]
    chance = _between(low[~known], high[~known], place, spreads[None, :, None])
    log = np.log(np.maximum(chance, LEAST)).sum(2)
    z = (low[known] - place) / spreads[None, :, None]
    log += (-0.5 * z**2).sum(2) - known.sum() * np.log(spreads)
    density = np.exp(log - log.max()).sum(1)
    weight = density * np.gradient(means)
    cumulative = (np.cumsum(weight) - weight / 2) / weight.sum()
    value, start, stop = np.interp([0.5, (1 - level) / 2, (1 + level) / 2], cumulative, means)
    return value, start, stop


def _between(low: np.ndarray, high: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Probability of a normal between two bounds, in the tail where it is not lost to rounding."""
    a, b = (low - mean) / spread, (high - mean) / spread
    above = a > -b
    return ndtr(np.where(above, -a, b)) - ndtr(np.where(above, -b, a))


def shift(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean over seeds of a value's change, where both the value before and that after are known
    only within bounds.

    `first` and `second` (n, 2) are the bounds of each seed's two values, infinite where the grid
    ends. The model: first values are normal over seeds, and so are the changes, independently. That
    seeds lie at different places of their cells is what lets a coarse grid show a small change: a
    change of a fifth of a cell takes one seed in five to the next. Priors: uniform in both means
    and in the logarithms of both spreads, from a quarter of a cell (first) or a twentieth (change)
    to the span of all bounds. Median and central interval of the posterior, summed on a grid; an
    end is infinite where the posterior does not end within the span.

    Raises `CannotSay` if a seed has no bounds, or fewer than two seeds have a finite one.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if not (_hold(*first.T).all() and _hold(*second.T).all()):
        raise CannotSay("a seed has no value")
    both = np.concatenate([first, second])
    bounds = both[np.isfinite(both)]
    if len(first) < 2 or np.isfinite(both).any(1).sum() < 2:
        raise CannotSay("fewer than two seeds have a bound")
    widths = np.ptp(both[np.isfinite(both).all(1)], axis=1)
    cell = np.median(widths) if len(widths) else np.ptp(bounds)
    span = max(np.ptp(bounds), cell, 1e-12)
    places = np.linspace(bounds.min() - span, bounds.max() + span, PLACES)
    means = np.linspace(places[0], places[-1], 46)
    spreads = np.geomspace(max(cell, span / 50) / 4, span, 6)
    prior = np.exp(-0.5 * ((places - means[:, None, None]) / spreads[None, :, None]) ** 2)
    prior = (prior / prior.sum(2, keepdims=True)).reshape(-1, PLACES)
    shifts = 1.5 * span * np.sinh(4 * np.linspace(-1, 1, SHIFTS)) / np.sinh(4)  # dense at none
    changes = np.geomspace(max(cell, span / 50) / 20, span, 6)
    after = places[:, None, None] + shifts[:, None]  # (places, shifts, 1)
    log = np.zeros((len(prior), SHIFTS * len(changes)))
    pairs, times = np.unique(np.hstack([first, second]), axis=0, return_counts=True)
    for (a, b, c, d), number in zip(pairs, times, strict=True):
        inside = (places >= a) & (places <= b)
        if a == b:
            inside = np.arange(PLACES) == np.abs(places - a).argmin()
        chance = _between(np.float64(c), np.float64(d), after[inside], changes)
        found = prior[:, inside] @ chance.reshape(inside.sum(), -1)
        log += number * np.log(np.maximum(found, LEAST))
    density = np.exp(log - log.max()).sum(0).reshape(SHIFTS, -1).sum(1)
    weight = density * np.gradient(shifts)
    cumulative = (np.cumsum(weight) - weight / 2) / weight.sum()
    value, start, stop = np.interp([0.5, (1 - level) / 2, (1 + level) / 2], cumulative, shifts)
    open_ = density[[0, -1]] > 1e-3 * density.max()
    start, stop = -np.inf if open_[0] else start, np.inf if open_[1] else stop
    return Estimate(float(value), float(start), float(stop), len(first))
