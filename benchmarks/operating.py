"""What the rules say of known truths, and how often intervals hold what they should.

python benchmarks/operating.py              # the tables in docs/rules.md, minutes of one core
python benchmarks/operating.py --trials 20  # the same, less exact

All is deterministic. A kernel is a direction in many dimensions: the mean direction of the later
ones, the way that it is still off it, which is the truth that differs, and noise. Seeds differ in
their times. A pool of runs is simulated once; an experiment draws its seeds from it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
LEVELS = {3: 0.95, 8: 0.9706, 16: 0.9706}  # of intervals, by the number of seeds: two looks
HORIZON, EVERY = 5000, 50
MIDDLE, SPREAD = 400.0, 0.35  # median and spread (of the logarithm) of the kernel's time
DIMENSIONS, NOISE = 400, 0.15  # 1 - cosine of two later kernels is about NOISE
FAR = 1.5  # how far the first kernel is off the later ones' mean direction, over its length
TURN = 200.0  # iterations in which early kernels turn
START, POWER = 20.0, 0.4  # of the power law: where it begins, and its exponent

# How far a kernel is still off at time t over the run's own time.
TRUTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "step": lambda x: (x < 1).astype(float),
    "sigmoid": lambda x: 1 / (1 + x**4),
    "decay": lambda x: np.exp(-x),
    "no change": lambda x: 0 * x,
}


def kernels(truth: str, seeds: int, every: int = EVERY, horizon: int = HORIZON) -> pd.DataFrame:
    """The table of kernel distances of `seeds` runs. Early kernels are off the later direction, and
    turn as they come closer; those of a power law turn by the same in each factor of time, and
    nothing else moves them; a walk is confined by nothing.
    """
    rng = np.random.default_rng([sum(map(ord, truth)), seeds])
    t = np.arange(0, horizon + 1, every)
    tables = []
    for seed in range(seeds):
        own = MIDDLE * np.exp(SPREAD * rng.normal())
        if truth == "walk":
            place = _noise(rng, t).cumsum(0) * (2 * every / horizon) ** 0.5
        elif truth == "power law":
            away = _turning(rng, np.log1p(t / START))
            place = FAR * ((1 + t / START) ** -POWER)[:, None] * away
        else:
            away = FAR * TRUTHS[truth](t / own)[:, None] * _turning(rng, t / TURN)
            place = away + NOISE**0.5 * _noise(rng, t)
        place[:, 0] += 1
        place /= np.linalg.norm(place, axis=1, keepdims=True)
        d = np.maximum(1 - place @ place.T, 0)
        index = pd.MultiIndex.from_product([[seed], t, t], names=["seed", "t", "u"])
        tables.append(pd.DataFrame({"distance": d.ravel()}, index=index).reset_index())
    return pd.concat(tables, ignore_index=True)


def _noise(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    """Independent directions (times, dimensions), each of length about 1."""
    return rng.normal(size=(len(t), DIMENSIONS)) / DIMENSIONS**0.5


def _turning(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Directions whose correlation falls as exp(-distance in x)."""
    new = _noise(rng, x)
    for i, kept in enumerate(np.exp(-np.diff(x)), 1):
        new[i] = kept * new[i - 1] + (1 - kept**2) ** 0.5 * new[i]
    return new
