"""A study: its models, each with the sections that hold for it, and its base runs.

`studyfile.load` reads one. Sections at the top of a study file hold for every model; a model may
override any key of them. No PyTorch here: the Snakefile reads studies each time a job starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from twophase.errors import StudyError
from twophase.networks import Network
from twophase.optimizers import Optimizer
from twophase.records import GIVEN, Mistakes, Record
from twophase.sections import (
    AcrossSeeds,
    Chaos,
    Compute,
    Curvature,
    Data,
    Evaluation,
    Growth,
    Kernel,
    Linearized,
    Matching,
    Sizes,
    Trajectory,
)

# What a check leaves of a model's sections: two iterations, the smallest grids, few examples.
FEW = 16
BRIEF = {
    "training": {
        "iterations": 2,
        "batch_size": FEW,
        "lr_drops": [],
        "schedule": None,  # a warm-up may be longer
        "drop_last": True,
    },
    "evaluation": {"train_examples": FEW, "test_examples": FEW},
    "chaos": {
        "forks": [1],
        "compare": [2],
        "directions": 1,
        "control": [1],
        "barrier_points": 3,
        "barrier_threshold": 1.0,  # figures show it, no stage reads it
    },
    "sizes": {"values": [1e-3], "forks": [1]},
    "kernel": {
        "every": 1,
        "until": 2,
        "examples_per_class": 1,
        "references": [0],
        "intervals": [1],
    },
    "linearized": {"switches": [1]},
    "curvature": {"every": 2, "examples": FEW, "batches": 1, "lanczos_steps": 2},
    "growth": {"forks": [1], "steps": 1, "examples": FEW},
    "matching": {"compare": [2]},
}

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

    def brief(self) -> Model:
        """The same model in a trial of two iterations (see `stages/check.py`)."""
        sections = {}
        for name, options in BRIEF.items():
            if section := getattr(self, name):
                least = {
                    key: min(value, getattr(section, key)) if type(value) is int else value
                    for key, value in options.items()
                }
                sections[name] = section.model_copy(update=least)
        return self.model_copy(update=sections)

    def compare_points(self, t0: int) -> list[int]:
        """Iterations t1 at which the forks from t0 are compared with the base run."""
        return [t1 for t1 in self.chaos.compare if t1 > t0]

    def forks(self) -> list[tuple[int, str]]:
        """All forks as (t0, direction); the zero perturbation is the direction `control`."""
        directions = [str(d) for d in range(1, self.chaos.directions + 1)]
        return [
            (t0, direction)
            for t0 in self.chaos.forks
            for direction in directions + ["control"] * (t0 in self.chaos.control)
        ]

    def fork_shares(self, jobs: int) -> list[list[tuple[int, str]]]:
        """The forks, shared out to `jobs` jobs of about the same length."""
        forks = self.forks()
        length = [self.compare_points(t0)[-1] - t0 for t0, _ in forks]
        shares: list[list] = [[] for _ in range(jobs)]
        for index, fork in enumerate(forks):
            middle = sum(length[:index]) + length[index] / 2
            shares[int(jobs * middle / sum(length))].append(fork)
        return shares

    def comparisons(self) -> list[tuple[int, str, int]]:
        """All (t0, direction, t1) at which forks are compared, base state by base state."""
        forks = self.forks()
        return [(t0, d, t1) for t1 in self.chaos.compare for t0, d in forks if t0 < t1]

    def matching_points(self) -> list[tuple[int, str, int]]:
        """All (t0, direction, t1) at which perturbed forks are matched with the base run."""
        compare = self.matching.compare or self.chaos.compare[-1:]
        return [p for p in self.comparisons() if p[1] != "control" and p[2] in compare]

    def other_sizes(self) -> list[float]:
        """The sizes of perturbations that are not that of `chaos`."""
        return [size for size in self.sizes.values if size != self.chaos.perturbation.size]

    def size_points(self) -> list[tuple[int, str, int]]:
        """All (t0, direction, t1) at which forks are compared for each size of perturbation."""
        forks, last = self.sizes.forks or self.chaos.forks, self.chaos.compare[-1]
        return [(t0, d, last) for t0, d in self.forks() if t0 in forks and d != "control"]

    def linearized_steps(self, switch: int) -> list[int]:
        """Iterations at which the linearised network's state is kept: soon after the switch, so
        that a sample of the work can be repeated (see `commands/adopt.py`), and at the end.
        """
        stop = self.training.iterations
        return [min(switch + 10, stop - 1), stop] if stop - switch > 1 else [stop]

    def growth_points(self) -> list[tuple[int, str]]:
        """All (t0, precision) from which base run and forks are trained side by side."""
        return [(t0, each) for t0 in self.growth.forks for each in self.growth.precisions]

    def kernel_steps(self) -> list[int]:
        """Iterations t whose kernel is computed."""
        return list(range(0, self.kernel.until + 1, self.kernel.every))

    def curvature_steps(self) -> list[int]:
        """Iterations t at which the curvature is measured."""
        return list(range(0, self.training.iterations + 1, self.curvature.every))

    def checkpoints(self) -> list[int]:
        """Iterations at which the base run keeps its state: every one that a later stage reads."""
        wanted = {0, self.training.iterations}
        if self.chaos:
            wanted |= {*self.chaos.forks, *self.chaos.compare}
        if self.kernel:
            wanted |= set(self.kernel_steps())
        if self.linearized:
            wanted |= set(self.linearized.switches)
        if self.growth:
            wanted |= set(self.growth.forks)
        if self.curvature:
            wanted |= set(self.curvature_steps())
        return sorted(wanted)


def misfits(model: Model, train: int | None, test: int | None, rarest: int | None) -> Mistakes:
    """Options of `model` that do not fit the numbers of examples: of training, of test, and of
    training of the rarest class. None where the number is not known yet.
    """
    kernel = model.kernel.examples_per_class if model.kernel else 0
    curvature = model.curvature.examples if model.curvature else 0
    growth = model.growth.examples if model.growth else 0
    for option, asked, most, those in (
        ("evaluation.train_examples", model.evaluation.train_examples, train, "all of them"),
        ("evaluation.test_examples", model.evaluation.test_examples, test, "all of them"),
        ("training.batch_size", model.training.batch_size, train, "all training examples"),
        ("curvature.examples", curvature, train, "all training examples"),
        ("growth.examples", growth, train, "all training examples"),
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

    # By identity, so that what is derived from a study can be cached.
    __hash__ = object.__hash__


def check_sizes(study: Study, models: Iterable[str], train: int, test: int, rarest: int) -> None:
    """Raise `StudyError` if one of these models does not fit the numbers of examples, as in
    `misfits`.
    """
    lines = [
        f"{STUDIES / study.name}.yaml: {option} {line} (model {name})"
        for name in models
        for option, line in misfits(study.models[name], train, test, rarest)
    ]
    if lines:
        raise StudyError("\n".join(lines))


@dataclass(frozen=True)
class Run:
    """One base run of a study, with all that starts from it."""

    study: Study
    name: str  # of the model
    seed: int

    @property
    def model(self) -> Model:
        """The model's network and sections."""
        return self.study.models[self.name]

    def of_size(self, size: float) -> Run:
        """The run with the forks that the section `sizes` asks for, perturbed by this size."""
        return Run(_of_size(self.study, self.name, size), self.name, self.seed)

    @property
    def identity(self) -> dict[str, str | int]:
        """What stands in each of the run's tables."""
        return {"study": self.study.name, "model": self.name, "seed": self.seed}

    @property
    def shared(self) -> dict[str, str | int]:
        """What stands in each of the parts that its stages keep: in place of a swept model the one
        that the sweep is of, so that what is equal is there once.
        """
        swept = self.study.sweep.get(self.name)
        return self.identity | ({"model": swept.of} if swept else {})

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"


@lru_cache(maxsize=1024)  # so that what makes its results is found out once
def _of_size(study: Study, name: str, size: float) -> Study:
    model = study.models[name]
    chaos = {
        "forks": model.sizes.forks or model.chaos.forks,
        "compare": model.chaos.compare[-1:],
        "control": [],
        "perturbation": model.chaos.perturbation.model_copy(update={"size": size}),
    }
    sections = dict(model) | {"chaos": model.chaos.model_copy(update=chaos)}
    return study.model_copy(update={"models": {name: Model.model_construct(**sections)}})


def runs(study: Study, section: str | None = None) -> list[Run]:
    """The base runs of a study: of all models, or of those that have the section."""
    return [
        Run(study, name, seed)
        for name, model in study.models.items()
        if section is None or getattr(model, section)
        for seed in study.seeds
    ]
