"""The loss barrier on the straight path between two networks (arXiv 2505.13900, section 3)."""

from __future__ import annotations

import math

import torch
from torch import nn

from twophase.training.evaluation import CHUNK, Examples, logits, mean_loss
from twophase.training.tensors import named_state


def path_losses(
    between: nn.Module,
    one: nn.Module,
    other: nn.Module,
    alphas: list[float],
    sets: dict[str, Examples],
    recalibrate: torch.Tensor | None = None,
) -> dict[str, list[float]]:
    """Losses of the networks alpha * one + (1 - alpha) * other, for each set of examples.

    Batch norm's running statistics are interpolated like the weights; with `recalibrate`, images
    (n, C, H, W), they are measured anew on those images at every alpha. `between` is a network of
    the same kind that is overwritten.

    >>> one, other, between = (torch.nn.Linear(1, 2, bias=False) for _ in range(3))
    >>> for network, weight in ((one, 1.0), (other, -1.0)):
    ...     network.weight.data = torch.tensor([[weight], [0.0]])
    >>> test = torch.tensor([[1.0]]), torch.tensor([0])
    >>> losses = path_losses(between, one, other, [0.0, 0.5, 1.0], {"test": test})
    >>> [round(loss, 4) for loss in losses["test"]]  # -log sigmoid of -1, 0 and 1
    [1.3133, 0.6931, 0.3133]
    """
    losses: dict[str, list[float]] = {name: [] for name in sets}
    for alpha in alphas:
        interpolate(between, one, other, alpha)
        if recalibrate is not None:
            recalibrate_batch_norm(between, recalibrate)
        for name, (images, labels) in sets.items():
            losses[name].append(mean_loss(logits(between, images), labels))
    return losses


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


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, images: torch.Tensor) -> None:
    """Set batch norm's running statistics to the means, over chunks of `images` of one size, of
    the chunks' means and variances.

    >>> norm = torch.nn.BatchNorm2d(1)
    >>> recalibrate_batch_norm(norm, torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    >>> norm.running_mean, norm.running_var
    (tensor([2.]), tensor([2.]))
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all chunks
    model.eval()  # all else, such as dropout, is as in evaluation
    for norm in norms:
        norm.train()
    for chunk in images.tensor_split(math.ceil(len(images) / CHUNK)):
        model(chunk)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def barrier(alphas: list[float], losses: list[float]) -> float:
    """Loss barrier: the largest gap between the losses on a path and the line between its ends.

    `losses[i]` belongs to alpha * one + (1 - alpha) * other; alphas run from 0 to 1, so the
    barrier is never negative. The maximum is of the gap, not of the loss. Where a loss is not
    finite the barrier is not a number.

    >>> barrier([0.0, 0.5, 1.0], [0.2, 1.0, 0.4])  # 1.0 against 0.3 halfway
    0.7
    """
    if not all(math.isfinite(loss) for loss in losses):
        return math.nan
    first, last = losses[0], losses[-1]
    # Written so that equal losses give exactly zero. At both ends the gap is zero by definition.
    inner = zip(alphas[1:-1], losses[1:-1], strict=True)
    return max([0.0] + [loss - (first + alpha * (last - first)) for alpha, loss in inner])
