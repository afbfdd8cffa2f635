"""SGD with momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.optim.sgd import sgd

from twophase.study.optimizers import SGD

STATE = ("momentum",)


def update(
    parameters: list[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    state: dict[str, list[torch.Tensor]],
    options: SGD,
    lr: float,
    step: int,
    origin: list[torch.Tensor] | None = None,
) -> None:
    """One step of `torch.optim.SGD`, in place on parameters and momentum.

    Where `parameters` are offsets from an `origin`, weight decay is of their sum. The functional
    form keeps all state in our hands; an optimizer object would also load PyTorch's compiler,
    1.2 s in each job.
    """
    if origin is not None:
        # The step decays the offset by itself.
        gradients = [
            gradient + options.weight_decay * start
            for gradient, start in zip(gradients, origin, strict=True)
        ]
    sgd(
        parameters,
        gradients,
        state["momentum"],
        fused=True,
        lr=lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        dampening=0.0,
        nesterov=options.nesterov,
        maximize=False,
    )
