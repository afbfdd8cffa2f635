"""What is learnt: loss, prediction, and the outputs that a kernel is of, for each task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from twophase.errors import RunError
from twophase.study import tasks
from twophase.study.functions import imported
from twophase.training import switches

PROJECTION = 20  # first number of the counter that draws one; see batches.py for the others
Tensor = torch.Tensor


class Task(NamedTuple):
    """The functions of a task. `out` is what a network gives for n examples, with their labels.

    `losses(out, labels)`: the loss of each example, or of each of its parts; any shape.
    `loss(out, labels)`: their mean, which is derived. `prediction(out)`: what the network says;
    whole numbers or real ones. `outputs(out)` (n, k): what the kernel is of. `targets(labels,
    classes)` (n, k): what these should be, less what says nothing; None if that is not known.
    `shape(examples, classes, length)`: what `out` must be like; None if any will do. `axes`: those
    of the labels; None if any will do. `shares`: whether an accuracy is the share of predictions
    that are the labels.
    """

    name: str
    losses: Callable[[Tensor, Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    prediction: Callable[[Tensor], Tensor]
    outputs: Callable[[Tensor], Tensor] | None = None
    targets: Callable[[Tensor, int], Tensor] | None = None
    shape: Callable[[int, int, int], tuple[int, ...]] | None = None
    axes: int | None = None
    shares: bool = False

    def scores(self, out: Tensor, labels: Tensor, split: str) -> dict[str, float]:
        """The columns `<split>_loss`, in the unit of the loss, and where there is one
        `<split>_accuracy`, of what a network gives for the examples of a split.

        Losses are averaged in float64.
        """
        found = {f"{split}_loss": float(self.losses(out, labels).double().mean())}
        if self.shares:
            right = self.prediction(out) == labels
            found[f"{split}_accuracy"] = float(right.double().mean())
        return found


def _each(out: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(out, labels, reduction="none")


CLASSIFICATION = Task(
    "classification",
    _each,
    F.cross_entropy,
    lambda out: out.argmax(1),
    targets=lambda labels, classes: F.one_hot(labels, classes).double() - 1 / classes,
    shape=lambda examples, classes, length: (examples, classes),
    axes=1,
    shares=True,
)


def squared_errors(out: Tensor, labels: Tensor) -> Tensor:
    """Squared errors (n, k) of outputs (n, k)."""
    return (out - labels.to(out)).square()


REGRESSION = Task(
    "regression",
    squared_errors,
    lambda out, labels: squared_errors(out, labels).mean(),
    lambda out: out,
    targets=lambda labels, classes: labels.double() - labels.double().mean(0),
    shape=lambda examples, classes, length: (examples, classes),
    axes=2,
)


def token_losses(out: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (n positions,), in nats, of logits (n, positions, vocabulary) and the tokens
    (n, positions) that come next.
    """
    return F.cross_entropy(out.flatten(0, 1), labels.flatten(), reduction="none")


NEXT_TOKEN = Task(
    "next_token",
    token_losses,
    lambda out, labels: F.cross_entropy(out.flatten(0, 1), labels.flatten()),
    lambda out: out.argmax(2),
    outputs=lambda out: out[:, -1],
    targets=lambda labels, classes: F.one_hot(labels[:, -1], classes).double() - 1 / classes,
    shape=lambda examples, classes, length: (examples, length, classes),
    axes=2,
    shares=True,
)
_NAMED = {task.name: task for task in (CLASSIFICATION, REGRESSION, NEXT_TOKEN)}


def of(asked: Any) -> Task:
    """The functions of the task that a source names.

    Raises `RunError` if a loss of the user's own is not one.
    """
    return _own(asked) if tasks.own(asked) else _NAMED[asked]


def _own(asked: tasks.OwnTask) -> Task:
    with switches.kept(f"task.file = {asked.file!r}"):
        given = {role: imported(asked.file, name) for role, name in asked.named().items()}

    def losses(out: Tensor, labels: Tensor) -> Tensor:
        found = given["loss"](out, labels)
        if not isinstance(found, torch.Tensor) or not found.dim():
            kind = "one number" if isinstance(found, torch.Tensor) else type(found).__name__
            raise RunError(
                f"data.images.task.loss = {asked.loss!r}: returns {kind}; must return a tensor "
                "with the loss of each example"
            )
        return found

    return Task(
        "own",
        losses,
        lambda out, labels: losses(out, labels).mean(),
        given.get("prediction", lambda out: out),
        given.get("outputs"),
    )


def outputs(task: Task, labels: Tensor, vocabulary: int) -> int:
    """How many outputs a task needs of a network: one for each class, for each real number that an
    example's label has, or for each token.
    """
    if task is NEXT_TOKEN:
        return vocabulary
    if labels.is_floating_point():
        return labels[0].numel()
    return int(labels.max()) + 1


class Outputs(nn.Module):
    """A network whose outputs (n, k) are those that a kernel is of."""

    def __init__(self, network: nn.Module, task: Task, projection: Tensor | None) -> None:
        super().__init__()
        self.network, self.task = network, task
        self.register_buffer("projection", projection)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, k) of inputs (n, ...)."""
        out = self.network(inputs)
        out = self.task.outputs(out) if self.task.outputs else out
        return out if self.projection is None else out @ self.projection


def of_outputs(
    network: nn.Module, task: Task, classes: int, directions: int | None = None
) -> nn.Module:
    """What the tangent kernel of a network is of: itself, or where the task or a number of
    `directions` says so its outputs, projected to random directions if there are many.

    >>> network = nn.Linear(3, 5)
    >>> of_outputs(network, CLASSIFICATION, 5) is network
    True
    >>> of_outputs(network, CLASSIFICATION, 5, directions=2)(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """
    if task.outputs is None and directions is None:
        return network
    like = next(network.parameters())
    drawn = None if directions is None else projection(classes, directions).to(like)
    return Outputs(network, task, drawn)


def projection(classes: int, directions: int) -> Tensor:
    """Random directions (classes, directions), float64, the same each time: Gaussian, of mean
    square 1 / directions, so that the kernel of the outputs' sum of squares is kept on average.
    """
    drawn = np.random.default_rng((PROJECTION, classes, directions))
    return torch.from_numpy(drawn.standard_normal((classes, directions))) / directions**0.5


def wanted(labels: Tensor, task: Task, classes: int, directions: int | None) -> Tensor | None:
    """What the outputs that the kernel is of should be, (n, k); None if that is not known."""
    if task.targets is None:
        return None
    targets = task.targets(labels, classes)
    if directions is None:
        return targets
    return targets @ projection(classes, directions).to(targets)
