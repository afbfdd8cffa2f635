"""The chaos effect: section `chaos`, and the stages `fork` and `chaos`.

A fork is a copy of a base run's state at t0, perturbed and trained on. It is compared with the base
run at each t1. A zero perturbation is the direction `control`. Directions of the only perturbation
are `1`, `2`, …; those of several begin with its name: `gauss-1`.

What several perturbations leave is what studies of one of them would leave, each under the
directions `1`, `2`, …: so a name makes no result, and one perturbation more makes none again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from twophase.store.paths import Result
from twophase.study import perturbations
from twophase.study.base import BASE, images
from twophase.study.perturbations import NAME, AnyKind, Kind
from twophase.study.perturbations import Perturbation as Perturbation
from twophase.study.records import (
    GIVEN,
    Count,
    Iteration,
    Iterations,
    Mistakes,
    Positive,
    Section,
    must_rise,
)
from twophase.study.run import Run
from twophase.study.stage import Code, Stage, Work, part, since

if TYPE_CHECKING:
    from twophase.study.model import Study

GAPS = "gaps"  # of tables with these columns; those without are not the same


CONTROL, PERTURBED = "control", "perturbed"
PerturbationName = Annotated[str, Field(pattern=f"^{NAME}$")]


class Chaos(Section):
    """Forks at every t0 of `forks`, compared with the base run at every later t1 of `compare`, and
    at t0 + dt for every dt of `follow`; they end at the last of these. One of the two may be empty.

    Each of `perturbations`, or the only `perturbation`, has `directions` of its own. `control`
    names the forks that are also run with a perturbation of zero. The barrier is the largest gap at
    `barrier_points` places of the path, and `barrier_refine` more around it. `recalibrated` asks
    for the barrier with batch norm's statistics measured again, too.
    """

    forks: Iterations
    compare: list[Iteration] = []
    follow: list[Count] = []
    directions: Annotated[int, Field(ge=1, le=1000)]
    control: list[Iteration]
    perturbation: Annotated[AnyKind | None, GIVEN] = None
    perturbations: dict[PerturbationName, AnyKind] = {}
    barrier_points: Annotated[int, Field(ge=3)]
    barrier_refine: Annotated[int, Field(ge=0, le=100)] = 0
    barrier_batch_norm: Literal["interpolate", "recalibrate"]
    barrier_threshold: Positive
    recalibrated: bool = False
    least: ClassVar[dict[str, Any]] = {
        "forks": [1],
        "compare": [2],
        "follow": [],
        "directions": 1,
        "control": [1],
        "barrier_points": 3,
        "barrier_refine": 1,
        "barrier_threshold": 1.0,  # figures show it, no stage reads it
    }

    def kinds(self) -> dict[str, Kind]:
        """The perturbations by their names; the only one is called "". The first is the study's
        main one: that of figures and verdicts which show but one.
        """
        return self.perturbations or {"": self.perturbation}

    def own_keys(self) -> dict[tuple[str, ...], Kind]:
        """The perturbations by the keys of this section that give them."""
        several = {("perturbations", name): kind for name, kind in self.perturbations.items()}
        return several | ({("perturbation",): self.perturbation} if self.perturbation else {})

    def placed(self, folder: Path) -> Chaos:
        """The section, whose perturbations know where the user's files lie."""
        placed = {name: perturbations.placed(each, folder) for name, each in self.kinds().items()}
        several = bool(self.perturbations)
        update = {"perturbations": placed} if several else {"perturbation": placed[""]}
        return self.model_copy(update=update)

    def main(self) -> str:
        """What the main perturbation is called in summaries and figures."""
        return next(iter(self.kinds())) or PERTURBED

    def states(self, model: Any) -> set[int]:
        """Where forks start, and what they are compared with."""
        return {*self.forks, *self.compared()}

    def after(self, t0: int) -> list[int]:
        """Iterations t1 at which the forks from t0 are compared with the base run."""
        later = {t1 for t1 in self.compare if t1 > t0}
        return sorted(later | {t0 + dt for dt in self.follow})

    def compared(self) -> list[int]:
        """All iterations t1 at which any fork is compared with the base run."""
        return sorted({t1 for t0 in self.forks for t1 in self.after(t0)})

    def ends(self) -> dict[int, int]:
        """The last iteration t1 of the forks from each t0."""
        return {t0: self.after(t0)[-1] for t0 in self.forks}

    def mistakes(self, model: Any) -> Mistakes:
        """Forks and compare points that do not meet within the training; not one perturbation."""
        if self.perturbations and self.perturbation:
            yield "perturbations", ": chaos.perturbation is given, too; leave one of the two out"
        elif not (self.perturbations or self.perturbation):
            yield "perturbation", ": is missing; give one, or several by name as `perturbations`"
        for name in sorted({CONTROL, PERTURBED} & set(self.perturbations)):
            yield f"perturbations.{name}", ": is no name of a perturbation: tables have it already"
        for option in ("forks", "compare", "follow", "control"):
            yield from must_rise(option, getattr(self, option))
        last = model.training.iterations
        if not (self.compare or self.follow):
            yield "compare", "= []: must be the iterations of comparisons, or chaos.follow be given"
        for dt in self.follow:
            if dt + max(self.forks) > last:
                yield (
                    "follow",
                    f"= {dt}: the fork from {max(self.forks)} would end after training; "
                    f"must be at most {last - max(self.forks)}",
                )
        for t0 in self.forks:
            if t0 >= last:
                yield (
                    "forks",
                    f"= {t0}: forks at or after the end of training; "
                    f"must be less than training.iterations = {last}",
                )
            elif not self.follow and t0 >= max(self.compare, default=last):
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
        if self.recalibrated and self.barrier_batch_norm == "recalibrate":
            yield "recalibrated", "= True: is what chaos.barrier_batch_norm says; leave it out"
        for t0 in sorted(set(self.control) - set(self.forks)):
            yield (
                "control",
                f"= {t0}: is not a fork; must be among chaos.forks = {self.forks}",
            )


def compare_points(run: Run, t0: int) -> list[int]:
    """Iterations t1 at which the forks from t0 are compared with the base run."""
    return run.model.chaos.after(t0)


def named(direction: str) -> str:
    """What a direction is called with all others of its perturbation: as that is, `perturbed` if it
    is the only one, or `control`.
    """
    name = direction.rpartition("-")[0]
    return name or (CONTROL if direction == CONTROL else PERTURBED)


def perturbation_of(run: Run, direction: str) -> Kind:
    """The perturbation of a direction; the control has the main one, of size zero."""
    return alone(run, direction)[0].model.chaos.perturbation


def alone(run: Run, direction: str) -> tuple[Run, str]:
    """The run as if the perturbation of this direction were the study's only one, and what the
    direction is called there.
    """
    chaos = run.model.chaos
    if not chaos.perturbations:
        return run, direction
    name, _, number = direction.rpartition("-")
    name = name or next(iter(chaos.perturbations))
    return replace(run, study=_alone(run.study, run.name, name), only=()), number


@lru_cache(maxsize=1024)  # so that what makes its results is found out once
def _alone(study: Study, model: str, name: str) -> Study:
    own = study.models[model]
    update = {"perturbation": own.chaos.perturbations[name], "perturbations": {}}
    other = own.model_copy(update={"chaos": own.chaos.model_copy(update=update)})
    return study.model_copy(update={"models": {model: other}})


def forks(run: Run) -> list[tuple[int, str]]:
    """All forks as (t0, direction)."""
    chaos = run.model.chaos
    numbers = range(1, chaos.directions + 1)
    directions = [f"{name}-{n}" if name else str(n) for name in chaos.kinds() for n in numbers]
    found = [
        (t0, direction)
        for t0 in chaos.forks
        for direction in directions + [CONTROL] * (t0 in chaos.control)
    ]
    return run.among("fork", found)


def fork_shares(run: Run, jobs: int) -> list[list[tuple[int, str]]]:
    """The forks, shared out to `jobs` jobs of about the same length."""
    found = forks(run)
    length = [compare_points(run, t0)[-1] - t0 for t0, _ in found]
    shares: list[list] = [[] for _ in range(jobs)]
    for index, fork in enumerate(found):
        middle = sum(length[:index]) + length[index] / 2
        shares[int(jobs * middle / sum(length))].append(fork)
    return shares


def comparisons(run: Run) -> list[tuple[int, str, int]]:
    """All (t0, direction, t1) at which forks are compared, base state by base state."""
    found = [(t0, d, t1) for t0, d in forks(run) for t1 in compare_points(run, t0)]
    return sorted(found, key=lambda point: point[2])


def fork_state(run: Run, t0: int, direction: str, t1: int) -> Result:
    """A fork's state at iteration t1."""
    run, direction = alone(run, direction)
    return part(FORK, "fork", run, ".safetensors", t0=t0, direction=direction, t1=t1)


def perturbation(run: Run, t0: int, direction: str) -> Result:
    """A fork's perturbation, a table of one row; written when the fork has ended."""
    run, direction = alone(run, direction)
    return part(FORK, "perturbation", run, ".parquet", t0=t0, direction=direction)


def comparison(run: Run, t0: int, direction: str, t1: int) -> Result:
    """The comparison of a fork with its base run at t1, a table of one row."""
    run, direction = alone(run, direction)
    return part(CHAOS, "comparison", run, ".parquet", t0=t0, direction=direction, t1=t1)


def comparing(run: Run) -> list:
    """The options that say how a fork is compared with its base run."""
    elsewhere = {"forks", "compare", "follow", "directions", "control"}
    elsewhere |= {"perturbation", "perturbations"}
    barrier = run.model.chaos.options(exclude=elsewhere | {"barrier_threshold"})
    return [barrier, run.model.evaluation.options()]


def fork_states(run: Run, t0: int, direction: str) -> list[Result]:
    """A fork's states at all t1."""
    return [fork_state(run, t0, direction, t1) for t1 in compare_points(run, t0)]


def fork_parts(run: Run, t0: int, direction: str) -> list[Result]:
    """A fork's states and its perturbation."""
    return [*fork_states(run, t0, direction), perturbation(run, t0, direction)]


def _fork_parts(run: Run) -> list[Result]:
    states = [state for fork in forks(run) for state in fork_states(run, *fork)]
    return states + [perturbation(run, *fork) for fork in forks(run)]


def _fork_options(run: Run) -> dict:
    """The perturbation, or all of them by name."""
    several = {name: each.options() for name, each in run.model.chaos.perturbations.items()}
    return several or run.model.chaos.perturbation.options()


def _fork_code(run: Run) -> Code:
    kinds = run.model.chaos.kinds().values()
    return "stages.fork", *(each for kind in kinds for each in perturbations.code(kind))


def fork_work(run: Run, part: Result) -> Work:
    """Train from the compare point before; the perturbation costs nothing."""
    t0, t1 = part.identity["t0"], part.identity.get("t1")
    return Work(0, 0) if t1 is None else Work(since(t1, t0, compare_points(run, t0)))


def comparison_work(run: Run, part: Result) -> Work:
    """Evaluate the fork and each point of the path; with other statistics, these and the test
    examples.
    """
    options = run.model.chaos
    paths = (options.barrier_points + options.barrier_refine) * (1 + options.recalibrated)
    return Work(rest=(paths + 1) * images(run))


FORK = Stage(
    "fork",
    "Perturb a base run and train on.",
    scope="run",
    reads=(BASE,),
    tables={},
    options=_fork_options,
    parts=_fork_parts,
    code=_fork_code,
    grid=lambda run: None,
    work=fork_work,
    section="chaos",
    named=("chaos.perturbation",),
    keeps_time=True,
    shared=True,
    minutes=720,
)
CHAOS = Stage(
    "chaos",
    "Compare forks with their base run.",
    scope="run",
    reads=(BASE, FORK),
    tables={
        "chaos": ("direction", "t0", "t1"),
        "barrier_path": ("direction", "t0", "t1", "split", "alpha"),
    },
    options=comparing,
    parts=lambda run: [comparison(run, *point) for point in comparisons(run)],
    grid=lambda run: [comparisons(run), GAPS],
    points=("points", "gaps"),
    work=comparison_work,
    section="chaos",
    named=("chaos", "evaluation"),
    summarised=("chaos",),
    memory_mb=8000,
    minutes=720,
)
