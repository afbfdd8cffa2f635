"""Change points of a measure along training: how many, and when."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from twophase.estimators.confinement import matrix
from twophase.estimators.seeds import CannotSay, Estimate, Scale, over_seeds, transformed, wide

SHORTEST = 2  # points between two changes
# Differences in BIC above this are very strong evidence (Kass and Raftery 1995, section 3.2).
STRONG = 10.0
# Explanations of a series: the parameters that each needs beside the variance. A time counts twice,
# because all times were tried (as in Zhang and Siegmund 2007, where it costs 3/2 or more); the fit
# depends smoothly on the time constant of a decay, which counts once, as in any BIC.
MODELS = {"level": 1, "drift": 2, "decay": 3, "smooth": 4, "one": 4, "two": 7}
# The number of change points of each, from and to: a decay to a level is smooth, and yet its end
# may be called one.
CHANGES = {
    "level": (0, 0), "drift": (0, 0), "decay": (0, 1), "smooth": (1, 1), "one": (1, 1),
    "two": (2, 2),
}  # fmt: skip
RATES = 40  # time constants of a decay that are tried, and times of a smooth step
WIDTHS = (0.1, 0.2, 0.4)  # of a smooth step, in log t: a tenth to nine tenths in 4.4 of them


class Changes(NamedTuple):
    """The number of change points of a measure, as estimate; how each explanation fares; and when
    the largest fall is in each seed: the times of the first point after it, and of the last before.
    """

    number: Estimate
    bic: dict[str, float]
    falls: pd.Series
    before: pd.Series


def change_points(series: pd.DataFrame) -> Changes:
    """How many times the level of a measure changes along training: 0, 1 or 2.

    `series` has `seed`, `t`, `value`; take logarithms first where ratios count. Six explanations
    compete: one level; a drift, linear in log t, which is a power law for a logarithm and has no
    time of its own; a decay, exponential in t towards a level, which is smooth but has an end, and
    so counts as 0 to 1; a smooth step, logistic in log t; one step; two steps. Each seed has its
    own levels, times and variance. The criterion is BIC, summed over seeds, so that a change that
    does not replicate has to pay in each of them. The number is that of the best; its interval
    holds those of all explanations within 10 of it.

    Raises `CannotSay` if no explanation is better than one level, there are fewer than 8 points, or
    a seed lacks one.
    """
    means = wide(series, "t")
    times, y = means.columns.to_numpy(float), means.to_numpy()
    if y.shape[1] < 8:
        raise CannotSay("there are fewer than 8 points along training")
    if not np.isfinite(y).all():
        raise CannotSay("a seed has no value at one of the points")
    one, one_places = _best_step(y)
    two, two_places = _best_steps(y)
    residuals = {"level": _within(y), "drift": _drift(y, Scale(times).x(times))}
    residuals |= {"decay": _decay(y, times), "smooth": _smooth(y, Scale(times).x(times))}
    residuals |= {"one": one, "two": two}
    n = y.shape[1]
    floor = 1e-12 * np.maximum(_within(y), 1e-300)
    bic = {
        name: float((n * np.log(np.maximum(rss, floor) / n) + (1 + MODELS[name]) * np.log(n)).sum())
        for name, rss in residuals.items()
    }
    if min(bic, key=bic.get) == "level":
        raise CannotSay("nothing changes but for noise")
    best = min(bic, key=bic.get)
    near = [CHANGES[name] for name in bic if bic[name] - bic[best] < STRONG]
    least, most = min(near)[0], max(most for _, most in near)
    number = Estimate(float(CHANGES[best][0]), float(least), float(most), len(y))
    places = two_places if best == "two" else one_places
    where = [_largest_fall(row, own) for row, own in zip(y, places, strict=True)]
    falls = pd.Series([times[i] if i else np.nan for i in where], index=means.index)
    before = pd.Series([times[i - 1] if i else np.nan for i in where], index=means.index)
    return Changes(number, bic, falls, before)


def fall_time(changes: Changes, scale: Scale) -> Estimate:
    """When the measure falls, over seeds; wider by the distance of points, since a fall that takes
    its time has no sharper place.

    Raises `CannotSay` if it has no change point, or does not fall in one of the seeds.
    """
    if changes.number.value == 0:
        raise CannotSay("there is no change point")
    places = scale.x(changes.falls)
    return transformed(over_seeds(places, step_width(changes, scale)), scale.times)


def step_width(changes: Changes, scale: Scale) -> float:
    """The widest distance of points at the falls, as a difference of places; not a number if there
    are none.
    """
    widths = scale.x(changes.falls) - scale.x(changes.before)
    return float(max(widths[np.isfinite(widths)], default=np.nan))


def block_boundary(distances: pd.DataFrame) -> float:
    """The time that cuts a table of all pairs (`t`, `u`, `distance`) into the two blocks whose
    distances vary least: within the first, within the second, and between them.

    Raises `CannotSay` if there are fewer than 4 kernels.
    """
    times, d = matrix(distances)
    if len(d) < 4:
        raise CannotSay("there are fewer than 4 kernels")
    off = ~np.eye(len(d), dtype=bool)

    def cost(cut: int) -> float:
        first = np.arange(len(d)) < cut
        early, late = first[:, None] & first, ~first[:, None] & ~first
        blocks = [early & off, late & off, ~early & ~late]
        return sum(d[block].var() * block.sum() for block in blocks if block.any())

    return float(times[min(range(2, len(d) - 1), key=cost)])


def _within(y: np.ndarray) -> np.ndarray:
    """Squares around the mean of each row."""
    return ((y - y.mean(1, keepdims=True)) ** 2).sum(1)


def _drift(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Squares around the straight line of each row over x."""
    x = x - x.mean()
    centred = y - y.mean(1, keepdims=True)
    slope = centred @ x / (x @ x)
    return ((centred - slope[:, None] * x) ** 2).sum(1)


def _decay(y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Squares around the best exponential of each row, whose time constant lies between the
    distance of points and the span.
    """
    t = times - times[0]
    constants = np.geomspace(np.diff(t).min(), t[-1], RATES)
    return np.min([_drift(y, np.exp(-t / constant)) for constant in constants], axis=0)


def _smooth(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Squares around the best logistic of each row over x."""
    middles = np.linspace(x[SHORTEST], x[-1 - SHORTEST], RATES)
    shapes = [1 / (1 + np.exp((x - m) / w)) for m in middles for w in WIDTHS]
    return np.min([_drift(y, shape) for shape in shapes], axis=0)


def _segments(y: np.ndarray) -> np.ndarray:
    """Squares around the mean of y[a:b], for all rows, a and b; infinite if it is too short."""
    y = y - y.mean(1, keepdims=True)
    n = y.shape[1]
    sums = np.concatenate([np.zeros((len(y), 1)), y.cumsum(1)], 1)
    squares = np.concatenate([np.zeros((len(y), 1)), (y**2).cumsum(1)], 1)
    a, b = np.indices((n + 1, n + 1))
    length = np.maximum(b - a, 1)
    rss = squares[:, b] - squares[:, a] - (sums[:, b] - sums[:, a]) ** 2 / length
    return np.where(b - a >= SHORTEST, np.maximum(rss, 0), np.inf)


def _best_step(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with one step, and where it is: the first point after it (rows, 1)."""
    segments = _segments(y)
    total = segments[:, 0, :] + segments[:, :, -1]
    place = total.argmin(1)
    return total.min(1), place[:, None]


def _best_steps(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same with two steps (rows, 2)."""
    segments = _segments(y)
    total = segments[:, 0, :, None] + segments + segments[:, :, -1][:, None, :]
    flat = total.reshape(len(y), -1)
    return flat.min(1), np.stack(np.unravel_index(flat.argmin(1), total.shape[1:]), 1)


def _largest_fall(y: np.ndarray, places: np.ndarray) -> int:
    """The step, of those at `places`, at which the level falls most; 0 if none falls."""
    ends = [0, *places, len(y)]
    levels = [y[a:b].mean() for a, b in zip(ends, ends[1:], strict=False)]
    falls = [before - after for before, after in zip(levels, levels[1:], strict=False)]
    return int(places[int(np.argmax(falls))]) if max(falls) > 0 else 0
