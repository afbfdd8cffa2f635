"""Stage `summary`: mean and range of a table's measures over all runs of a study."""

import pandas as pd

from twophase import paths
from twophase.artifacts import read_table, write_table
from twophase.study import Study

# What tells apart the points of each table; runs are what remains: seeds and directions.
KEYS = {
    "training": ["t"],
    "chaos": ["direction", "t0", "t1"],
    "kernel_distance": ["t", "u"],
    "linearized": ["switch"],
}


def summarize(study: Study, table: str) -> None:
    """Write the summary of the table called `table`: one row per model, point and measure.

    Columns: study, model, the table's keys, measure, then `mean`, `low` and `high` (smallest and
    largest) over `runs` runs. Of `chaos`, the perturbed directions are runs of the direction
    `perturbed`, and the controls stay apart. A measure that is not a number in one run is not a
    number in the summary.
    """
    parts = [
        read_table(
            paths.RUN_TABLES[table](study, model, seed),
            {"kind": table, "study": study.name, "model": model, "seed": seed},
        )
        for model in study.models
        for seed in study.seeds
    ]
    result = mean_and_range(pd.concat(parts, ignore_index=True), KEYS[table])
    identity = {"kind": "summary", "study": study.name, "table": table}
    write_table(paths.summary(study, table), result, identity)


def mean_and_range(runs: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The long table of `summarize` from a wide one with a row per run and point."""
    if "direction" in runs:
        runs = runs.assign(
            direction=runs["direction"].where(runs["direction"] == "control", "perturbed")
        )
    points = ["study", "model", *keys]
    measures = [column for column in runs if column not in [*points, "seed"]]
    long = runs.astype({measure: float for measure in measures}).melt(
        points, measures, var_name="measure"
    )
    groups = long.groupby([*points, "measure"], sort=False)["value"]
    result = groups.agg(
        mean=lambda values: values.mean(skipna=False),
        low=lambda values: values.min(skipna=False),
        high=lambda values: values.max(skipna=False),
        runs="size",
    )
    return result.reset_index()
