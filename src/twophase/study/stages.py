"""What the stages of a study leave: their results, and what of these is missing.

Commands, rules, publishing and adoption read this table. A stage is a module of `stages/` with a
function of the same name; what may be asked of it, and its row, is a module beside this one. No
PyTorch here: the Snakefile imports it.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import lru_cache

from twophase.store.code import code_digest, digests
from twophase.store.paths import RESULTS, Maker, Result, digest, recipe, run_folder, table
from twophase.study import stage as rows
from twophase.study.base import base_state as base_state
from twophase.study.chaos import comparison as comparison
from twophase.study.chaos import fork_state as fork_state
from twophase.study.chaos import perturbation as perturbation
from twophase.study.check import check_mark as check_mark
from twophase.study.curvature import curvature_at as curvature_at
from twophase.study.data import data_file as data_file
from twophase.study.growth import growth_part as growth_part
from twophase.study.kernel import kernel_file as kernel_file
from twophase.study.linearized import linearized_end as linearized_end
from twophase.study.linearized import linearized_state as linearized_state
from twophase.study.matching import match as match
from twophase.study.model import READ_BY, STAGES, Study
from twophase.study.own import own_measure as own_measure
from twophase.study.run import Run, runs
from twophase.study.stage import unfinished as unfinished

STAGE_OF = {name: stage for stage, row in STAGES.items() for name in row.tables}
# The tables that have a summary over all runs, with their keys.
SUMMARISED = {name: row.tables[name] for row in STAGES.values() for name in row.summarised}


def imported(stage: str) -> Callable[..., None]:
    """The function that does a stage."""
    return getattr(importlib.import_module(f"twophase.stages.{stage}"), stage)


def part_maker(stage: str, run: Run) -> Maker:
    """What makes a stage's parts; the seed is no part of it."""
    return rows.part_maker(STAGES[stage], run)


def table_maker(stage: str, run: Run) -> Maker:
    """What makes a stage's tables."""
    return rows.table_maker(STAGES[stage], run)


def published_name(run: Run, table: str) -> str:
    """The name under which a run's table is published."""
    return f"{run.name}/seed{run.seed}/{table}"


def run_table(run: Run, name: str) -> Result:
    """A run's table."""
    stage = STAGE_OF[name]
    maker = table_maker(stage, run)
    return table(run_folder(run.identity), name, run.identity, maker, ".parquet", stage)


def summary_table(study: Study, name: str) -> Result:
    """Mean and range, over seeds and directions, of the runs' tables called `name`."""
    its_runs = runs_of(study, STAGE_OF[name])
    before = {str(run): table_maker(STAGE_OF[name], run) for run in its_runs}
    makers = before.values()
    shown = [[str(run) for run in its_runs], SUMMARISED[name]]
    maker = Maker(
        digest([shown, [m.options for m in makers]]),
        digest([code_digest("stages.summary"), [m.code for m in makers]]),
        recipe({}, digests("stages.summary"), before),
        before,
    )
    identity = {"kind": "summary", "study": study.name, "table": name}
    result = table(
        RESULTS / study.name,
        f"{name}_summary",
        identity,
        maker,
        ".parquet",
        f"summary --table {name}",
    )
    return replace(result, identity=identity)


def runs_of(study: Study, stage: str) -> list[Run]:
    """The runs of a study that go through a stage."""
    return runs(study, STAGES[stage].section)


def tables_of(study: Study) -> list[str]:
    """The tables with a summary that the study has."""
    return [name for name in SUMMARISED if runs_of(study, STAGE_OF[name])]


def fingerprints(study: Study) -> set[str]:
    """The fingerprints of all jobs of a study, as they stand in the names of their logs."""
    found = {summary_table(study, name).maker.fingerprint for name in tables_of(study)}
    found |= {run_fingerprint(run) for run in runs(study)} | {summaries_fingerprint(study)}
    return found | {
        job_fingerprint(stage, run) for stage in STAGES for run in runs_of(study, stage)
    }


def missing(run: Run, again: Collection[str] = ()) -> list[str]:
    """The stages of a run that have something left to do, in the order of the work: those whose
    tables are not there (or which are in `again`, or their tables), and those that lack parts which
    these need.
    """
    found: list[str] = []
    for stage, row in reversed(STAGES.items()):
        if row.section is None or getattr(run.model, row.section):
            its_runs = [run] if row.scope == "run" else runs_of(run.study, stage)
            tables = [run_table(each, name).path for each in its_runs for name in row.tables]
            forced = tables and not {stage, *map(str, tables)}.isdisjoint(again)
            read = any(row in STAGES[later].reads for later in found)
            # What is not kept is there no more for what is made again.
            gone = [part for part in row.parts(run) if not part.path.exists()] if read else []
            lacks = gone if again else gone and lacking(stage, run)
            if forced or lacks or not all(table.exists() for table in tables):
                found.insert(0, stage)
    return [stage for stage in found if STAGES[stage].scope == "run"]


def lacking(stage: str, run: Run) -> list[Result]:
    """The parts of a run's stage that are missing, but for those that are not needed any more."""
    missing = [part for part in STAGES[stage].parts(run) if not part.path.exists()]
    if missing and stage in READ_BY:
        gone = {part.path for part in spent(stage, run)}
        missing = [part for part in missing if part.path not in gone]
    return missing


def passing(stage: str, run: Run) -> list[Result]:
    """The parts of a run's stage that the study does not keep."""
    if stage == "base":
        return [base_state(run, t) for t in sorted(run.model.passing())]
    kept = run.model.kernel is None or run.model.kernel.keep
    return [] if kept or stage != "kernel" else STAGES["kernel"].parts(run)


def spent(stage: str, run: Run) -> list[Result]:
    """The same once all that reads them has ended: `commands/discard.py` deletes them."""
    found = passing(stage, run)
    return found if found and all(_ended(each, run) for each in READ_BY[stage]) else []


def _ended(stage: str, run: Run) -> bool:
    """Whether nothing of a stage is left to do, or the model does without it."""
    row = STAGES[stage]
    if not getattr(run.model, row.section):
        return True
    seeds = [run.seed] if row.scope == "run" else run.study.seeds  # of which one job does all
    tables = [run_table(replace(run, seed=seed), name) for seed in seeds for name in row.tables]
    return all(table.path.exists() for table in tables) and not lacking(stage, run)


def run_fingerprint(run: Run) -> str:
    """The fingerprint of a job that does all stages of a run."""
    rows = STAGES.items()
    own = [s for s, row in rows if row.scope == "run" and run in runs_of(run.study, s)]
    return digest([job_fingerprint(stage, run) for stage in own])[:8]


def summaries_fingerprint(study: Study) -> str:
    """The fingerprint of a job that makes all summaries of a study."""
    return digest([summary_table(study, name).maker.fingerprint for name in tables_of(study)])[:8]


def every(study: Study) -> list[Result]:
    """Every result that the study asks for."""
    found = [summary_table(study, name) for name in tables_of(study)]
    for stage, row in STAGES.items():
        its_runs = runs_of(study, stage)
        for run in its_runs if row.scope == "run" or row.tables else its_runs[:1]:
            found += row.parts(run) + [run_table(run, name) for name in row.tables]
    return list({result.path: result for result in found}.values())  # models share parts in a sweep


def job_fingerprint(stage: str, run: Run) -> str:
    """The fingerprint in the names of a job's files: that of its tables, or else of its parts."""
    row = STAGES[stage]
    if not row.tables:
        return part_maker(stage, run).fingerprint
    if row.scope == "run":
        return table_maker(stage, run).fingerprint
    makers = [table_maker(stage, each) for each in runs_of(run.study, stage)]
    return digest([maker.fingerprint for maker in makers])[:8]


def before_in_sweep(stage: str, run: Run) -> list[tuple[str, Run]]:
    """The stages of earlier models of the sweep that leave parts in a folder of this one: of two
    jobs that may make the same parts, one waits for the other.
    """
    swept, own = run.study.sweep, _folders(stage, run)
    earlier = itertools.takewhile(lambda name: name != run.name, swept)
    others = [Run(run.study, n, run.seed) for n in earlier if swept[n].of == swept[run.name].of]
    rows = [name for name, row in STAGES.items() if row.scope == "run"]
    return [(each, other) for other in others for each in rows if own & _folders(each, other)]


@lru_cache(maxsize=4096)
def _folders(stage: str, run: Run) -> frozenset[str]:
    """The folders of a run in which a stage leaves its parts."""
    row = STAGES[stage]
    there = row.section is None or getattr(run.model, row.section)
    parts = row.parts(run) if there else []
    return frozenset(f"{part.command}-{part.maker.fingerprint}" for part in parts)
