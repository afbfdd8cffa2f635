"""Adam (Kingma and Ba 2015), with weight decay in the gradient or apart from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.optim.adam import adam

from twophase.study.optimizers import Adam

STATE = ("mean", "square")


def update(
    parameters: list[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    state: dict[str, list[torch.Tensor]],
    options: Adam,
    lr: float,
    step: int,
    origin: list[torch.Tensor] | None = None,
    *,
    decoupled: bool = False,
) -> None:
    """One step of `torch.optim.Adam`, or with `decoupled` weight decay of `torch.optim.AdamW`, in
    place on parameters and on the running means of gradients and of their squares.

    Where `parameters` are offsets from an `origin`, weight decay is of their sum.
    """
    if origin is not None and not decoupled:
        # The step decays the offset by itself.
        gradients = [
            gradient + options.weight_decay * start
            for gradient, start in zip(gradients, origin, strict=True)
        ]
    adam(
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
        decoupled_weight_decay=decoupled,
    )
    if origin is not None and decoupled:
        # The step decays the offset by itself. Not before it, or it would decay this too.
        torch._foreach_add_(parameters, origin, alpha=-lr * options.weight_decay)
