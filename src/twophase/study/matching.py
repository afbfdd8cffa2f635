"""Forks after their units were matched with the base run's: section and stage `matching`."""

from __future__ import annotations

from typing import Any, ClassVar

from twophase.store.paths import Result
from twophase.study.base import BASE
from twophase.study.chaos import FORK, alone, comparing, comparisons
from twophase.study.records import Count, Iterations, Mistakes, Section, must_rise
from twophase.study.run import Run
from twophase.study.stage import Stage, Work, part


class Matching(Section):
    """Forks of `chaos` after a permutation of their units that brings them next to the base run,
    at every t1 of `compare`; without it, where each fork ends. The search goes over all layers at
    most `sweeps` times.
    """

    compare: Iterations | None = None
    sweeps: Count = 100
    least: ClassVar[dict[str, Any]] = {"compare": [2]}

    def mistakes(self, model: Any) -> Mistakes:
        """Compare points that forks do not have."""
        yield from must_rise("compare", self.compare or [])
        those = model.chaos.compared()
        such = f"chaos.compare = {those}" if not model.chaos.follow else f"those of forks, {those}"
        for t1 in sorted(set(self.compare or []) - set(those)):
            yield "compare", f"= {t1}: is no compare point; must be among {such}"


def matching_points(run: Run) -> list[tuple[int, str, int]]:
    """All (t0, direction, t1) at which perturbed forks are matched with the base run."""
    chosen, ends = run.model.matching.compare, run.model.chaos.ends()
    return [
        (t0, direction, t1)
        for t0, direction, t1 in comparisons(run)
        if direction != "control" and (t1 in chosen if chosen else t1 == ends[t0])
    ]


def match(run: Run, t0: int, direction: str, t1: int) -> Result:
    """A fork matched with its base run at t1, a table of one row."""
    run, direction = alone(run, direction)
    return part(MATCHING, "match", run, ".parquet", t0=t0, direction=direction, t1=t1)


def _options(run: Run) -> list:
    """How units are matched, and the networks compared then."""
    barrier, evaluation = comparing(run)
    barrier.pop("recalibrated", None)  # which it measures anyway
    return [run.model.matching.options(exclude={"compare"}), [barrier, evaluation]]


def _work(run: Run, part: Result) -> Work:
    """Evaluate three paths, two of them with batch norm measured again."""
    sizes = run.model.evaluation
    passes = 2 * sizes.train_examples + 3 * sizes.test_examples
    points = run.model.chaos.barrier_points + run.model.chaos.barrier_refine
    return Work(rest=points * passes)


MATCHING = Stage(
    "matching",
    "Match the units of forks with those of their base run.",
    scope="run",
    reads=(BASE, FORK),
    tables={"matching": ("direction", "t0", "t1")},
    options=_options,
    parts=lambda run: [match(run, *point) for point in matching_points(run)],
    grid=matching_points,
    work=_work,
    section="matching",
    named=("matching", "chaos", "evaluation"),
    summarised=("matching",),
    memory_mb=8000,
    minutes=720,
)
