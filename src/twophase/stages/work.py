"""How much work a result of each stage is, so that it can be planned before it is done.

The units are the stage's own: `plan` measures what one costs, on a small piece of the study, where
it may have fewer examples.
"""

from __future__ import annotations

from typing import NamedTuple

from twophase.store.paths import Result
from twophase.study import Run

# Inputs of a kernel at which products of all pairs cost as much as the passes through the network:
# some 120 for ResNet-20 and VGG-16 (docs/speed.md), more where layers are narrow.
PAIRS = 200


class Work(NamedTuple):
    """What making one result takes: a part, or the tables of a stage without parts."""

    iterations: int = 0  # steps of an optimizer
    rest: float = 1.0  # all else
    disk: float = 1.0  # the file's size


def images(run: Run) -> int:
    """The images that losses and accuracies are measured on."""
    return run.model.evaluation.train_examples + run.model.evaluation.test_examples


def base_state(run: Run, part: Result) -> Work:
    """Train from the checkpoint before."""
    return Work(_since(part.identity["t"], 0, run.model.checkpoints()), 0)


def base_evaluations(run: Run) -> float:
    """Evaluate all checkpoints, old ones too."""
    return len(run.model.checkpoints()) * images(run)


def fork_part(run: Run, part: Result) -> Work:
    """Train from the compare point before; the perturbation costs nothing."""
    t0, t1 = part.identity["t0"], part.identity.get("t1")
    return Work(0, 0) if t1 is None else Work(_since(t1, t0, run.model.compare_points(t0)))


def comparison(run: Run, part: Result) -> Work:
    """Evaluate the fork and each point of the path."""
    return Work(rest=(run.model.chaos.barrier_points + 1) * images(run))


def size_part(run: Run, part: Result) -> Work:
    """As of the forks and comparisons that it is one of."""
    other = run.of_size(run.model.other_sizes()[0])
    return {"fork": fork_part, "chaos": comparison}[part.command](other, part)


def inputs(run: Run) -> int:
    """The inputs of a kernel; of ten classes where their number is not known."""
    classes = getattr(run.study.data.images, "classes", None) or 10
    return classes * run.model.kernel.examples_per_class


def kernel_file(run: Run, part: Result) -> Work:
    """Passes through the network, and products of all pairs."""
    n = inputs(run)
    return Work(rest=n * (1 + n / PAIRS), disk=n**2)


def cone(run: Run, table: Result) -> Work:
    """Read each kernel, and find its eigenvalues; small ones are mostly read."""
    return Work(rest=len(run.model.kernel_steps()) * inputs(run) ** 2)


def across_seeds(run: Run, table: Result) -> Work:
    """Read each kernel."""
    return cone(run, table)


def curvature_at(run: Run, part: Result) -> Work:
    """Passes for gradients with their graph, three times as many for a product with the Hessian."""
    options, batch = run.model.curvature, run.model.training.batch_size
    return Work(
        rest=options.examples * (1 + 3 * options.lanczos_steps) + 4 * batch * options.batches
    )


def growth_part(run: Run, part: Result) -> Work:
    """Steps of the base run and of each fork, one more than are looked at."""
    options = run.model.growth
    return Work((options.steps + 1) * (1 + len(options.perturbations)))


def trajectory(run: Run, table: Result) -> Work:
    """Read each state."""
    return Work(rest=len(run.model.checkpoints()))


def match(run: Run, part: Result) -> Work:
    """Evaluate three paths, two of them with batch norm measured again."""
    sizes = run.model.evaluation
    passes = 2 * sizes.train_examples + 3 * sizes.test_examples
    return Work(rest=run.model.chaos.barrier_points * passes)


def linearized_part(run: Run, part: Result) -> Work:
    """Train from the state before or the switch, and evaluate at the end."""
    switch, t = part.identity["switch"], part.identity.get("t")
    if t is None:
        return Work(rest=images(run))
    return Work(_since(t, switch, run.model.linearized_steps(switch)), 0)


def once(run: Run, part: Result) -> Work:
    """One thing, always the same."""
    return Work()


def _since(t: int, start: int, kept: list[int]) -> int:
    """Iterations to t from the last one that is kept, or from the start."""
    return t - max([start, *(each for each in kept if start <= each < t)])
