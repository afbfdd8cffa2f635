"""Base run and forks side by side, step by step: section and stage `growth`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from twophase.store.paths import Result
from twophase.study.base import BASE
from twophase.study.records import FEW, Count, Iterations, Mistakes, Section, must_rise
from twophase.study.run import Run
from twophase.study.stage import Stage, Work, part


class Growth(Section):
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
    least: ClassVar[dict[str, Any]] = {"forks": [1], "steps": 1, "examples": FEW}

    def states(self, model: Any) -> set[int]:
        """Where base run and forks start."""
        return set(self.forks)

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


def growth_points(run: Run) -> list[tuple[int, str]]:
    """All (t0, precision) from which base run and forks are trained side by side."""
    growth = run.model.growth
    return [(t0, each) for t0 in growth.forks for each in growth.precisions]


def growth_part(run: Run, t0: int, precision: str) -> Result:
    """The steps from one t0 in one precision, a table."""
    return part(GROWTH, "growth_steps", run, ".parquet", t0=t0, precision=precision)


def _work(run: Run, part: Result) -> Work:
    """Steps of the base run and of each fork, one more than are looked at."""
    options = run.model.growth
    return Work((options.steps + 1) * (1 + len(options.perturbations)))


GROWTH = Stage(
    "growth",
    "Train base run and forks side by side, step by step.",
    scope="run",
    reads=(BASE,),
    tables={
        "growth": ("t0", "precision", "perturbation", "step"),
        "growth_rate": ("t0", "precision", "perturbation"),
    },
    options=lambda run: run.model.growth.options(exclude={"forks", "precisions"}),
    parts=lambda run: [growth_part(run, *point) for point in growth_points(run)],
    grid=growth_points,
    work=_work,
    section="growth",
    summarised=("growth_rate",),
    minutes=720,
)
