"""The loss barrier on the straight path between two networks (arXiv 2505.13900, section 3)."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Callable

import torch
from torch import nn

from twophase.measures.recalibration import recalibrate_batch_norm
from twophase.training.evaluation import Examples, logits
from twophase.training.tasks import CLASSIFICATION
from twophase.training.tensors import named_state

NEAR = 0.02  # of the interval around the largest gap: nearer places say nothing new
Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
LossPath = tuple[list[float], list[float]]  # alphas, from 0 to 1, and the losses there


def path_losses(
    between: nn.Module,
    one: nn.Module,
    other: nn.Module,
    alphas: list[float],
    sets: dict[str, Examples],
    recalibrate: torch.Tensor | None = None,
    losses: Losses = CLASSIFICATION.losses,
) -> dict[str, list[float]]:
    """Losses of the networks alpha * one + (1 - alpha) * other, for each set of examples.

    Batch norm's running statistics are interpolated like the weights; with `recalibrate`, images
    (n, C, H, W), those that training moves are measured anew on those images at every alpha.
    `between` is a network of the same kind that is overwritten. `losses(out, labels)` gives the
    loss of each example, of any task; they are averaged in float64.

    >>> one, other, between = (torch.nn.Linear(1, 2, bias=False) for _ in range(3))
    >>> for network, weight in ((one, 1.0), (other, -1.0)):
    ...     network.weight.data = torch.tensor([[weight], [0.0]])
    >>> test = torch.tensor([[1.0]]), torch.tensor([0])
    >>> losses = path_losses(between, one, other, [0.0, 0.5, 1.0], {"test": test})
    >>> [round(loss, 4) for loss in losses["test"]]  # -log sigmoid of -1, 0 and 1
    [1.3133, 0.6931, 0.3133]
    """
    found: dict[str, list[float]] = {name: [] for name in sets}
    for alpha in alphas:
        interpolate(between, one, other, alpha)
        if recalibrate is not None:
            recalibrate_batch_norm(between, recalibrate)
        for name, (images, labels) in sets.items():
            each = losses(logits(between, images), labels)
            found[name].append(float(each.double().mean()))
    return found


@torch.no_grad()
def interpolate(between: nn.Module, one: nn.Module, other: nn.Module, alpha: float) -> None:
    """Set `between` to alpha * one + (1 - alpha) * other; exact at 0, 1 and for equal entries,
    infinite ones too. Whole numbers are those of `one`.

    >>> one, other, between = (torch.nn.Linear(1, 1) for _ in range(3))
    >>> interpolate(between, one, other, 1.0)
    >>> torch.equal(between.weight, one.weight)
    True
    """
    states = (named_state(network).values() for network in (between, one, other))
    for target, a, b in zip(*states, strict=True):
        if a.is_floating_point() or a.is_complex():
            target.copy_(torch.where(a == b, a, torch.lerp(b, a, alpha)))
        else:
            target.copy_(a)


def path(
    between: nn.Module,
    one: nn.Module,
    other: nn.Module,
    points: int,
    sets: dict[str, Examples],
    recalibrate: torch.Tensor | None = None,
    refine: int = 0,
    losses: Losses = CLASSIFICATION.losses,
) -> dict[str, LossPath]:
    """For each set of examples the alphas and the losses of the networks at `points` places of the
    path, evenly spaced, and at `refine` more around the largest gap; see `path_losses`.

    >>> one, other, between = (torch.nn.Linear(1, 2, bias=False) for _ in range(3))
    >>> for network, weight in ((one, 1.0), (other, -1.0)):
    ...     network.weight.data = torch.tensor([[weight], [0.0]])
    >>> test = torch.tensor([[1.0]]), torch.tensor([0])
    >>> alphas, losses = path(between, one, other, 3, {"test": test})["test"]
    >>> alphas, [round(loss, 4) for loss in losses]
    ([0.0, 0.5, 1.0], [1.3133, 0.6931, 0.3133])
    """
    alphas = [index / (points - 1) for index in range(points)]
    evenly = path_losses(between, one, other, alphas, sets, recalibrate, losses)

    def loss_at(name: str, alpha: float) -> float:
        own = {name: sets[name]}
        return path_losses(between, one, other, [alpha], own, recalibrate, losses)[name][0]

    return {
        name: refined(alphas, evenly[name], functools.partial(loss_at, name), refine)
        for name in sets
    }


def refined(
    alphas: list[float], losses: list[float], loss_at: Callable[[float], float], points: int
) -> LossPath:
    """The path with `points` more places, one after another, where the gap is largest: each at the
    top of the parabola through the largest inner gap and its neighbours, or halfway to the farther
    of the two where that is no new place. As it is where no gap is above zero: such a path has no
    barrier. So too where a loss is not finite.

    >>> hill = lambda alpha: 6.75 * alpha**2 * (1 - alpha)  # at most 1, at two thirds
    >>> losses = [hill(0.0), hill(0.5), hill(1.0)]
    >>> max(losses), round(max(refined([0.0, 0.5, 1.0], losses, hill, 4)[1]), 3)
    (0.84375, 1.0)
    """
    alphas, losses = list(alphas), list(losses)
    for _ in range(points):
        gaps = _gaps(alphas, losses)
        if not (all(map(math.isfinite, losses)) and max(gaps) > 0):
            break
        top = max(range(1, len(alphas) - 1), key=gaps.__getitem__)
        alpha = _next(alphas[top - 1 : top + 2], gaps[top - 1 : top + 2])
        place = bisect.bisect(alphas, alpha)
        alphas.insert(place, alpha)
        losses.insert(place, loss_at(alpha))
    return alphas, losses


def _next(x: list[float], y: list[float]) -> float:
    """The top of the parabola through three points, of which the middle one is the highest; or the
    middle of the wider side, where that lies on a point, or nearly so.
    """
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    if left > right:
        share = left / (left - right)
        top = (x[0] + x[1]) / 2 + share * (x[2] - x[0]) / 2
        if min(abs(top - each) for each in x) > NEAR * (x[2] - x[0]):
            return top
    wider = x[0] if x[1] - x[0] > x[2] - x[1] else x[2]
    return (wider + x[1]) / 2


def barrier(alphas: list[float], losses: list[float]) -> float:
    """Loss barrier: the largest gap between the losses on a path and the line between its ends.

    `losses[i]` belongs to alpha * one + (1 - alpha) * other; alphas run from 0 to 1, so the
    barrier is never negative. The maximum is of the gap, not of the loss. Where a loss is not
    finite the barrier is not a number.

    Raises `ValueError` as `largest_gap` does.

    >>> barrier([0.0, 0.5, 1.0], [0.2, 1.0, 0.4])  # 1.0 against 0.3 halfway
    0.7
    """
    gap = largest_gap(alphas, losses)
    return gap if math.isnan(gap) else max(0.0, gap)


def largest_gap(alphas: list[float], losses: list[float]) -> float:
    """The largest gap at the places within a path, with its sign: below zero where all of them lie
    below the line between the ends. Its size is then that of the places, since gaps go to zero at
    the ends. Not a number where a loss is not finite.

    Raises `ValueError` if alphas do not rise from 0 to 1, or there are not as many losses.

    >>> largest_gap([0.0, 0.25, 0.5, 1.0], [1.0, 0.5, 0.25, 1.0])
    -0.5
    """
    rise = all(one < next_ for one, next_ in itertools.pairwise(alphas))
    if not (len(alphas) == len(losses) > 2 and rise and (alphas[0], alphas[-1]) == (0, 1)):
        raise ValueError(
            f"{len(losses)} losses at alphas = {alphas}: alphas must rise from 0 to 1, with one or "
            "more in between, and there must be a loss at each"
        )
    if not all(map(math.isfinite, losses)):
        return math.nan
    return max(_gaps(alphas, losses)[1:-1])


def _gaps(alphas: list[float], losses: list[float]) -> list[float]:
    """Losses less the line between the first and the last; zero at both ends by definition."""
    first, last = losses[0], losses[-1]
    # Written so that equal losses give exactly zero.
    inner = zip(alphas[1:-1], losses[1:-1], strict=True)
    return [0.0, *(loss - (first + alpha * (last - first)) for alpha, loss in inner), 0.0]
