"""When chaos ends and when the kernel settles, seed by seed, without asking for a step.

A time is an interval (low, high) of iterations: both ends are equal where it was interpolated,
`low` is 0 where the grid only says that it lies before its first positive time, and `high` infinite
where it only says that it comes after the last. All functions return a row for each seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from twophase.estimators.confinement import matrix
from twophase.estimators.seeds import CannotSay

# Batch norm's running statistics, which the kernel is computed with, follow the batches with
# momentum 0.1: after 50 of them 0.5 % of the first ones' is left.
SETTLED = 50.0
EARLY = 100.0  # until when the kernel's speed counts as early, whatever the horizon

Curve = tuple[np.ndarray, np.ndarray, float, float]  # times, values there, early and later level


def chaos_times(runs: pd.DataFrame) -> pd.DataFrame:
    """Until when a perturbation ends behind a barrier, in each seed.

    `runs` has `seed`, `t0` and `above`, whether a fork ended behind a barrier. The share of them at
    each t0 is made to fall (isotonic regression), and its falls say how a time is spread over the
    grid's cells (Spearman 1908, Kärber 1931): the mean of its logarithm, with each cell's part at
    the cell's lower end for `low`, at its upper end for `high`. With one fork for each t0, and none
    out of order, that is the last t0 with a barrier and the first without. A t0 of 0 has no
    logarithm: what falls behind it lies before the first positive t0, and `low` is 0.

    Raises `CannotSay` if there are fewer than two positive t0.
    """
    found = {}
    counts = runs.groupby(["seed", "t0"])["above"].agg(["mean", "size"])
    for seed, own in counts.groupby(level="seed"):
        t0 = own.index.get_level_values("t0").to_numpy(float)
        if (t0 > 0).sum() < 2:
            raise CannotSay("has fewer than 2 perturbation times after 0")
        share, weights = own["mean"].to_numpy(float), own["size"].to_numpy(float)
        fit = isotonic_regression(share, weights=weights, increasing=False).x
        fit = fit[t0 > 0]
        part = -np.diff(np.r_[1.0, fit, 0.0])  # in each cell: before the first, ..., after the last
        with np.errstate(divide="ignore"):
            edges = np.log(np.r_[0.0, t0[t0 > 0], np.inf])
        has = part > 1e-12
        found[seed] = [(part[has] * ends[has]).sum() for ends in (edges[:-1], edges[1:])]
    return _table(found, np.exp)


def entry_curve(times: np.ndarray, cosines: np.ndarray) -> Curve:
    """How the kernel comes into its later directions: times before the later half, the angle
    (radian) to the mean direction there, that of the first, and the later kernels' own.

    `cosines` (n, n) are those between kernels at `times` (n,). Kernels count by the time that they
    stand for (trapezoid rule), and none is compared with itself: with c the mean cosine of two
    different later kernels, the later ones' own angle is arccos(c ** 0.5), and the angle of another
    is arccos(its mean cosine to the later ones / c ** 0.5). So neither depends on how many kernels
    there are, or on where.

    Raises `CannotSay` if either half has fewer than 3 kernels, or the later ones have no direction
    in common.
    """
    late = times >= times[-1] / 2
    if late.sum() < 3 or (~late).sum() < 3:
        raise CannotSay("has fewer than 3 kernels in a half of the training that is looked at")
    weights = stands_for(times[late])
    pairs = np.outer(weights, weights)
    np.fill_diagonal(pairs, 0)
    common = (pairs * cosines[np.ix_(late, late)]).sum() / pairs.sum()
    if not common > 0:
        raise CannotSay("later kernels have no direction in common")
    toward = cosines[np.ix_(~late, late)] @ weights / weights.sum() / common**0.5
    angles = np.arccos(toward.clip(-1, 1))
    return times[~late], angles, float(angles[0]), float(np.arccos(min(common, 1) ** 0.5))


def speed_curve(times: np.ndarray, cosines: np.ndarray, dt: float | None = None) -> Curve:
    """How fast the kernel turns: times from `SETTLED` on, S(t, t + dt) there, and its levels (mean
    logarithm) until `EARLY`, or at the first time, and in the later half.

    `dt` is the same for all t, for S over another interval is another measure: it hardly depends
    on dt where kernels only scatter about a direction. By default it is the widest distance of
    neighbours from `SETTLED` on. Where no kernel stands at t + dt, S is interpolated between the
    nearest two, log S over log of their distance.

    Raises `CannotSay` if there are fewer than 8 such times, or none in the later half.
    """
    used = times >= SETTLED if times[0] < SETTLED <= times[-1] / 4 else times >= times[0]
    times, d = times[used], 1 - cosines[np.ix_(used, used)]
    dt = float(np.diff(times).max(initial=0)) if dt is None else dt
    at, values = [], []
    for i, t in enumerate(times):
        ahead = times[i + 1 :] - t
        if len(ahead) and ahead[0] <= dt <= ahead[-1]:
            logs = np.log(np.maximum(d[i, i + 1 :], 1e-12))
            at.append(t)
            values.append(np.exp(np.interp(np.log(dt), np.log(ahead), logs)))
    at, values = np.array(at), np.array(values)
    if len(at) < 8:
        raise CannotSay("has fewer than 8 kernels as far apart as the widest of neighbours")
    weights, early, late = stands_for(at), at <= max(EARLY, at[0]), at >= times[-1] / 2
    if not late.any():
        raise CannotSay("has no later kernels as far apart as the widest of neighbours")

    def level(part: np.ndarray) -> float:
        return float(np.exp(np.average(np.log(values[part]), weights=weights[part])))

    return at, values, level(early), level(late)


def kernel_times(
    distances: pd.DataFrame,
    curve: Callable[..., Curve],
    way: float = 0.5,
    horizon: float | None = None,
) -> pd.DataFrame:
    """When a curve's logarithm has gone a part of its way from its early to its later level.

    `distances` has `seed`, `t`, `u`, `distance`; kernels after `horizon` are left out, as if
    training had ended there. What rises in between is smoothed (isotonic regression, weighted by
    the time that values stand for); between times of the grid log t is interpolated. Where a seed's
    curve does not fall, its time may be any: (0, infinity).
    """
    found = {}
    for seed, run in distances.groupby("seed"):
        times, d = matrix(run)
        kept = times <= (times[-1] if horizon is None else horizon)
        found[seed] = _way(*curve(times[kept], 1 - d[np.ix_(kept, kept)]), way)
    return _table(found)


def depths(distances: pd.DataFrame, curve: Callable[..., Curve]) -> pd.Series:
    """Logarithm of a curve's early over its later level, for each seed."""
    logs = {}
    for seed, run in distances.groupby("seed"):
        times, d = matrix(run)
        _, _, early, later = curve(times, 1 - d)
        logs[seed] = np.log(max(early, 1e-6) / max(later, 1e-6))
    return pd.Series(logs)


def log_ratio(one: pd.DataFrame, other: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (n,) of the logarithm of the ratio of two times of the same seeds.

    Raises `CannotSay` if a seed has but one of them.
    """
    if set(one.index) != set(other.index):
        raise CannotSay("a seed has one of two times and not the other")
    other = other.reindex(one.index)
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.log(one["low"].to_numpy()) - np.log(other["high"].to_numpy())
        high = np.log(one["high"].to_numpy()) - np.log(other["low"].to_numpy())
    # Both after the last time of a grid, or both before the first: the ratio may be any.
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def stands_for(times: np.ndarray) -> np.ndarray:
    """The time that each point of a grid stands for (trapezoid rule)."""
    steps = np.diff(times)
    return (np.r_[steps, 0.0] + np.r_[0.0, steps]) / 2 if len(times) > 1 else np.ones(1)


def _way(
    times: np.ndarray, values: np.ndarray, early: float, later: float, way: float
) -> tuple[float, float]:
    start, end = np.log(max(early, 1e-6)), np.log(max(later, 1e-6))
    if not start > end:
        return 0.0, np.inf
    level, y = start + way * (end - start), np.log(np.maximum(values, 1e-6))
    fit = isotonic_regression(y, weights=stands_for(times), increasing=False).x
    above = np.flatnonzero(fit >= level)
    if not len(above):
        return 0.0, float(times[times > 0][0])
    last = int(above[-1])
    if last == len(times) - 1:
        return float(times[-1]), np.inf
    if times[last] == 0:
        return 0.0, float(times[1])
    part = (fit[last] - level) / (fit[last] - fit[last + 1])
    time = float(np.exp(np.interp(part, [0, 1], np.log(times[[last, last + 1]]))))
    return time, time


def _table(found: dict, function: Callable = lambda x: x) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(found, "index", dtype=float, columns=["low", "high"])
    return function(table.rename_axis("seed").sort_index())
