"""Perturbations of other sizes: section and stage `sizes`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from twophase.store.paths import Result
from twophase.study.base import BASE
from twophase.study.chaos import (
    CHAOS,
    FORK,
    GAPS,
    PERTURBED,
    comparison_work,
    fork_work,
    forks,
    named,
)
from twophase.study.perturbations import Kind
from twophase.study.records import Iterations, Mistakes, Positive, Section, must_rise, show
from twophase.study.run import Run
from twophase.study.stage import Stage, Work

if TYPE_CHECKING:
    from twophase.study.model import Model, Study


class Sizes(Section):
    """Forks of `chaos` after perturbations of other sizes, compared with the base run where these
    end.

    `values` are of the kind that `chaos.perturbation` says; its own size is always among them. Of
    several perturbations, `perturbation` names the one; without it, it is the first that has a
    size. `forks` are some of `chaos.forks`, and without it all of them.
    """

    values: Annotated[list[Positive], Field(min_length=1)]
    forks: Iterations | None = None
    perturbation: str | None = None
    least: ClassVar[dict[str, Any]] = {"values": [1e-3], "forks": [1]}

    def mistakes(self, model: Any) -> Mistakes:
        """Sizes that are there twice, and what `chaos` does not have: forks, a perturbation."""
        kinds = {name: k for name, k in model.chaos.kinds().items() if hasattr(k, "size")}
        known = f"must be one that has a size: {', '.join(filter(None, kinds)) or 'none'}"
        if self.perturbation is not None and self.perturbation not in (kinds.keys() - {""}):
            yield "perturbation", f"= {show(self.perturbation)}: {known}"
        elif not kinds and any(model.chaos.kinds().values()):
            yield "values", f"= {show(self.values)}: no perturbation of chaos has a size"
        yield from must_rise("values", self.values)
        yield from must_rise("forks", self.forks or [])
        for t0 in sorted(set(self.forks or []) - set(model.chaos.forks)):
            yield (
                "forks",
                f"= {t0}: is not a fork; must be among chaos.forks = {model.chaos.forks}",
            )


def sized(model: Model) -> Kind:
    """The perturbation whose sizes are tried."""
    return model.chaos.kinds()[sized_name(model)]


def sized_name(model: Model) -> str:
    """Its name, "" of the only one."""
    named = (name for name, kind in model.chaos.kinds().items() if hasattr(kind, "size"))
    return model.sizes.perturbation or next(named)


def other_sizes(run: Run) -> list[float]:
    """The sizes of perturbations that are not that of `chaos`."""
    size = sized(run.model).size
    return [other for other in run.model.sizes.values if other != size]


def size_points(run: Run) -> list[tuple[int, str, int]]:
    """All (t0, direction, t1) at which forks are compared for each size of perturbation."""
    model = run.model
    chosen, ends = model.sizes.forks or model.chaos.forks, model.chaos.ends()
    name = sized_name(model) or PERTURBED
    return [(t0, d, ends[t0]) for t0, d in forks(run) if t0 in chosen and named(d) == name]


def of_size(run: Run, size: float) -> Run:
    """The run with the forks that the section `sizes` asks for, perturbed by this size of the one
    perturbation.
    """
    only = () if run.model.chaos.perturbations else run.only
    return replace(run, study=_of_size(run.study, run.name, size), only=only)


@lru_cache(maxsize=1024)  # so that what makes its results is found out once
def _of_size(study: Study, name: str, size: float) -> Study:
    model = study.models[name]
    update = {
        "forks": model.sizes.forks or model.chaos.forks,
        "compare": model.chaos.compare[-1:],
        "follow": model.chaos.follow[-1:],
        "control": [],
        "perturbation": sized(model).model_copy(update={"size": size}),
        "perturbations": {},
    }
    other = model.model_copy(update={"chaos": model.chaos.model_copy(update=update)})
    return study.model_copy(update={"models": {name: other}})


def _parts(run: Run) -> list[Result]:
    # Those that `fork` and `chaos` leave for a study with another size of perturbation.
    others = [of_size(run, size) for size in other_sizes(run)]
    return [part for other in others for stage in (FORK, CHAOS) for part in stage.parts(other)]


def _work(run: Run, part: Result) -> Work:
    """As of the forks and comparisons that it is one of."""
    other = of_size(run, other_sizes(run)[0])
    return {"fork": fork_work, "chaos": comparison_work}[part.command](other, part)


SIZES = Stage(
    "sizes",
    "Fork and compare again, with perturbations of other sizes.",
    scope="run",
    reads=(BASE, CHAOS),
    tables={"sizes": ("size", "direction", "t0", "t1")},
    options=lambda run: None,
    parts=_parts,
    grid=lambda run: [other_sizes(run), size_points(run), GAPS],
    work=_work,
    section="sizes",
    points=("sizes", "points", "gaps"),
    summarised=("sizes",),
    keeps_time=True,
    memory_mb=8000,
    minutes=1440,
)
