"""Base run and forks side by side, step by step: section and stage `growth`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from twophase.store.paths import Result
from twophase.study import perturbations
from twophase.study.base import BASE
from twophase.study.perturbations import NAME, Kind, Perturbation
from twophase.study.records import (
    FEW,
    GIVEN,
    Count,
    Iterations,
    Mistakes,
    Section,
    must_rise,
    show,
    written,
)
from twophase.study.run import Run
from twophase.study.stage import Code, Stage, Work, part

OWN = ("ulp", "noise", "control")  # perturbations that have no record
PATTERN = rf"^({NAME}|\d+(\.\d+)?(e-?\d+)?)$"


def _name(value: Any) -> Any:
    """A number without quotes by the name that it has with them."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return written(value) if number else value


class Growth(Section):
    """Base run and forks side by side for `steps` iterations from each t0 of `forks`.

    `perturbations` are standard deviations of Gaussian noise (such as "1e-7"), `ulp`, one unit in
    the last place of one parameter, `noise`, other SGD noise, or names of `chaos.perturbations`, of
    which the first direction is taken; `control` is none, and parts from nothing. Both are trained
    in each of `precisions`, from the base run's state at t0: in float64 noise may be far below what
    float32 resolves. Networks are compared on the first `examples` training examples; with
    `barrier_points` also by the test loss barrier after the last step, at as many places.
    """

    forks: Iterations
    steps: Count
    examples: Count
    perturbations: Annotated[
        list[Annotated[str, BeforeValidator(_name), Field(pattern=PATTERN)]],
        Field(min_length=1),
    ] = ["1e-7", "ulp", "noise"]
    precisions: Annotated[list[Literal["float32", "float64"]], Field(min_length=1)] = [
        "float32",
        "float64",
    ]
    barrier_points: Annotated[
        Annotated[int, Field(ge=3)] | None,
        GIVEN,
        Field(
            description="Places of the path from fork to base run after the last step, at which "
            "the test loss is taken; without it there is no barrier.",
            examples=[11],
        ),
    ] = None
    least: ClassVar[dict[str, Any]] = {"forks": [1], "steps": 1, "examples": FEW}

    def states(self, model: Any) -> set[int]:
        """Where base run and forks start."""
        return set(self.forks)

    def mistakes(self, model: Any) -> Mistakes:
        """Forks after the end of training, and names of no perturbation, or of two."""
        known = model.chaos.perturbations if model.chaos else {}
        for name in self.perturbations:
            if name[0].isalpha() and name not in (*OWN, *known):
                names = ", ".join(known) or "which names none"
                allowed = f"{', '.join(OWN)}, a number, or one of chaos.perturbations, {names}"
                yield "perturbations", f"= {show(name)}: must be {allowed}"
            elif name[0].isdigit() and float(name) == 0:
                yield "perturbations", f"= {show(name)}: must be more than 0"
            elif name in OWN and name in known and "perturbations" in self.model_fields_set:
                line = "is growth's own; call that of chaos.perturbations otherwise"
                yield "perturbations", f"= {show(name)}: {line}"
        yield from must_rise("forks", self.forks)
        last = model.training.iterations
        for t0 in self.forks:
            if t0 > last:
                yield (
                    "forks",
                    f"= {t0}: lies after the end of training; "
                    f"must be at most training.iterations = {last}",
                )


def growth_kind(run: Run, name: str) -> Kind | None:
    """The perturbation of this name; None of growth's own."""
    if name in OWN:
        return None
    if name[0].isdigit():
        return Perturbation(kind="std", size=float(name))
    return run.model.chaos.perturbations[name]


def _kinds(run: Run) -> dict[str, Kind]:
    """The perturbations by name, without growth's own."""
    found = {name: growth_kind(run, name) for name in run.model.growth.perturbations}
    return {name: kind for name, kind in found.items() if kind}


def _options(run: Run) -> dict:
    """The section, and what it names of `chaos`."""
    named = {name: k.options() for name, k in _kinds(run).items() if not name[0].isdigit()}
    own = run.model.growth.options(exclude={"forks", "precisions"})
    if run.model.growth.barrier_points:
        own |= {"evaluation": run.model.evaluation.options()}
    return own | ({"named": named} if named else {})


def _code(run: Run) -> Code:
    kinds = _kinds(run).values()
    return "stages.growth", *(each for kind in kinds for each in perturbations.code(kind))


def growth_points(run: Run) -> list[tuple[int, str]]:
    """All (t0, precision) from which base run and forks are trained side by side."""
    growth = run.model.growth
    return [(t0, each) for t0 in growth.forks for each in growth.precisions]


def growth_part(run: Run, t0: int, precision: str) -> Result:
    """The steps from one t0 in one precision, a table."""
    return part(GROWTH, "growth_steps", run, ".parquet", t0=t0, precision=precision)


def _work(run: Run, part: Result) -> Work:
    """Steps of the base run and of each fork."""
    options = run.model.growth
    return Work(options.steps * (1 + len(options.perturbations)))


GROWTH = Stage(
    "growth",
    "Train base run and forks side by side, step by step.",
    scope="run",
    reads=(BASE,),
    tables={
        "growth": ("t0", "precision", "perturbation", "step"),
        "growth_rate": ("t0", "precision", "perturbation"),
    },
    options=_options,
    code=_code,
    parts=lambda run: [growth_part(run, *point) for point in growth_points(run)],
    grid=growth_points,
    work=_work,
    section="growth",
    summarised=("growth_rate",),
    minutes=720,
)
