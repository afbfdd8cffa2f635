"""Any column of any table over seeds: means with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from twophase.estimators.seeds import LEVEL, over_seeds


def estimate(
    table: pd.DataFrame, column: str, by: str | Sequence[str] = (), level: float = LEVEL
) -> pd.DataFrame:
    """Means of a `column` over seeds, for each model and each of the points `by`, with intervals.

    `table` is one of `twophase.load`, of all runs or some of its rows. Columns: those of `by`,
    `mean`; `low` and `high`, Student's t interval of this `level`, in which seeds are the draws:
    of several rows of a seed, such as perturbation directions, the mean counts; `least` and `most`,
    the range over all rows; `seeds`, their number. With one seed there is no interval, and with a
    value that is not finite no mean; with one that is not a number no range, as in summaries.
    Controls, whose perturbation is zero, count only where `direction` is among `by`.

    Raises `KeyError` if the table has no such column, and `ValueError` if a level is no share
    between 0 and 1.

    >>> table = pd.DataFrame({"seed": [0, 0, 1, 2], "t": 9, "barrier": [0.0, 2.0, 3.0, 5.0]})
    >>> estimate(table, "barrier", by=["t"]).round(2).iloc[0].tolist()
    [9.0, 3.0, -1.97, 7.97, 0.0, 5.0, 3.0]
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level}: must be between 0 and 1, such as 0.95")
    by = [by] if isinstance(by, str) else by
    points = [*dict.fromkeys([*(name for name in ["model"] if name in table), *by])]
    missing = [name for name in ["seed", column, *points] if name not in table]
    if missing:
        raise KeyError(f"the table has no column {missing[0]!r}; it has {', '.join(table)}")
    if "direction" in table and "direction" not in points:
        table = table[table["direction"] != "control"]
    rows = []
    whole = [] if table.empty else [((), table)]
    for at, own in table.groupby(points, sort=False, dropna=False) if points else whole:
        values = own[column].astype(float)
        means = values.groupby(own["seed"]).apply(lambda each: each.mean(skipna=False))
        finite = bool(np.isfinite(values).all())
        found = over_seeds(means, level=level)[:3] if finite else [float("nan")] * 3
        spread = [values.min(skipna=False), values.max(skipna=False)]
        rows.append([*at, *found, *spread, len(means)])
    return pd.DataFrame(rows, columns=[*points, "mean", "low", "high", "least", "most", "seeds"])
