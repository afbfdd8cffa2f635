"""The curvature of the training loss: section and stage `curvature`."""

from __future__ import annotations

from typing import Any, ClassVar

from twophase.store.paths import Result
from twophase.study.base import BASE
from twophase.study.records import FEW, Count, Mistakes, Section
from twophase.study.run import Run
from twophase.study.stage import Stage, Work, part


class Curvature(Section):
    """The training loss's largest Hessian eigenvalue and batch sharpness every `every` iterations.

    The first is measured on `examples` training examples by `lanczos_steps` steps of Lanczos, the
    second on the `batches` batches that follow.
    """

    every: Count
    examples: Count
    batches: Count = 4
    lanczos_steps: Count = 12
    least: ClassVar[dict[str, Any]] = {
        "every": 2,
        "examples": FEW,
        "batches": 1,
        "lanczos_steps": 2,
    }

    def states(self, model: Any) -> set[int]:
        """The states at which the curvature is measured."""
        return set(range(0, model.training.iterations + 1, self.every))

    def mistakes(self, model: Any) -> Mistakes:
        """A grid that training does not reach."""
        if self.every > model.training.iterations:
            yield (
                "every",
                f"= {self.every}: leaves only the start; "
                f"must be at most training.iterations = {model.training.iterations}",
            )


def curvature_steps(run: Run) -> list[int]:
    """Iterations t at which the curvature is measured."""
    return sorted(run.model.curvature.states(run.model))


def curvature_at(run: Run, t: int) -> Result:
    """The curvature at iteration t, a table of one row."""
    return part(CURVATURE, "curvature_row", run, ".parquet", t=t)


def _work(run: Run, part: Result) -> Work:
    """Passes for gradients with their graph, three times as many for a product with the Hessian."""
    options, batch = run.model.curvature, run.model.training.batch_size
    return Work(
        rest=options.examples * (1 + 3 * options.lanczos_steps) + 4 * batch * options.batches
    )


CURVATURE = Stage(
    "curvature",
    "Measure how sharply the training loss bends along a base run.",
    scope="run",
    reads=(BASE,),
    tables={"curvature": ("t",)},
    options=lambda run: run.model.curvature.options(exclude={"every"}),
    parts=lambda run: [curvature_at(run, t) for t in curvature_steps(run)],
    grid=curvature_steps,
    work=_work,
    section="curvature",
    summarised=("curvature",),
    minutes=720,
)
