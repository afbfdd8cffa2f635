"""Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.optim.adamw import adamw

from twophase.optimizers import AdamW

STATE = ("mean", "square")


def update(
    parameters: list[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    state: dict[str, list[torch.Tensor]],
    options: AdamW,
    lr: float,
    step: int,
    origin: list[torch.Tensor] | None = None,
) -> None:
    """One step of `torch.optim.AdamW`, in place on parameters and on the running means of
    gradients and of their squares.

    Where `parameters` are offsets from an `origin`, weight decay is of their sum.
    """
    adamw(
        parameters,
        list(gradients),
        state["mean"],
        state["square"],
        [],
        [torch.tensor(float(step), device=each.device) for each in parameters],
        fused=True,
        amsgrad=False,
        beta1=options.betas[0],
        beta2=options.betas[1],
        lr=lr,
        weight_decay=options.weight_decay,
        eps=options.eps,
        maximize=False,
    )
    if origin is not None:
        # The step decays the offset by itself. Not before it, or it would decay this too.
        torch._foreach_add_(parameters, origin, alpha=-lr * options.weight_decay)
