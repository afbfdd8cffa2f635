"""Distances between two networks: of their parameters, their states, their predictions.

Vectors of parameters are compared in float64. Names and definitions are those of
arXiv 2505.13900, section 3.
"""

from __future__ import annotations

import torch
from torch import nn

from twophase.tensors import bits, named_state, trained


def disagreement(one: torch.Tensor, other: torch.Tensor) -> float:
    """Share of examples on which logits (n, classes) of two networks predict other classes."""
    return float((one.argmax(1) != other.argmax(1)).double().mean())


def parameter_vector(model: nn.Module) -> torch.Tensor:
    """All parameters that are trained, without buffers, as one float64 vector."""
    return torch.cat([p.detach().double().flatten() for p in trained(model).values()])


def state_vector(model: nn.Module) -> torch.Tensor:
    """All parameters and buffers, also batch norm's counters of batches, as one float64 vector.

    Not what arXiv 2505.13900 defines, but what reproduces the dissimilarity that it reports.
    Infinite entries of buffers, such as an attention mask's, count as zero.
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
    """
    difference = one / one.norm() - other / other.norm()
    return float(difference.square().sum() / 2)


def l2(one: torch.Tensor, other: torch.Tensor) -> float:
    """Euclidean distance of two parameter vectors."""
    return float((one - other).norm())


def identical(one: nn.Module, other: nn.Module) -> bool:
    """Whether all parameters and buffers are equal, bit for bit."""
    states = (named_state(network).values() for network in (one, other))
    return all(torch.equal(bits(a), bits(b)) for a, b in zip(*states, strict=True))
