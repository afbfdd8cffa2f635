"""What the kernels of independent runs have in common."""

from __future__ import annotations

import torch


def angles_to_others(vectors: torch.Tensor) -> torch.Tensor:
    """Angle (count,), in degrees, of each of `vectors` (count, ...) with the mean direction of all
    the others: 0 if they are multiples of each other, near 90 if they are independent directions in
    many dimensions. Not a number for a single one.

    A vector is no part of the mean that it is compared with: of few independent vectors, each is
    near their mean for that reason alone (arccos of 1 / sqrt(count)).

    >>> angles_to_others(torch.eye(2)).round(), angles_to_others(torch.ones(3, 4)).round()
    (tensor([90., 90.], dtype=torch.float64), tensor([0., 0., 0.], dtype=torch.float64))
    """
    units = vectors.double().flatten(1)
    units = units / units.norm(dim=1, keepdim=True)
    others = units.sum(0) - units if len(units) > 1 else units * torch.nan
    others = others / others.norm(dim=1, keepdim=True)
    # By the chord, which is exact where the angle is small.
    return (2 * ((units - others).norm(dim=1) / 2).clamp(max=1).arcsin()).rad2deg()
