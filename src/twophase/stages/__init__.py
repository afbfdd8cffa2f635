"""The stages: one table that says of each what it reads, what makes it, and what it writes.

Commands, rules, publishing and adoption read this table. A stage is a module of this folder with
a function of the same name; a new one is that module and its row here. No PyTorch here: the
Snakefile imports it.

A stage leaves *parts*, which are kept one by one in a folder (a state, a kernel, a comparison), and
*tables*, written last, which gather them. A part is made by less than a table: a new point in a
grid asks for a new table, and the stage then adds only what the folder lacks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from twophase import datasets, networks, optimizers
from twophase.stages import options, work
from twophase.stages.options import Code
from twophase.stages.places import (
    base_state,
    check_mark,
    comparison,
    curvature_at,
    data_file,
    fork_state,
    growth_part,
    kernel_file,
    linearized_end,
    linearized_state,
    match,
    part_maker,
    perturbation,
    table_maker,
)
from twophase.stages.places import unfinished as unfinished  # for the stages
from twophase.stages.work import Work
from twophase.store.fingerprint import code_digest
from twophase.store.paths import RESULTS, Maker, Result, digest, run_folder, table
from twophase.study import Run, Study, runs

Keys = tuple[str, ...]


class Stage(NamedTuple):
    """A row of the table. `options` and `grid` are JSON values of a run."""

    help: str
    # One job for each run, or one for the study. Of a study's, tables are still of each run.
    scope: Literal["study", "run"]
    reads: tuple[str, ...]  # the stages whose results it needs
    # Its tables, with the columns that tell apart the points of each. The first is what shows that
    # the stage has ended.
    tables: dict[str, Keys]
    options: Callable[[Run], Any]  # what makes a part, beside code and what the stage reads
    parts: Callable[[Run], list[Result]]
    grid: Callable[[Run], Any]  # what else makes the tables: the points that they hold
    work: Callable[[Run, Result], Work]  # that a part is, or where there are none the tables
    section: str | None = None  # of a model; without it the model does without this stage
    code: Callable[[Run], Code] | None = None  # what makes a part; else the stage's own module
    summarised: Keys = ()  # tables of which there is a summary over all runs
    keeps_time: bool = False  # keeps its state every few minutes
    shared: bool = False  # its parts are shared out to several jobs of a run
    always: Callable[[Run], float] = lambda run: 0  # work that it does whatever parts are there
    memory_mb: int = 4000
    minutes: int = 30


def _check_code(run: Run) -> Code:
    models = run.study.models.values()
    tried = [f"stages.{stage}" for stage in STAGES if runs_of(run.study, stage)]
    own = [each for model in models for each in networks.code(model.network)]
    return *tried, *own, *(optimizers.module(model.training) for model in models)


def _fork_parts(run: Run) -> list[Result]:
    points = [(t0, d, t1) for t0, d in run.model.forks() for t1 in run.model.compare_points(t0)]
    return [fork_state(run, *p) for p in points] + [
        perturbation(run, *f) for f in run.model.forks()
    ]


def _size_parts(run: Run) -> list[Result]:
    # Those that `fork` and `chaos` leave for a study with another size of perturbation.
    others = [run.of_size(size) for size in run.model.other_sizes()]
    return [part for o in others for s in ("fork", "chaos") for part in STAGES[s].parts(o)]


def _linearized_parts(run: Run) -> list[Result]:
    switches = run.model.linearized.switches
    states = [linearized_state(run, s, t) for s in switches for t in run.model.linearized_steps(s)]
    return states + [linearized_end(run, s) for s in switches]


STAGES = {
    "data": Stage(
        "Bring the data set into its canonical file.",
        scope="study",
        reads=(),
        tables={},
        options=options.data,
        parts=lambda run: [data_file(run.study)],
        grid=lambda run: None,
        work=work.once,
        code=lambda run: ("stages.data", *datasets.code(run.study.data.images)),
        memory_mb=2000,
    ),
    "check": Stage(
        "Try all stages on two batches of each network, before any of them is trained.",
        scope="study",
        reads=("data",),
        tables={},
        options=options.check,
        parts=lambda run: [check_mark(run.study)],
        grid=lambda run: None,
        work=work.once,
        code=_check_code,
        memory_mb=8000,
    ),
    "base": Stage(
        "Train one model from one seed.",
        scope="run",
        reads=("data",),
        tables={"training": ("t",)},
        options=options.base,
        parts=lambda run: [base_state(run, t) for t in run.model.checkpoints()],
        grid=lambda run: [run.model.evaluation.options(), run.model.checkpoints()],
        work=work.base_state,
        always=work.base_evaluations,
        code=options.base_code,
        summarised=("training",),
        keeps_time=True,
        minutes=1440,
    ),
    "fork": Stage(
        "Perturb a base run and train on.",
        scope="run",
        reads=("base",),
        tables={},
        options=lambda run: run.model.chaos.perturbation.options(),
        parts=_fork_parts,
        grid=lambda run: None,
        work=work.fork_part,
        section="chaos",
        keeps_time=True,
        shared=True,
        minutes=720,
    ),
    "chaos": Stage(
        "Compare forks with their base run.",
        scope="run",
        reads=("base", "fork"),
        tables={
            "chaos": ("direction", "t0", "t1"),
            "barrier_path": ("direction", "t0", "t1", "split", "alpha"),
        },
        options=options.comparison,
        parts=lambda run: [comparison(run, *point) for point in run.model.comparisons()],
        grid=lambda run: run.model.comparisons(),
        work=work.comparison,
        section="chaos",
        summarised=("chaos",),
        memory_mb=8000,
        minutes=720,
    ),
    "sizes": Stage(
        "Fork and compare again, with perturbations of other sizes.",
        scope="run",
        reads=("base", "chaos"),
        tables={"sizes": ("size", "direction", "t0", "t1")},
        options=lambda run: None,
        parts=_size_parts,
        grid=lambda run: [run.model.other_sizes(), run.model.size_points()],
        work=work.size_part,
        section="sizes",
        summarised=("sizes",),
        keeps_time=True,
        memory_mb=8000,
        minutes=1440,
    ),
    "kernel": Stage(
        "Compute the tangent kernels along a base run.",
        scope="run",
        reads=("base",),
        tables={"kernel": ("t",)},
        options=lambda run: run.model.kernel.options(exclude=options.KERNEL_GRID),
        parts=lambda run: [kernel_file(run, t) for t in run.model.kernel_steps()],
        grid=lambda run: run.model.kernel_steps(),
        work=work.kernel_file,
        section="kernel",
        memory_mb=8000,
        minutes=1440,
    ),
    "cone": Stage(
        "Measure the distances between a run's kernels.",
        scope="run",
        reads=("data", "kernel"),
        tables={
            "cone": ("t",),
            "kernel_content": ("t",),
            "kernel_distance": ("t", "u"),
            "kernel_projection": ("t",),
        },
        options=lambda run: max(run.model.kernel.intervals),
        parts=lambda run: [],
        grid=lambda run: run.model.kernel_steps(),
        work=work.cone,
        section="kernel",
        summarised=("kernel_distance", "kernel_content", "cone"),
        memory_mb=8000,
        minutes=120,
    ),
    "across_seeds": Stage(
        "Measure the angles between the kernels of different seeds.",
        scope="study",
        reads=("kernel",),
        tables={"across_seeds": ("t",)},
        options=lambda run: None,
        parts=lambda run: [],
        grid=lambda run: [run.model.kernel_steps(), run.study.seeds],
        work=work.across_seeds,
        section="across_seeds",
        summarised=("across_seeds",),
        memory_mb=8000,
        minutes=120,
    ),
    "curvature": Stage(
        "Measure how sharply the training loss bends along a base run.",
        scope="run",
        reads=("base",),
        tables={"curvature": ("t",)},
        options=lambda run: run.model.curvature.options(exclude={"every"}),
        parts=lambda run: [curvature_at(run, t) for t in run.model.curvature_steps()],
        grid=lambda run: run.model.curvature_steps(),
        work=work.curvature_at,
        section="curvature",
        summarised=("curvature",),
        minutes=720,
    ),
    "growth": Stage(
        "Train base run and forks side by side, step by step.",
        scope="run",
        reads=("base",),
        tables={
            "growth": ("t0", "precision", "perturbation", "step"),
            "growth_rate": ("t0", "precision", "perturbation"),
        },
        options=lambda run: run.model.growth.options(exclude={"forks", "precisions"}),
        parts=lambda run: [growth_part(run, *point) for point in run.model.growth_points()],
        grid=lambda run: run.model.growth_points(),
        work=work.growth_part,
        section="growth",
        summarised=("growth_rate",),
        minutes=720,
    ),
    "trajectory": Stage(
        "Map a base run's way through the space of parameters.",
        scope="run",
        reads=("base",),
        tables={"trajectory": ("t", "u")},
        options=lambda run: None,
        parts=lambda run: [],
        grid=lambda run: run.model.checkpoints(),
        work=work.trajectory,
        section="trajectory",
        summarised=("trajectory",),
        minutes=120,
    ),
    "matching": Stage(
        "Match the units of forks with those of their base run.",
        scope="run",
        reads=("base", "fork"),
        tables={"matching": ("direction", "t0", "t1")},
        options=options.matching,
        parts=lambda run: [match(run, *point) for point in run.model.matching_points()],
        grid=lambda run: run.model.matching_points(),
        work=work.match,
        section="matching",
        summarised=("matching",),
        memory_mb=8000,
        minutes=720,
    ),
    "linearized": Stage(
        "Train the linearised network from each switch.",
        scope="run",
        reads=("base",),
        tables={"linearized": ("switch",)},
        options=options.linearized,
        parts=_linearized_parts,
        grid=lambda run: run.model.linearized.switches,
        work=work.linearized_part,
        section="linearized",
        summarised=("linearized",),
        keeps_time=True,
        minutes=1440,
    ),
}
STAGE_OF = {name: stage for stage, row in STAGES.items() for name in row.tables}
# The tables that have a summary over all runs, with their keys.
SUMMARISED = {name: row.tables[name] for row in STAGES.values() for name in row.summarised}


def load(stage: str) -> Callable[..., None]:
    """The function that does a stage."""
    return getattr(importlib.import_module(f"twophase.stages.{stage}"), stage)


def run_table(run: Run, name: str) -> Result:
    """A run's table."""
    stage = STAGE_OF[name]
    maker = table_maker(stage, run)
    return table(run_folder(run.identity), name, run.identity, maker, ".parquet", stage)


def summary_table(study: Study, name: str) -> Result:
    """Mean and range, over seeds and directions, of the runs' tables called `name`."""
    its_runs = runs_of(study, STAGE_OF[name])
    makers = [table_maker(STAGE_OF[name], run) for run in its_runs]
    shown = [[str(run) for run in its_runs], SUMMARISED[name]]
    maker = Maker(
        digest([shown, [m.options for m in makers]]),
        digest([code_digest("stages.summary"), [m.code for m in makers]]),
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
    found |= {run_fingerprint(run) for run in runs(study)}
    return found | {
        job_fingerprint(stage, run) for stage in STAGES for run in runs_of(study, stage)
    }


def missing(run: Run) -> list[str]:
    """The stages of a run that have something left to do, in the order of the work: those whose
    tables are not there, and those that lack parts which these need.
    """
    found: list[str] = []
    for stage, row in reversed(STAGES.items()):
        if row.section is None or getattr(run.model, row.section):
            tables = [run_table(run, name).path for name in row.tables]
            read = any(stage in STAGES[later].reads for later in found)
            if not all(table.exists() for table in tables) or (
                read and not all(part.path.exists() for part in row.parts(run))
            ):
                found.insert(0, stage)
    return [stage for stage in found if STAGES[stage].scope == "run"]


def run_fingerprint(run: Run) -> str:
    """The fingerprint of a job that does all stages of a run."""
    rows = STAGES.items()
    own = [s for s, row in rows if row.scope == "run" and run in runs_of(run.study, s)]
    return digest([job_fingerprint(stage, run) for stage in own])[:8]


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
    return digest([table_maker(stage, each) for each in runs_of(run.study, stage)])[:8]
