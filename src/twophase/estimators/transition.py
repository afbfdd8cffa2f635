"""The time at which a curve over the time of perturbation falls."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from twophase.estimators.seeds import CannotSay, Estimate, Scale, over_seeds, transformed, wide


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
