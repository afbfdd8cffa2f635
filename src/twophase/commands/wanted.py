"""What a run's stage makes, and what of it is missing."""

from __future__ import annotations

from twophase.store.paths import Result
from twophase.study import stages
from twophase.study.run import Run
from twophase.study.stages import before_in_sweep


def wanted(stage: str, run: Run) -> list[Result]:
    """The parts of a stage, or if it has none, its tables, the first of them for all."""
    row = stages.STAGES[stage]
    return row.parts(run) or [stages.run_table(run, table) for table in row.tables][:1]


def lacking(stage: str, run: Run) -> list[Result]:
    """Those of them that are missing, but for those that are not needed any more."""
    if stages.STAGES[stage].parts(run):
        return stages.lacking(stage, run)
    return [result for result in wanted(stage, run) if not result.path.exists()]


def to_do(stage: str, run: Run) -> list[Result]:
    """Those that are missing and that no earlier model of a sweep makes."""
    earlier = before_in_sweep(stage, run)
    does = {other: stages.missing(other) for _, other in earlier}
    made = {r.path for each, other in earlier if each in does[other] for r in lacking(each, other)}
    return [result for result in lacking(stage, run) if result.path not in made]
