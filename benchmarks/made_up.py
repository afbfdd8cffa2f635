"""Made-up runs whose truth is known, for `operating.py`.

A kernel is a direction in many dimensions: the mean direction of the later ones, the way that it is
still off it, which is the truth that differs, and noise. Seeds differ in their times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from twophase.estimators import times
from twophase.writeup.sources import Source

HORIZON = 5000
# Times of kernels as in the registered study: dense at first, then evenly spaced.
TIMES = np.r_[0, 10, np.arange(25, 250, 25), np.arange(250, HORIZON + 1, 125)].astype(float)
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


def kernels(
    truth: str,
    seeds: int,
    kept: float = 0.0,
    t: np.ndarray = TIMES,
    middle: float = MIDDLE,
    spread: float = SPREAD,
) -> pd.DataFrame:
    """The table of kernel distances of `seeds` runs. Early kernels are off the later direction, and
    turn as they come closer; those of a power law turn by the same in each factor of time, and
    nothing else moves them; a walk is confined by nothing. `kept` is the correlation of the noise
    of those 125 iterations apart: AR(1).
    """
    rng = np.random.default_rng([sum(map(ord, truth)), seeds])
    tables = []
    for seed in range(seeds):
        own = middle * np.exp(spread * rng.normal())
        if truth == "walk":
            steps = np.sqrt(2 / t[-1] * np.diff(t, prepend=0.0))
            place = (steps[:, None] * _noise(rng, t)).cumsum(0)
        elif truth == "power law":
            away = _turning(rng, np.log1p(t / START))
            place = FAR * ((1 + t / START) ** -POWER)[:, None] * away
        else:
            away = FAR * TRUTHS[truth](t / own)[:, None] * _turning(rng, t / TURN)
            gaps = t / 125 * -np.log(kept) if kept else 1e3 * t
            place = away + NOISE**0.5 * _turning(rng, gaps)
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


def source(**tables: pd.DataFrame) -> Source:
    """A source of made-up tables."""
    seeds = next(iter(tables.values()))["seed"].nunique()
    return Source("made-up", "net", {"architecture": "resnet20"}, HORIZON, seeds, 0.1, tables)


FORKS = np.array([0, 4, 10, 25, 60, 150, 400])  # those of the registered study
END, END_SPREAD, BLUR = (
    25.0,
    0.6,
    0.3,
)  # median of chaos times, their spread, and how sharp they are


def chaos_bounds(
    rng: np.random.Generator,
    logs: np.ndarray,
    forks: np.ndarray = FORKS,
    moved: float = 0.0,
    blur: float = BLUR,
) -> list[np.ndarray]:
    """Bounds (runs, 2) of log chaos times from one fork for each t0, for true times `logs` (runs,)
    and for times that lie `moved` later, of the same forks.
    """
    drawn = rng.logistic(size=(len(logs), len(forks)))
    found = []
    for further in (0.0, moved):
        with np.errstate(divide="ignore"):
            above = logs[:, None] + further + blur * drawn > np.log(forks)
            seeds = np.repeat(np.arange(len(logs)), len(forks))
            table = {"seed": seeds, "t0": np.tile(forks, len(logs)), "above": above.ravel()}
            found.append(np.log(times.chaos_times(pd.DataFrame(table)).to_numpy()))
    return found
