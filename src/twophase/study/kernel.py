"""The tangent kernel along a base run: section `kernel`, and the stages `kernel` and `cone`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from twophase.store.paths import Result
from twophase.study.base import BASE
from twophase.study.data import DATA
from twophase.study.records import Count, Iteration, Iterations, Mistakes, Section, must_rise, show
from twophase.study.run import Run
from twophase.study.stage import Stage, Work, part

GRID = {"every", "until", "times", "references", "intervals", "keep"}  # not what kernels are
# Inputs of a kernel at which products of all pairs cost as much as the passes through the network:
# some 120 for ResNet-20 and VGG-16 (docs/speed.md), more where layers are narrow.
PAIRS = 200


class Kernel(Section):
    """Kernels at these `times`, or every `every` iterations up to `until`, and the distances drawn
    from them.

    Inputs are `examples_per_class` training examples of each class, or where the task has no
    classes the first `examples`. Of next tokens the kernel is of the logits at the last position.
    With `projection` it is of so many random directions of the outputs, the same in all kernels.

    `references` are the tau of S(t, tau); `intervals` the dt of S(t, t + dt). Without `keep`, the
    kernels are deleted once their tables are there, and so are the states that only they ask for.
    """

    every: Count | None = None
    until: Count | None = None
    times: list[Iteration] = []
    examples_per_class: Count | None = None
    examples: Count | None = None
    projection: Count | None = None
    kind: Literal["full", "trace", "pseudo"]
    references: Iterations
    intervals: Annotated[list[Count], Field(min_length=1)]
    keep: bool = True
    least: ClassVar[dict[str, Any]] = {
        "every": 1,
        "until": 2,
        "times": [],
        "references": [0],
        "intervals": [1],
        "keep": True,
    }

    def brief(self) -> Self:
        """As of any section, with few examples of the kind that it says."""
        few = {"examples_per_class": 1, "examples": 2}
        given = {n: min(most, own) for n, most in few.items() if (own := getattr(self, n))}
        return super().brief().model_copy(update=given)

    def misfits(self, task: Any) -> Mistakes:
        """Inputs of another kind than the task has."""
        classes = task == "classification"
        kind, other = "examples_per_class", "examples"
        if not classes:
            kind, other = other, kind
        if (given := getattr(self, other)) is not None:
            yield other, f"= {given}: is of tasks with{'out' * classes} classes; must be {kind}"
        if getattr(self, kind) is None:
            yield kind, ": is missing"

    def steps(self) -> list[int]:
        """Iterations t whose kernel is computed."""
        return self.times or list(range(0, self.until + 1, self.every))

    def states(self, model: Any) -> set[int]:
        """The states whose kernel is computed."""
        return set(self.steps())

    def mistakes(self, model: Any) -> Mistakes:
        """A grid that training does not reach, references and intervals that lie between it."""
        for option in ("times", "references", "intervals"):
            yield from must_rise(option, getattr(self, option))
        if self.times and (self.every or self.until):
            yield (
                "times",
                f"= {show(self.times)}: takes the place of every and until; leave them out",
            )
        elif self.times:
            yield from self._of_times(model.training.iterations)
        elif not (self.every and self.until):
            lacks = "every" if self.every is None else "until"
            yield lacks, ": is missing; kernel.times may stand in the place of every and until"
        else:
            yield from self._of_grid(model.training.iterations)

    def _of_times(self, last: int) -> Mistakes:
        times = set(self.times)
        if max(times) > last:
            yield (
                "times",
                f"= {max(times)}: lies after the end of training; "
                f"must be at most training.iterations = {last}",
            )
        if len(times) < 3:
            yield "times", f"= {show(self.times)}: are fewer than three kernels"
        for tau in sorted(set(self.references) - times):
            yield "references", f"= {tau}: is no kernel's time; must be among kernel.times"
        for dt in self.intervals:
            if not any(t + dt in times for t in times):
                yield "intervals", f"= {dt}: joins no two of kernel.times"

    def _of_grid(self, last: int) -> Mistakes:
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


def kernel_steps(run: Run) -> list[int]:
    """Iterations t whose kernel is computed."""
    return run.among("kernel", run.model.kernel.steps())


def kernel_file(run: Run, t: int) -> Result:
    """The kernel of the base run's state at iteration t."""
    return part(KERNEL, "kernel_matrix", run, ".safetensors", t=t)


def inputs(run: Run) -> int:
    """The inputs of a kernel; of ten classes where their number is not known."""
    if run.model.kernel.examples:
        return run.model.kernel.examples
    classes = getattr(run.study.data.images, "classes", None) or 10
    return classes * run.model.kernel.examples_per_class


def _kernel_work(run: Run, part: Result) -> Work:
    """Passes through the network, and products of all pairs."""
    n = inputs(run)
    return Work(rest=n * (1 + n / PAIRS), disk=n**2)


def cone_work(run: Run, table: Result) -> Work:
    """Read each kernel, and find its eigenvalues; small ones are mostly read."""
    return Work(rest=len(kernel_steps(run)) * inputs(run) ** 2)


KERNEL = Stage(
    "kernel",
    "Compute the tangent kernels along a base run.",
    scope="run",
    reads=(BASE,),
    tables={"kernel": ("t",)},
    options=lambda run: run.model.kernel.options(exclude=GRID),
    parts=lambda run: [kernel_file(run, t) for t in kernel_steps(run)],
    grid=kernel_steps,
    work=_kernel_work,
    section="kernel",
    memory_mb=8000,
    minutes=1440,
)
CONE = Stage(
    "cone",
    "Measure the distances between a run's kernels.",
    scope="run",
    reads=(DATA, KERNEL),
    tables={
        "cone": ("t",),
        "kernel_content": ("t",),
        "kernel_distance": ("t", "u"),
        "kernel_projection": ("t",),
    },
    options=lambda run: max(run.model.kernel.intervals),
    parts=lambda run: [],
    grid=kernel_steps,
    work=cone_work,
    section="kernel",
    named=("the largest of kernel.intervals",),
    summarised=("kernel_distance", "kernel_content", "cone"),
    memory_mb=8000,
    minutes=120,
)
