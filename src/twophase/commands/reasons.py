"""Why results of a study are made again: the options and code that changed since those that lie
there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from twophase.store.paths import Result
from twophase.store.why import reason
from twophase.study import stages
from twophase.study.model import Study
from twophase.study.run import Run, runs


def reasons(study: Study) -> Iterator[str]:
    """One line for each reason, with the stages that it holds for; none where all is there, or
    nothing like it was ever made.
    """
    found: dict[str, dict[str, list[Run]]] = {}
    asked = {result.path for result in stages.every(study)}
    for run in runs(study):
        for stage in stages.STAGES:
            its = stage != "check" and run in stages.runs_of(study, stage)  # it has all options
            if its and (said := _of(stage, run, asked)):
                found.setdefault(said, {}).setdefault(stage, []).append(run)
    for said, where in found.items():
        affected = list(dict.fromkeys(run for its_runs in where.values() for run in its_runs))
        which = str(affected[0]) if len(affected) == 1 else f"{len(affected)} runs"
        yield f"{', '.join(where)} of {which}: {said}"


def _of(stage: str, run: Run, asked: set[Path]) -> str:
    """Why a stage of a run has something left to do."""
    found = (reason(result, asked) for result in _first_missing(stage, run))
    return next(filter(None, found), "")


def _first_missing(stage: str, run: Run) -> Iterator[Result]:
    """A part and a table that are not there; they are alike in what makes them."""
    row = stages.STAGES[stage]
    tables = (stages.run_table(run, name) for name in row.tables)
    if missing := next((each for each in tables if not each.path.exists()), None):
        yield missing
        if part := next((each for each in row.parts(run) if not each.path.exists()), None):
            yield part
    elif not row.tables:
        yield from (each for each in row.parts(run)[:1] if not each.path.exists())
