"""Distances between two networks: of their parameters, their states, their predictions.

Vectors of parameters are compared in float64. Names and definitions are those of
arXiv 2505.13900, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from twophase.training.tasks import CLASSIFICATION
from twophase.training.tensors import bits, named_state, trained

Prediction = Callable[[torch.Tensor], torch.Tensor]


def disagreement(
    one: torch.Tensor, other: torch.Tensor, prediction: Prediction = CLASSIFICATION.prediction
) -> float:
    """Share of examples on which logits (n, classes) of two networks predict other classes.

    Of another task `prediction(out)` makes what is compared of the networks' outputs. Of whole
    numbers, such as tokens (n, positions), it is the share that is not the same. Of real ones it is
    the root mean square difference, in the unit of the labels. Not a number where an output is
    none: a network that diverged predicts nothing.

    >>> one = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    >>> disagreement(one, one.flip(1)), disagreement(one, 5 * one)
    (1.0, 0.0)
    >>> disagreement(one, torch.tensor([[2.0, 1.0], [0.0, 5.0]]), prediction=lambda out: out)
    1.0
    """
    if one.isnan().any() or other.isnan().any():
        return math.nan
    one, other = prediction(one), prediction(other)
    if one.is_floating_point():
        return float((one.double() - other.double()).square().mean().sqrt())
    return float((one != other).double().mean())


def parameter_vector(model: nn.Module) -> torch.Tensor:
    """All parameters that are trained, without buffers, as one float64 vector.

    >>> parameter_vector(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))).shape
    torch.Size([48])
    """
    return torch.cat([p.detach().double().flatten() for p in trained(model).values()])


def state_vector(model: nn.Module) -> torch.Tensor:
    """All parameters and buffers, also batch norm's counters of batches, as one float64 vector.

    Not what arXiv 2505.13900 defines, but what reproduces the dissimilarity that it reports.
    Infinite entries of buffers, such as an attention mask's, count as zero.

    >>> state_vector(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))).shape  # and 4 + 4 + 1
    torch.Size([57])
    """
    parameters = dict(model.named_parameters())
    entries = []
    for name, tensor in named_state(model).items():
        real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        vector = real.double().flatten()
        entries.append(vector if name in parameters else vector.masked_fill(vector.isinf(), 0))
    return torch.cat(entries)


def dissimilarity(one: torch.Tensor, other: torch.Tensor) -> float:
    """Parameter dissimilarity C = 1 - cos of two parameter vectors.

    Computed as |u - v|^2 / 2 of the unit vectors: exactly 0 for equal vectors, and accurate where
    1 - cos would cancel.

    >>> x, y = torch.tensor([1.0, 0.0]).double(), torch.tensor([3.0, 4.0]).double()
    >>> round(dissimilarity(x, y), 12), dissimilarity(x, 7 * x)  # 1 - 3/5; blind to scale
    (0.4, 0.0)
    """
    difference = one / one.norm() - other / other.norm()
    return float(difference.square().sum() / 2)


def l2(one: torch.Tensor, other: torch.Tensor) -> float:
    """Euclidean distance of two parameter vectors.

    >>> l2(torch.zeros(2), torch.tensor([3.0, 4.0]))
    5.0
    """
    return float((one - other).norm())


def identical(one: nn.Module, other: nn.Module) -> bool:
    """Whether all parameters and buffers are equal, bit for bit.

    >>> layer = nn.Linear(2, 2)
    >>> identical(layer, layer), identical(layer, nn.Linear(2, 2))
    (True, False)
    """
    states = (named_state(network).values() for network in (one, other))
    return all(torch.equal(bits(a), bits(b)) for a, b in zip(*states, strict=True))
