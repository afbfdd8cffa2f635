"""Whether two transitions come at one time, seed by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from twophase.estimators.seeds import Estimate, Scale, over_seeds, transformed


def time_coincidence(one: pd.Series, other: pd.Series, scale: Scale, resolution: float) -> Estimate:
    """The ratio of two times of each seed, compared as 1 + t / unit; `resolution` is how far their
    difference of places may be off because grids are coarse.
    """
    both = pd.concat([one, other], axis=1, keys=["one", "other"])
    return transformed(
        over_seeds(scale.x(both["one"]) - scale.x(both["other"]), resolution), np.exp
    )
