"""Similarity of what two networks have learnt to see: linear CKA of their last hidden features."""

from __future__ import annotations

import torch
from torch import nn

from twophase.errors import RunError
from twophase.training.evaluation import logits


def last_hidden(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Inputs (n, features) of the linear layer that runs last, on images (n, C, H, W), in eval
    mode.

    Raises `RunError` if no linear layer runs.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> last_hidden(model, torch.zeros(5, 1, 2, 2)).shape
    torch.Size([5, 8])
    """
    seen: list[tuple[nn.Module, torch.Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: seen.append((layer, inputs[0])))
        for layer in model.modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        logits(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise RunError("matching: the network has no linear layer whose inputs could be compared")
    return torch.cat([inputs.flatten(1) for layer, inputs in seen if layer is seen[-1][0]])


def linear_cka(one: torch.Tensor, other: torch.Tensor) -> float:
    """Linear CKA of features (n, p) and (n, q) of the same examples: |Y^T X|^2 / (|X^T X| |Y^T Y|)
    of the centred features, Frobenius norms (Kornblith et al. 2019, arXiv 1905.00414).

    1 for features that are equal up to rotation, scale and offset; not a number if one network's
    features are the same for all examples, but for rounding. Biased: with few examples and many
    features it is far from 0 for features that have nothing in common; see `unbiased_cka`.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, -3.0]])
    >>> round(linear_cka(x, 10 - 3 * x.flip(1)), 6)  # the same but for place, scale and offset
    1.0
    """
    x, y = _centred(one), _centred(other)
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def unbiased_cka(one: torch.Tensor, other: torch.Tensor) -> float:
    """Linear CKA from unbiased estimates of its three terms (HSIC_1 of Song et al. 2012, as in
    Nguyen et al. 2021, arXiv 2010.15327): about 0 for features that have nothing in common, however
    many there are, and then it may be negative.

    1 for features that are equal up to rotation, scale and offset. Not a number for fewer than four
    examples, or if one network's features are the same for all of them, but for rounding.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, -3.0], [2.0, 2.0]])
    >>> round(unbiased_cka(x, 10 - 3 * x.flip(1)), 6)
    1.0
    """
    x, y = _centred(one), _centred(other)
    variances = _hsic(x, x) * _hsic(y, y)
    return _hsic(x, y) / variances**0.5 if len(x) > 3 and variances > 0 else float("nan")


def _hsic(x: torch.Tensor, y: torch.Tensor) -> float:
    """n (n - 3) times HSIC_1 of the kernels x x^T and y y^T, from features: nothing (n, n)."""
    n = len(x)
    own_x, own_y = x.square().sum(1), y.square().sum(1)  # the kernels' diagonals, left out below
    rows_x, rows_y = x @ x.sum(0) - own_x, y @ y.sum(0) - own_y
    products = (y.T @ x).square().sum() - own_x @ own_y
    means = rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2)) if n > 2 else 0.0
    return float(products + means - 2 * (rows_x @ rows_y) / max(1, n - 2))


def _centred(features: torch.Tensor) -> torch.Tensor:
    """Features (n, p) less their means, in float64. One that varies by rounding alone is 0."""
    # The mean of equal numbers is not always that number; their difference is always zero.
    rounding = 4 * torch.finfo(features.dtype).eps * features.abs().amax(0).double()
    from_first = features.double() - features[0].double()
    varies = from_first.abs().amax(0) > rounding
    return torch.where(varies, from_first - from_first.mean(0), 0.0)
