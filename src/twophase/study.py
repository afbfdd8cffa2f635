"""A study: its sections as records, each with the checks that concern it.

`studyfile.load` reads one. Sections at the top of a study file hold for every model; a model may
override any key of them. No PyTorch here: the Snakefile reads studies each time a job starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from twophase.datasets import Images
from twophase.errors import StudyError
from twophase.networks import Network
from twophase.optimizers import Optimizer
from twophase.records import (
    Count,
    Iteration,
    Iterations,
    Mistakes,
    Positive,
    Record,
    must_rise,
)

STUDIES = Path("workflow/config")  # where the files of studies lie, in a checkout


class Augmentation(Record):
    """Random crop after zero padding by `shift` pixels, and random horizontal flip."""

    shift: Annotated[int, Field(ge=0)]
    flip: bool


class Data(Record):
    """Where the images come from, and how training augments them."""

    images: Images
    augmentation: Augmentation


class Evaluation(Record):
    """How many examples losses and accuracies are measured on (the first ones of each split)."""

    train_examples: Count
    test_examples: Count


class Perturbation(Record):
    """Gaussian noise on every parameter that is trained.

    `std`: elementwise standard deviation; `l2`: norm of the whole; `relative`: norm over the norm
    of the parameters.
    """

    kind: Literal["std", "l2", "relative"]
    size: Positive


class Chaos(Record):
    """Forks at every t0 of `forks`, compared with the base run at every later t1 of `compare`.

    `control` names the forks that are also run with a perturbation of zero.
    """

    forks: Iterations
    compare: Iterations
    directions: Annotated[int, Field(ge=1, le=1000)]
    control: list[Iteration]
    perturbation: Perturbation
    barrier_points: Annotated[int, Field(ge=3)]
    barrier_batch_norm: Literal["interpolate", "recalibrate"]
    barrier_threshold: Positive

    def mistakes(self, model: Model) -> Mistakes:
        """Forks and compare points that do not meet within the training."""
        for option in ("forks", "compare", "control"):
            yield from must_rise(option, getattr(self, option))
        last = model.training.iterations
        for t0 in self.forks:
            if t0 >= last:
                yield (
                    "forks",
                    f"= {t0}: forks at or after the end of training; "
                    f"must be less than training.iterations = {last}",
                )
            elif t0 >= max(self.compare):
                yield (
                    "forks",
                    f"= {t0}: no compare point follows this fork; "
                    f"chaos.compare ends at {max(self.compare)}",
                )
        for t1 in self.compare:
            if t1 > last:
                yield (
                    "compare",
                    f"= {t1}: lies after the end of training; "
                    f"must be at most training.iterations = {last}",
                )
            elif t1 <= min(self.forks):
                yield (
                    "compare",
                    f"= {t1}: no fork reaches this point; "
                    f"must be more than the first fork, {min(self.forks)}",
                )
        for t0 in sorted(set(self.control) - set(self.forks)):
            yield (
                "control",
                f"= {t0}: is not a fork; must be among chaos.forks = {self.forks}",
            )


class Kernel(Record):
    """Kernels every `every` iterations up to `until`, and the distances drawn from them.

    `references` are the tau of S(t, tau); `intervals` the dt of S(t, t + dt).
    """

    every: Count
    until: Count
    examples_per_class: Count
    kind: Literal["full", "trace", "pseudo"]
    references: Iterations
    intervals: Annotated[list[Count], Field(min_length=1)]

    def mistakes(self, model: Model) -> Mistakes:
        """A grid that training does not reach, references and intervals that lie between it."""
        yield from must_rise("references", self.references)
        yield from must_rise("intervals", self.intervals)
        last = model.training.iterations
        if self.until > last:
            yield (
                "until",
                f"= {self.until}: lies after the end of training; "
                f"must be at most training.iterations = {last}",
            )
        if self.until % self.every:
            yield (
                "until",
                f"= {self.until}: is not a kernel checkpoint; "
                f"must be a multiple of kernel.every = {self.every}",
            )
        if self.until < 2 * self.every:
            yield (
                "until",
                f"= {self.until}: leaves fewer than three kernels; "
                f"must be at least twice kernel.every = {self.every}",
            )
        on_grid = (
            f"must be a multiple of kernel.every = {self.every}, "
            f"at most kernel.until = {self.until}"
        )
        for tau in self.references:
            if tau % self.every or tau > self.until:
                yield "references", f"= {tau}: is not a kernel checkpoint; {on_grid}"
        for dt in self.intervals:
            if dt % self.every or dt > self.until:
                yield "intervals", f"= {dt}: joins no two kernel checkpoints; {on_grid}"


class Linearized(Record):
    """Train normally to each of `switches`, then the linearised network to the last iteration."""

    switches: Iterations

    def mistakes(self, model: Model) -> Mistakes:
        """Switches that leave nothing to train."""
        yield from must_rise("switches", self.switches)
        last = model.training.iterations
        for switch in self.switches:
            if switch >= last:
                yield (
                    "switches",
                    f"= {switch}: leaves no iteration to train; "
                    f"must be less than training.iterations = {last}",
                )


class Curvature(Record):
    """The training loss's largest Hessian eigenvalue and batch sharpness every `every` iterations.

    The first is measured on `examples` training examples by `lanczos_steps` steps of Lanczos, the
    second on the `batches` batches that follow.
    """

    every: Count
    examples: Count
    batches: Count = 4
    lanczos_steps: Count = 12

    def mistakes(self, model: Model) -> Mistakes:
        """A grid that training does not reach."""
        if self.every > model.training.iterations:
            yield (
                "every",
                f"= {self.every}: leaves only the start; "
                f"must be at most training.iterations = {model.training.iterations}",
            )


class Trajectory(Record):
    """The map of the base run's way through the space of parameters, at all its checkpoints."""


class Compute(Record):
    """Where and how numbers are computed; part of what makes a result."""

    device: Literal["cpu", "cuda"]
    threads: Count
    precision: Literal["float32", "tf32"]


def _given(value: object) -> object:
    # `chaos:` with nothing under it is a slip; a model does without by leaving it out, or `false`.
    if value is None:
        raise PydanticCustomError("model_type", "must be a section")
    return value


GIVEN = BeforeValidator(_given)


class Model(Record):
    """One network of the study with the sections that hold for it.

    A section that is optional here asks for its measurements; a study may do without any.
    """

    network: Network
    training: Optimizer
    evaluation: Evaluation
    chaos: Annotated[Chaos | None, GIVEN] = None
    kernel: Annotated[Kernel | None, GIVEN] = None
    linearized: Annotated[Linearized | None, GIVEN] = None
    curvature: Annotated[Curvature | None, GIVEN] = None
    trajectory: Annotated[Trajectory | None, GIVEN] = None

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
        if self.curvature:
            wanted |= set(self.curvature_steps())
        return sorted(wanted)


def too_many(model: Model, train: int | None, test: int | None, rarest: int | None) -> Mistakes:
    """Options of `model` that ask for more examples than there are: of training, of test, and of
    training of the rarest class. None where the number is not known yet.
    """
    kernel = model.kernel.examples_per_class if model.kernel else 0
    curvature = model.curvature.examples if model.curvature else 0
    for option, asked, most, those in (
        ("evaluation.train_examples", model.evaluation.train_examples, train, "all of them"),
        ("evaluation.test_examples", model.evaluation.test_examples, test, "all of them"),
        ("training.batch_size", model.training.batch_size, train, "all training examples"),
        ("curvature.examples", curvature, train, "all training examples"),
        ("kernel.examples_per_class", kernel, rarest, "the training examples of the rarest class"),
    ):
        if most is not None and asked > most:
            yield option, f"= {asked}: must be at most {most}, {those}"


# Of a study or a model; it stands in paths, and in the rules' wildcards.
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]


class Study(Record):
    """A whole study; `name` is the stem of its file."""

    name: Name
    title: Annotated[str, Field(min_length=1)]
    data: Data
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]
    compute: Compute

    # By identity, so that what is derived from a study can be cached.
    __hash__ = object.__hash__


def check_sizes(study: Study, models: Iterable[str], train: int, test: int, rarest: int) -> None:
    """Raise `StudyError` if one of these models asks for more examples than there are; numbers as
    in `too_many`.
    """
    lines = [
        f"{STUDIES / study.name}.yaml: models.{name}.{option} {line}"
        for name in models
        for option, line in too_many(study.models[name], train, test, rarest)
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

    @property
    def identity(self) -> dict[str, str | int]:
        """What stands in each of the run's tables and files."""
        return {"study": self.study.name, "model": self.name, "seed": self.seed}

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"


def runs(study: Study, section: str | None = None) -> list[Run]:
    """The base runs of a study: of all models, or of those that have the section."""
    return [
        Run(study, name, seed)
        for name, model in study.models.items()
        if section is None or getattr(model, section)
        for seed in study.seeds
    ]
