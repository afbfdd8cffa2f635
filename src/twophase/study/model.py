"""A study: its models, each with the sections that hold for it; and the table of stages.

`studyfile.load` reads one. Sections at the top of a study file hold for every model; a model may
override any key of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from twophase.errors import StudyError
from twophase.study.across_seeds import ACROSS_SEEDS, AcrossSeeds
from twophase.study.assumed import MOST_EXAMPLES
from twophase.study.base import BASE, Evaluation
from twophase.study.chaos import CHAOS, FORK, Chaos
from twophase.study.check import CHECK
from twophase.study.compute import Compute
from twophase.study.curvature import CURVATURE, Curvature
from twophase.study.data import DATA, Data
from twophase.study.growth import GROWTH, Growth
from twophase.study.kernel import CONE, KERNEL, Kernel
from twophase.study.linearized import LINEARIZED, Linearized
from twophase.study.matching import MATCHING, Matching
from twophase.study.networks import Network
from twophase.study.optimizers import Optimizer
from twophase.study.own import OWN_MEASURES, OWN_STAGES, Figures, Measures, Stages
from twophase.study.records import GIVEN, Mistakes, Record, Section
from twophase.study.sizes import SIZES, Sizes
from twophase.study.stage import Stage
from twophase.study.trajectory import TRAJECTORY, Trajectory

# The stages, in the order of the work.
STAGES: dict[str, Stage] = {
    row.name: row
    for row in (
        DATA,
        CHECK,
        BASE,
        FORK,
        CHAOS,
        SIZES,
        KERNEL,
        CONE,
        ACROSS_SEEDS,
        CURVATURE,
        GROWTH,
        TRAJECTORY,
        MATCHING,
        LINEARIZED,
        OWN_MEASURES,
        OWN_STAGES,
    )
}
# The stages that read what a study need not keep: kernels, and the states that only they ask for.
READ_BY = {"base": ("kernel", "trajectory"), "kernel": ("cone", "across_seeds")}
STUDIES = Path("workflow/config")  # where the files of studies lie, in a checkout


class Model(Record):
    """One network of the study with the sections that hold for it.

    A section that is optional here asks for its measurements; a study may do without any.
    """

    network: Network
    training: Optimizer
    evaluation: Evaluation
    chaos: Annotated[Chaos | None, GIVEN] = None
    sizes: Annotated[Sizes | None, GIVEN] = None
    kernel: Annotated[Kernel | None, GIVEN] = None
    across_seeds: Annotated[AcrossSeeds | None, GIVEN] = None
    linearized: Annotated[Linearized | None, GIVEN] = None
    curvature: Annotated[Curvature | None, GIVEN] = None
    trajectory: Annotated[Trajectory | None, GIVEN] = None
    growth: Annotated[Growth | None, GIVEN] = None
    matching: Annotated[Matching | None, GIVEN] = None
    measures: Annotated[Measures | None, GIVEN] = None
    stages: Annotated[Stages | None, GIVEN] = None

    def sections(self) -> dict[str, Section]:
        """The sections that the model has, by name."""
        return {name: value for name, value in self if isinstance(value, Section)}

    def checkpoints(self) -> list[int]:
        """Iterations whose state something of the model asks for."""
        asked = [section.states(self) for section in self.sections().values()]
        last = self.training.iterations  # in a trial fewer than stages of the user's own ask for
        asked += [{min(t, last) for t in own.at or ()} for own in (self.stages or {}).values()]
        return sorted({0, last}.union(*asked))

    def passing(self) -> set[int]:
        """Those of them that only kernels ask for, of a model that does not keep these."""
        if self.kernel is None or self.kernel.keep:
            return set()
        others = [section for name, section in self.sections().items() if name != "kernel"]
        asked = [section.states(self) for section in others]
        asked += [set(own.at or ()) for own in (self.stages or {}).values()]
        return self.kernel.states(self) - {0, self.training.iterations}.union(*asked)

    def brief(self) -> Model:
        """The same model in a trial of two iterations (see `stages/check.py`)."""
        return self.model_copy(update={n: each.brief() for n, each in self.sections().items()})


def misfits(model: Model, train: int | None, test: int | None, rarest: int | None) -> Mistakes:
    """Options of `model` that do not fit the numbers of examples: of training, of test, and of
    training of the rarest class. None where the number is not known yet.
    """
    kernel = model.kernel.examples_per_class or 0 if model.kernel else 0
    curvature = model.curvature.examples if model.curvature else 0
    growth = model.growth.examples if model.growth else 0
    inputs = model.kernel.examples or 0 if model.kernel else 0
    for option, asked, most, those in (
        ("evaluation.train_examples", model.evaluation.train_examples, train, "all of them"),
        ("evaluation.test_examples", model.evaluation.test_examples, test, "all of them"),
        ("training.batch_size", model.training.batch_size, train, "all training examples"),
        ("curvature.examples", curvature, train, "all training examples"),
        ("growth.examples", growth, train, "all training examples"),
        ("kernel.examples", inputs, train, "all training examples"),
        ("kernel.examples_per_class", kernel, rarest, "the training examples of the rarest class"),
    ):
        if most is not None and asked > most:
            yield option, f"= {asked}: must be at most {most}, {those}"


# Of a study or a model; it stands in paths, and in the rules' wildcards.
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]


class Swept(Record):
    """What a model of a sweep is: one `of` the file's models, with these `values` of options."""

    of: str
    values: dict[str, Any]


class Study(Record):
    """A whole study; `name` is the stem of its file. `sweep` is empty, or names all models."""

    name: Name
    title: Annotated[str, Field(min_length=1)]
    data: Data
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]
    compute: Compute
    sweep: dict[str, Swept] = {}
    figures: Figures = {}

    # By identity, so that what is derived from a study can be cached.
    __hash__ = object.__hash__


def check_sizes(
    study: Study, models: Iterable[str], train: int, test: int, rarest: int | None
) -> None:
    """Raise `StudyError` if one of these models does not fit the numbers of examples, as in
    `misfits`.
    """
    lines = [
        f"{STUDIES / study.name}.yaml: {option} {line} (model {name})"
        for name in models
        for option, line in misfits(study.models[name], train, test, rarest)
    ]
    uncounted = getattr(study.data.images, "train_examples", 0) is None
    if lines and uncounted and any(f"= {MOST_EXAMPLES}:" in line for line in lines):
        lines.append(
            f"{STUDIES / study.name}.yaml: data.images: what a study does not say is assumed for "
            f"many examples where it does not say their numbers; give train_examples: {train} and "
            f"test_examples: {test}"
        )
    if lines:
        raise StudyError("\n".join(lines))
