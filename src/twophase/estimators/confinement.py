"""Whether kernels stay within a cone: from the table of distances between all pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from twophase.estimators.seeds import CannotSay, Estimate, over_seeds, transformed


def matrix(distances: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Times (n,) and distances (n, n) of a run's table with `t`, `u`, `distance`."""
    times = np.sort(distances["t"].unique()).astype(float)
    rows = distances.sort_values(["t", "u"])["distance"].to_numpy()
    return times, rows.reshape(len(times), len(times))


def radius(cosines: np.ndarray) -> float:
    """The largest angle, in degrees, between one of the directions and the mean of all of them;
    `cosines` (n, n) are those between the directions.
    """
    along = cosines.sum(1) / cosines.sum() ** 0.5
    return float(np.degrees(np.arccos(along.min().clip(-1, 1))))


def walk(cosines: np.ndarray) -> np.ndarray:
    """Cosines of a random walk with the same angles between neighbours, each step at right angles
    to all before: products of the cosines between neighbours.
    """
    way = np.log(np.diagonal(cosines, 1).clip(1e-300)).cumsum()
    way = np.concatenate([[0.0], way])
    return np.exp(-np.abs(way[:, None] - way[None, :]))


def radius_ratio(distances: pd.DataFrame, starts: pd.Series) -> Estimate:
    """The cone's radius over that of a random walk, from each seed's start to the end: below 1, the
    kernels stay closer together than a walk of the same step would.

    `distances` has `seed`, `t`, `u`, `distance`; `starts` a time for each seed.
    """
    logs = []
    for seed, run in distances.groupby("seed"):
        times, d = matrix(run)
        late = times >= starts[seed]
        if late.sum() < 4:
            raise CannotSay("fewer than 4 kernels follow the transition")
        cosines = 1 - d[np.ix_(late, late)]
        logs.append(np.log(radius(cosines) / radius(walk(cosines))))
    return transformed(over_seeds(logs), np.exp)


def exponent(distances: pd.DataFrame, starts: pd.Series) -> Estimate:
    """The slope of log S over log dt from each seed's start on: 0 if the kernel is confined, 1 if
    it diffuses freely, 2 if it moves straight on.

    S is the mean over t of S(t, t + dt); dt goes up to half of what is left.
    """
    slopes = []
    for seed, run in distances.groupby("seed"):
        times, d = matrix(run)
        late = times >= starts[seed]
        d = d[np.ix_(late, late)]
        reach = len(d) // 2
        if reach < 3:
            raise CannotSay("fewer than 6 kernels follow the transition")
        steps = np.arange(1, reach + 1)
        means = [np.diagonal(d, step).mean() for step in steps]
        slopes.append(np.polyfit(np.log(steps), np.log(means), 1)[0])
    return over_seeds(slopes)
