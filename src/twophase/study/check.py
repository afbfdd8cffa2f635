"""The stage `check`: all networks of a study are tried before any of them is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twophase.store.paths import RESULTS, Result, table
from twophase.study import networks, optimizers, perturbations
from twophase.study.data import DATA
from twophase.study.own import check_code
from twophase.study.run import Run, runs
from twophase.study.stage import Code, Stage, Work, part_maker

if TYPE_CHECKING:
    from twophase.study.model import Model, Study


def check_mark(study: Study) -> Result:
    """What shows that the networks of the study have passed `check`: a table of what was tried."""
    maker = part_maker(CHECK, runs(study)[0])
    return table(RESULTS / study.name, "check", {"study": study.name}, maker, ".parquet", "check")


def _options(run: Run) -> list:
    """All models of the study, in brief."""
    study = run.study
    models = {name: _brief(model) for name, model in study.models.items()}
    return [study.data.augmentation.options(), study.compute.options(), models]


def _brief(model: Model) -> dict:
    """What is tried of a model. Functions that perturb are called where the study calls them."""
    said, chaos = model.brief().options(exclude={"network": networks.BESIDE}), model.chaos
    if chaos and any(kind.kind == "own" for kind in chaos.kinds().values()):
        growth = model.growth.forks if model.growth else []
        said["perturbed"] = [chaos.forks, chaos.directions, growth]
    return said


def _code(run: Run) -> Code:
    from twophase.study.model import STAGES  # late: it tries all other stages

    models = run.study.models.values()
    tried = [f"stages.{name}" for name, row in STAGES.items() if runs(run.study, row.section)]
    own = [each for model in models for each in networks.code(model.network)]
    kinds = [kind for model in models if model.chaos for kind in model.chaos.kinds().values()]
    own += [each for kind in kinds for each in perturbations.code(kind)]
    own += check_code(run.study)
    return *tried, *own, *(optimizers.module(model.training) for model in models)


CHECK = Stage(
    "check",
    "Try all stages on two batches of each network, before any of them is trained.",
    scope="study",
    reads=(DATA,),
    tables={},
    options=_options,
    parts=lambda run: [check_mark(run.study)],
    grid=lambda run: None,
    work=lambda run, part: Work(),
    code=_code,
    named=("data.augmentation", "compute", "models"),
    memory_mb=8000,
)
