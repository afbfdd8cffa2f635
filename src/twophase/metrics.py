"""The measures between two networks, and the losses they rest on.

Losses are evaluated in the study's float32 and averaged in float64; vectors of parameters are
compared in float64. Names and definitions are those of arXiv 2505.13900, section 3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from twophase.data import Data
from twophase.study import Evaluation

# Images that pass through the network at once: part of the result, because a batch of another
# size may round differently.
CHUNK = 500

Examples = tuple[torch.Tensor, torch.Tensor]


def evaluation_sets(data: Data, evaluation: Evaluation) -> dict[str, Examples]:
    """The first examples of each split, without augmentation: normalised images and labels."""
    sets = {
        "train": (data.train, evaluation.train_examples),
        "test": (data.test, evaluation.test_examples),
    }
    return {
        name: (data.normalised(split.images[:count]), split.labels[:count])
        for name, (split, count) in sets.items()
    }


@torch.no_grad()
def logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits (n, classes) of images (n, C, H, W), with the network in eval mode."""
    model.eval()
    return torch.cat([model(chunk) for chunk in images.split(CHUNK)])


def mean_loss(out: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean cross-entropy, in nats, of logits (n, classes)."""
    return float(F.cross_entropy(out, labels, reduction="none").double().mean())


def accuracy(out: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of examples whose largest logit is their label's."""
    return float((out.argmax(1) == labels).double().mean())


def disagreement(one: torch.Tensor, other: torch.Tensor) -> float:
    """Share of examples on which logits (n, classes) of two networks predict other classes."""
    return float((one.argmax(1) != other.argmax(1)).double().mean())


def parameter_vector(model: nn.Module) -> torch.Tensor:
    """All parameters, without buffers, as one float64 vector."""
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def state_vector(model: nn.Module) -> torch.Tensor:
    """All parameters and buffers, also batch norm's counters of batches, as one float64 vector.

    Not what arXiv 2505.13900 defines, but what reproduces the dissimilarity that it reports.
    """
    return torch.cat([t.double().flatten() for t in model.state_dict().values()])


def dissimilarity(one: torch.Tensor, other: torch.Tensor) -> float:
    """Parameter dissimilarity C = 1 - cos of two parameter vectors.

    Computed as |u - v|^2 / 2 of the unit vectors: exactly 0 for equal vectors, and accurate where
    1 - cos would cancel.
    """
    difference = one / one.norm() - other / other.norm()
    return float(difference.square().sum() / 2)


def l2(one: torch.Tensor, other: torch.Tensor) -> float:
    """Euclidean distance of two parameter vectors."""
    return float((one - other).norm())


def identical(one: nn.Module, other: nn.Module) -> bool:
    """Whether all parameters and buffers are equal, bit for bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    # Seen as integers, so that 0.0 and -0.0 differ and NaN equals itself.
    return all(torch.equal(_bits(a), _bits(b)) for a, b in pairs)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.int32) if tensor.is_floating_point() else tensor


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
    """Set `between` to alpha * one + (1 - alpha) * other; exact at 0, 1 and for equal networks."""
    states = (network.state_dict() for network in (between, one, other))
    for target, a, b in zip(*(state.values() for state in states), strict=True):
        target.copy_(torch.lerp(b, a, alpha) if a.is_floating_point() else a)


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, images: torch.Tensor) -> None:
    """Set batch norm's running statistics to the means, over chunks of `images` of one size, of
    the chunks' means and variances.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all chunks
    model.train()
    for chunk in images.tensor_split(math.ceil(len(images) / CHUNK)):
        model(chunk)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def barrier(alphas: list[float], losses: list[float]) -> float:
    """Loss barrier: the largest gap between the losses on a path and the line between its ends.

    `losses[i]` belongs to alpha * one + (1 - alpha) * other; alphas run from 0 to 1, so the
    barrier is never negative. The maximum is of the gap, not of the loss. Where a loss is not
    finite the barrier is not a number.
    """
    if not all(math.isfinite(loss) for loss in losses):
        return math.nan
    first, last = losses[0], losses[-1]
    # Written so that equal losses give exactly zero. At both ends the gap is zero by definition.
    inner = zip(alphas[1:-1], losses[1:-1], strict=True)
    return max([0.0] + [loss - (first + alpha * (last - first)) for alpha, loss in inner])
