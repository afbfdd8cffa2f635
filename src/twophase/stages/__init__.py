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
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from twophase import datasets, networks, optimizers
from twophase.networks.files import Place
from twophase.store.fingerprint import code_digest
from twophase.store.own_code import digest_of
from twophase.store.paths import RESULTS, Maker, Result, digest, part, run_folder, table
from twophase.study import Run, Study, runs

Keys = tuple[str, ...]
Code = tuple[str | Place, ...]  # modules of this package, and the user's own files


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
    section: str | None = None  # of a model; without it the model does without this stage
    code: Callable[[Run], Code] | None = None  # what makes a part; else the stage's own module
    summarised: Keys = ()  # tables of which there is a summary over all runs
    keeps_time: bool = False  # keeps its state every few minutes
    shared: bool = False  # its parts are shared out to several jobs of a run
    memory_mb: int = 4000
    minutes: int = 30


# What each stage's results are made by.


def _data_options(run: Run) -> dict:
    images = run.study.data.images
    return images.options(exclude=set(images.beside))


def _base_options(run: Run) -> list:
    # The length of training is not part of it: a longer run begins with the shorter one.
    model = run.model
    training = model.training.options(exclude={"iterations", "lr_drops"})
    drops = [drop for drop in model.training.lr_drops if drop < model.training.iterations]
    augmentation, compute = run.study.data.augmentation, run.study.compute
    network = model.network.options(exclude=networks.BESIDE)
    return [augmentation.options(), compute.options(), network, training, drops]


def _base_code(run: Run) -> Code:
    network, training = run.model.network, run.model.training
    return "training", "compute", *networks.code(network), optimizers.module(training)


# What is excluded is named, so that a new option counts until somebody says that it does not.


def _comparison_options(run: Run) -> list:
    elsewhere = {"forks", "compare", "directions", "control", "perturbation", "barrier_threshold"}
    barrier = run.model.chaos.options(exclude=elsewhere)
    return [barrier, run.model.evaluation.options()]


def _check_options(run: Run) -> list:
    study = run.study
    beside = {"network": networks.BESIDE}
    models = {name: m.brief().options(exclude=beside) for name, m in study.models.items()}
    return [study.data.augmentation.options(), study.compute.options(), models]


def _check_code(run: Run) -> Code:
    models = run.study.models.values()
    tried = [f"stages.{stage}" for stage in STAGES if runs_of(run.study, stage)]
    own = [each for model in models for each in networks.code(model.network)]
    return *tried, *own, *(optimizers.module(model.training) for model in models)


def _matching_options(run: Run) -> list:
    return [run.model.matching.options(exclude={"compare"}), _comparison_options(run)]


KERNEL_GRID = {"every", "until", "references", "intervals"}


def _linearized_options(run: Run) -> list:
    return [run.model.training.iterations, run.model.evaluation.options()]


# Parts.


def base_state(run: Run, t: int) -> Result:
    """The base run's state at iteration t."""
    return part("base", "state", run.identity, _maker("base", run), ".safetensors", t=t)


def fork_state(run: Run, t0: int, direction: str, t1: int) -> Result:
    """A fork's state at iteration t1."""
    point = {"t0": t0, "direction": direction, "t1": t1}
    return part("fork", "fork", run.identity, _maker("fork", run), ".safetensors", **point)


def perturbation(run: Run, t0: int, direction: str) -> Result:
    """A fork's perturbation, a table of one row; written when the fork has ended."""
    point = {"t0": t0, "direction": direction}
    return part("fork", "perturbation", run.identity, _maker("fork", run), ".parquet", **point)


def comparison(run: Run, t0: int, direction: str, t1: int) -> Result:
    """The comparison of a fork with its base run at t1, a table of one row."""
    point = {"t0": t0, "direction": direction, "t1": t1}
    return part("chaos", "comparison", run.identity, _maker("chaos", run), ".parquet", **point)


def kernel_file(run: Run, t: int) -> Result:
    """The kernel of the base run's state at iteration t."""
    return part("kernel", "kernel_matrix", run.identity, _maker("kernel", run), ".safetensors", t=t)


def curvature_at(run: Run, t: int) -> Result:
    """The curvature at iteration t, a table of one row."""
    maker = _maker("curvature", run)
    return part("curvature", "curvature_row", run.identity, maker, ".parquet", t=t)


def growth_part(run: Run, t0: int, precision: str) -> Result:
    """The steps from one t0 in one precision, a table."""
    point = {"t0": t0, "precision": precision}
    return part("growth", "growth_steps", run.identity, _maker("growth", run), ".parquet", **point)


def match(run: Run, t0: int, direction: str, t1: int) -> Result:
    """A fork matched with its base run at t1, a table of one row."""
    point = {"t0": t0, "direction": direction, "t1": t1}
    return part("matching", "match", run.identity, _maker("matching", run), ".parquet", **point)


def linearized_state(run: Run, switch: int, t: int) -> Result:
    """The linearised network's state at iteration t."""
    maker, point = _maker("linearized", run), {"switch": switch, "t": t}
    return part("linearized", "linearized_state", run.identity, maker, ".safetensors", **point)


def linearized_end(run: Run, switch: int) -> Result:
    """The end of linearised training from a switch on, a table of one row."""
    maker = _maker("linearized", run)
    return part("linearized", "switch", run.identity, maker, ".parquet", switch=switch)


def unfinished(kept: Result) -> Result:
    """The state between two kept ones that a stage leaves every few minutes; `kept` is one of
    those.
    """
    identity = {key: kept.identity[key] for key in kept.identity if key not in ("t", "t1")}
    return replace(kept, path=kept.path.with_name("unfinished.safetensors"), identity=identity)


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
        options=_data_options,
        parts=lambda run: [data_file(run.study)],
        grid=lambda run: None,
        code=lambda run: ("stages.data", datasets.module(run.study.data.images)),
        memory_mb=2000,
    ),
    "check": Stage(
        "Try all stages on two batches of each network, before any of them is trained.",
        scope="study",
        reads=("data",),
        tables={},
        options=_check_options,
        parts=lambda run: [check_mark(run.study)],
        grid=lambda run: None,
        code=_check_code,
        memory_mb=8000,
    ),
    "base": Stage(
        "Train one model from one seed.",
        scope="run",
        reads=("data",),
        tables={"training": ("t",)},
        options=_base_options,
        parts=lambda run: [base_state(run, t) for t in run.model.checkpoints()],
        grid=lambda run: [run.model.evaluation.options(), run.model.checkpoints()],
        code=_base_code,
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
        options=_comparison_options,
        parts=lambda run: [comparison(run, *point) for point in run.model.comparisons()],
        grid=lambda run: run.model.comparisons(),
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
        options=lambda run: run.model.kernel.options(exclude=KERNEL_GRID),
        parts=lambda run: [kernel_file(run, t) for t in run.model.kernel_steps()],
        grid=lambda run: run.model.kernel_steps(),
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
        section="trajectory",
        summarised=("trajectory",),
        memory_mb=4000,
        minutes=120,
    ),
    "matching": Stage(
        "Match the units of forks with those of their base run.",
        scope="run",
        reads=("base", "fork"),
        tables={"matching": ("direction", "t0", "t1")},
        options=_matching_options,
        parts=lambda run: [match(run, *point) for point in run.model.matching_points()],
        grid=lambda run: run.model.matching_points(),
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
        options=_linearized_options,
        parts=_linearized_parts,
        grid=lambda run: run.model.linearized.switches,
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


def data_file(study: Study) -> Result:
    """The data set of the study, in its canonical form."""
    maker, identity = _maker("data", runs(study)[0]), {"source": study.data.images.source}
    return table(RESULTS / study.name, "data", identity, maker, ".safetensors", "data")


def check_mark(study: Study) -> Result:
    """What shows that the networks of the study have passed `check`: a table of what was tried."""
    maker = _maker("check", runs(study)[0])
    return table(RESULTS / study.name, "check", {"study": study.name}, maker, ".parquet", "check")


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
    name = f"{name}_summary"
    result = table(RESULTS / study.name, name, identity, maker, ".parquet", "summary")
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
    return found


def job_fingerprint(stage: str, run: Run) -> str:
    """The fingerprint in the names of a job's files: that of its tables, or else of its parts."""
    row = STAGES[stage]
    if not row.tables:
        return _maker(stage, run).fingerprint
    if row.scope == "run":
        return table_maker(stage, run).fingerprint
    return digest([table_maker(stage, each) for each in runs_of(run.study, stage)])[:8]


@lru_cache(maxsize=4096)
def _cached(stage: str, study: Study, name: str) -> Maker:
    run, row = Run(study, name, study.seeds[0]), STAGES[stage]
    before = [_maker(each, run) for each in row.reads]
    modules = row.code(run) if row.code else (f"stages.{stage}",)
    return Maker(
        digest([row.options(run), [maker.options for maker in before]]),
        digest([digest_of(*modules), [maker.code for maker in before]]),
    )


def _maker(stage: str, run: Run) -> Maker:
    """What makes a stage's parts; the seed is no part of it."""
    return _cached(stage, run.study, run.name)


def table_maker(stage: str, run: Run) -> Maker:
    """What makes a stage's tables."""
    parts = _maker(stage, run)
    return Maker(
        digest([parts.options, STAGES[stage].grid(run)]),
        digest([parts.code, code_digest(f"stages.{stage}")]),
    )
