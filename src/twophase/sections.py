"""The sections of a study, as records, each with the checks that concern it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from twophase.datasets import Images
from twophase.records import (
    GIVEN,
    Count,
    Iteration,
    Iterations,
    Mistakes,
    Number,
    Positive,
    Record,
    must_rise,
    show,
)


class Augmentation(Record):
    """Random crop after zero padding by `shift` pixels, random horizontal flip, and a square of
    `cutout` x `cutout` pixels around a random one that is 0 after normalisation (DeVries and Taylor
    2017).
    """

    shift: Annotated[int, Field(ge=0)]
    flip: bool
    cutout: Annotated[int, Field(ge=0)] = 0


class Statistics(Record):
    """Mean and standard deviation of each channel, where 0 is black and 1 white."""

    mean: Annotated[list[Annotated[Number, Field(ge=0, le=1)]], Field(min_length=1)]
    std: Annotated[list[Positive], Field(min_length=1)]


class Data(Record):
    """Where the images come from, how their channels are brought to mean 0 and deviation 1, and how
    training augments them. Without `statistics` these are measured on the training images.
    """

    images: Images
    statistics: Annotated[Statistics | None, GIVEN] = None
    augmentation: Augmentation

    def mistakes(self, model: Any) -> Mistakes:
        """Statistics of other channels, and a cut-out that is larger than an image."""
        channels, size = self.images.channels, self.images.image_size
        for option in ("mean", "std") if self.statistics else ():
            given = getattr(self.statistics, option)
            if len(given) != channels:
                line = f"must have a number for each channel of data.images, {channels}"
                yield f"statistics.{option}", f"= {show(given)}: {line}"
        if self.augmentation.cutout > size:
            line = f"= {self.augmentation.cutout}: must be at most the images' {size} pixels"
            yield "augmentation.cutout", line


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

    def mistakes(self, model: Any) -> Mistakes:
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


class Sizes(Record):
    """Forks of `chaos` after perturbations of other sizes, compared with the base run at the last
    of `chaos.compare`.

    `values` are of the kind that `chaos.perturbation` says; its own size is always among them.
    `forks` are some of `chaos.forks`, and without it all of them.
    """

    values: Annotated[list[Positive], Field(min_length=1)]
    forks: Iterations | None = None

    def mistakes(self, model: Any) -> Mistakes:
        """Sizes that are there twice, and forks that `chaos` does not have."""
        yield from must_rise("values", self.values)
        yield from must_rise("forks", self.forks or [])
        for t0 in sorted(set(self.forks or []) - set(model.chaos.forks)):
            yield (
                "forks",
                f"= {t0}: is not a fork; must be among chaos.forks = {model.chaos.forks}",
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

    def mistakes(self, model: Any) -> Mistakes:
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


class AcrossSeeds(Record):
    """The angles between the kernels of different seeds at the same iteration: what two runs of one
    network share, beside what one run's kernels share.
    """


class Linearized(Record):
    """Train normally to each of `switches`, then the linearised network to the last iteration."""

    switches: Iterations

    def mistakes(self, model: Any) -> Mistakes:
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

    def mistakes(self, model: Any) -> Mistakes:
        """A grid that training does not reach."""
        if self.every > model.training.iterations:
            yield (
                "every",
                f"= {self.every}: leaves only the start; "
                f"must be at most training.iterations = {model.training.iterations}",
            )


class Growth(Record):
    """Base run and forks side by side for `steps` iterations from each t0 of `forks`.

    `perturbations` are standard deviations of Gaussian noise (such as "1e-7"), `ulp`, one unit in
    the last place of one parameter, or `noise`, other SGD noise. Networks are compared on the
    first `examples` training examples.
    """

    forks: Iterations
    steps: Count
    examples: Count
    perturbations: Annotated[
        list[Annotated[str, Field(pattern=r"^(ulp|noise|\d+(\.\d+)?(e-?\d+)?)$")]],
        Field(min_length=1),
    ] = ["1e-7", "ulp", "noise"]
    precisions: Annotated[list[Literal["float32", "float64"]], Field(min_length=1)] = [
        "float32",
        "float64",
    ]

    def mistakes(self, model: Any) -> Mistakes:
        """Forks after the end of training."""
        yield from must_rise("forks", self.forks)
        last = model.training.iterations
        for t0 in self.forks:
            if t0 > last:
                yield (
                    "forks",
                    f"= {t0}: lies after the end of training; "
                    f"must be at most training.iterations = {last}",
                )


class Trajectory(Record):
    """The map of the base run's way through the space of parameters, at all its checkpoints."""


class Matching(Record):
    """Forks of `chaos` after a permutation of their units that brings them next to the base run,
    at every t1 of `compare`; without it, at the last of `chaos.compare`. The search goes over all
    layers at most `sweeps` times.
    """

    compare: Iterations | None = None
    sweeps: Count = 100

    def mistakes(self, model: Any) -> Mistakes:
        """Compare points that forks do not have."""
        yield from must_rise("compare", self.compare or [])
        for t1 in sorted(set(self.compare or []) - set(model.chaos.compare)):
            yield (
                "compare",
                f"= {t1}: is no compare point; must be among chaos.compare = {model.chaos.compare}",
            )


class Compute(Record):
    """Where and how numbers are computed; part of what makes a result.

    `tf32` is how PyTorch computes convolutions on a GPU unless told otherwise; kernels are computed
    in float32 even so.
    """

    device: Literal["cpu", "cuda"]
    threads: Count
    precision: Literal["float32", "tf32"]

    def of_kernels(self) -> Compute:
        """The same, never in TF32: its 11 bits are too few for the kernel's check of itself."""
        return self.model_copy(update={"precision": "float32"})
