"""Stage `summary`: mean and range of a table's measures over all runs of a study."""

import pandas as pd

from twophase.store.artifacts import read_table, write_table
from twophase.study import stages
from twophase.study.chaos import named
from twophase.study.model import Study


def summary(study: Study, table: str) -> None:
    """Write the summary of the table called `table`: one row per model, point and measure.

    Columns: study, model, the table's keys, measure, then `mean`, `low` and `high` (smallest and
    largest) over `runs` runs. Of `chaos`, the perturbed directions are runs of the direction
    `perturbed`, or of several perturbations of that called as each is; the controls stay apart. A
    measure that is not a number in one run is not a number in the summary.
    """
    runs = stages.runs_of(study, stages.STAGE_OF[table])
    parts = [read_table(stages.run_table(run, table)) for run in runs]
    write_table(stages.summary_table(study, table), summarised(table, parts))


def summaries(study: Study) -> None:
    """Write all summaries of a study that are not there."""
    for table in stages.tables_of(study):
        if not stages.summary_table(study, table).path.exists():
            summary(study, table)


def summarised(table: str, runs: list[pd.DataFrame]) -> pd.DataFrame:
    """The summary of the tables of all runs."""
    return mean_and_range(pd.concat(runs, ignore_index=True), list(stages.SUMMARISED[table]))


def mean_and_range(runs: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The long table of `summary` from a wide one with a row per run and point."""
    if "direction" in runs:
        runs = runs.assign(direction=runs["direction"].map(named))
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
