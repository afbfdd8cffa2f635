"""The chaos effect: section `chaos`, and the stages `fork` and `chaos`.

A fork is a copy of a base run's state at t0, perturbed and trained on. It is compared with the base
run at each t1. A zero perturbation is the direction `control`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from twophase.store.paths import Result
from twophase.study.base import BASE, images
from twophase.study.records import (
    Count,
    Iteration,
    Iterations,
    Mistakes,
    Positive,
    Record,
    Section,
    must_rise,
)
from twophase.study.run import Run
from twophase.study.stage import Stage, Work, part, since

GAPS = "gaps"  # of tables with these columns; those without are not the same


class Perturbation(Record):
    """Gaussian noise on every parameter that is trained.

    `std`: elementwise standard deviation; `l2`: norm of the whole; `relative`: norm over the norm
    of the parameters.
    """

    kind: Literal["std", "l2", "relative"]
    size: Positive


class Chaos(Section):
    """Forks at every t0 of `forks`, compared with the base run at every later t1 of `compare`, and
    at t0 + dt for every dt of `follow`; they end at the last of these. One of the two may be empty.

    `control` names the forks that are also run with a perturbation of zero. The barrier is the
    largest gap at `barrier_points` places of the path, and `barrier_refine` more around it.
    `recalibrated` asks for the barrier with batch norm's statistics measured again, too.
    """

    forks: Iterations
    compare: list[Iteration] = []
    follow: list[Count] = []
    directions: Annotated[int, Field(ge=1, le=1000)]
    control: list[Iteration]
    perturbation: Perturbation
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
        """Forks and compare points that do not meet within the training."""
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


def forks(run: Run) -> list[tuple[int, str]]:
    """All forks as (t0, direction)."""
    chaos = run.model.chaos
    directions = [str(d) for d in range(1, chaos.directions + 1)]
    found = [
        (t0, direction)
        for t0 in chaos.forks
        for direction in directions + ["control"] * (t0 in chaos.control)
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
    return part(FORK, "fork", run, ".safetensors", t0=t0, direction=direction, t1=t1)


def perturbation(run: Run, t0: int, direction: str) -> Result:
    """A fork's perturbation, a table of one row; written when the fork has ended."""
    return part(FORK, "perturbation", run, ".parquet", t0=t0, direction=direction)


def comparison(run: Run, t0: int, direction: str, t1: int) -> Result:
    """The comparison of a fork with its base run at t1, a table of one row."""
    return part(CHAOS, "comparison", run, ".parquet", t0=t0, direction=direction, t1=t1)


def comparing(run: Run) -> list:
    """The options that say how a fork is compared with its base run."""
    elsewhere = {"forks", "compare", "follow", "directions", "control", "perturbation"}
    barrier = run.model.chaos.options(exclude=elsewhere | {"barrier_threshold"})
    return [barrier, run.model.evaluation.options()]


def _fork_parts(run: Run) -> list[Result]:
    points = [(t0, d, t1) for t0, d in forks(run) for t1 in compare_points(run, t0)]
    return [fork_state(run, *p) for p in points] + [perturbation(run, *f) for f in forks(run)]


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
    options=lambda run: run.model.chaos.perturbation.options(),
    parts=_fork_parts,
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
