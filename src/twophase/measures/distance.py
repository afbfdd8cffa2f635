"""Distances between two networks: of their parameters, their states, their predictions.

Vectors of parameters are compared in float64. Names and definitions are those of
arXiv 2505.13900, section 3.
"""

from __future__ import annotations

import torch
from torch import nn


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
