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
    features are the same for all examples.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, -3.0]])
    >>> round(linear_cka(x, 10 - 3 * x.flip(1)), 6)  # the same but for place, scale and offset
    1.0
    """
    x, y = (f.double() - f.double().mean(0) for f in (one, other))
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))
