"""Linearised training: section and stage `linearized`."""

from __future__ import annotations

from typing import Any, ClassVar

from twophase.store.paths import Result
from twophase.study.base import BASE, images
from twophase.study.records import Iterations, Mistakes, Section, must_rise
from twophase.study.run import Run
from twophase.study.stage import Stage, Work, part, since


class Linearized(Section):
    """Train normally to each of `switches`, then the linearised network to the last iteration."""

    switches: Iterations
    least: ClassVar[dict[str, Any]] = {"switches": [1]}

    def states(self, model: Any) -> set[int]:
        """Where linearised training starts."""
        return set(self.switches)

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


def switches(run: Run) -> list[int]:
    """Iterations from which on training is linearised."""
    return run.among("linearized", run.model.linearized.switches)


def linearized_steps(run: Run, switch: int) -> list[int]:
    """Iterations at which the linearised network's state is kept: soon after the switch, so that a
    sample of the work can be repeated (see `commands/adopt.py`), and at the end.
    """
    stop = run.model.training.iterations
    return [min(switch + 10, stop - 1), stop] if stop - switch > 1 else [stop]


def linearized_state(run: Run, switch: int, t: int) -> Result:
    """The linearised network's state at iteration t."""
    return part(LINEARIZED, "linearized_state", run, ".safetensors", switch=switch, t=t)


def linearized_end(run: Run, switch: int) -> Result:
    """The end of linearised training from a switch on, a table of one row."""
    return part(LINEARIZED, "switch", run, ".parquet", switch=switch)


def _parts(run: Run) -> list[Result]:
    each = switches(run)
    states = [linearized_state(run, s, t) for s in each for t in linearized_steps(run, s)]
    return states + [linearized_end(run, s) for s in each]


def _work(run: Run, part: Result) -> Work:
    """Train from the state before or the switch, and evaluate at the end."""
    switch, t = part.identity["switch"], part.identity.get("t")
    if t is None:
        return Work(rest=images(run))
    return Work(since(t, switch, linearized_steps(run, switch)), 0)


LINEARIZED = Stage(
    "linearized",
    "Train the linearised network from each switch.",
    scope="run",
    reads=(BASE,),
    tables={"linearized": ("switch",)},
    # The end of training, and what is evaluated there.
    options=lambda run: [run.model.training.iterations, run.model.evaluation.options()],
    parts=_parts,
    grid=switches,
    work=_work,
    section="linearized",
    named=("training.iterations", "evaluation"),
    summarised=("linearized",),
    keeps_time=True,
    minutes=1440,
)
