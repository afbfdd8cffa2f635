"""Whether two transitions come at one time, seed by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from twophase.estimators.seeds import CannotSay, Estimate, Scale, over_seeds, transformed
from twophase.estimators.transition import crossing


def share_coincidence(
    runs: pd.DataFrame, times: pd.Series, scale: Scale, resolution: float
) -> Estimate:
    """The time at which the share of runs with a barrier crosses a half, over the time at which
    something else happens in the same seed.

    `runs` as for `share_transition`; `times` has a time for each seed. Times are compared as 1 + t
    / unit (`Scale`): what both have below the unit, the data cannot tell apart. The share is
    followed over the difference of places, so how seeds differ together cancels, and what the grid
    of t0 leaves open stays open. `resolution` is how far the places of `times` may be off because
    their grid is coarse; the interval is wider by it. An end of it is infinite where the crossing
    may lie outside of the grid of t0.
    """
    shift = times.reindex(runs["seed"]).to_numpy()
    if not np.isfinite(shift).all():
        raise CannotSay("a seed has no other transition")
    x, places = scale.x(runs["t0"]), scale.x(times)
    first, last = x.min() - places.max(), x.max() - places.min()
    difference = x - scale.x(shift)
    found = crossing(runs["seed"].to_numpy(), difference, runs["above"].to_numpy(), first, last)
    wider = found._replace(low=found.low - resolution, high=found.high + resolution)
    return transformed(wider, np.exp)


def time_coincidence(one: pd.Series, other: pd.Series, scale: Scale, resolution: float) -> Estimate:
    """The ratio of two times of each seed, compared as 1 + t / unit; `resolution` is how far their
    difference of places may be off because grids are coarse.
    """
    both = pd.concat([one, other], axis=1, keys=["one", "other"])
    return transformed(
        over_seeds(scale.x(both["one"]) - scale.x(both["other"]), resolution), np.exp
    )
