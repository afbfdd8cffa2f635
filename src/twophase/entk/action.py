"""What a tangent kernel does to vectors, without the kernel."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from twophase.entk import plan
from twophase.entk.check import tolerance
from twophase.entk.network import (
    Contiguous,
    KernelError,
    gradients_of,
    logits_of,
    mended,
    never_one,
    probes,
    refuse_dependence,
)
from twophase.entk.refusals import checked, refuse_batch_statistics
from twophase.entk.survey import measured


def entk_action(
    model: nn.Module,
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    others: torch.Tensor | None = None,
    *,
    memory_limit: int | None = None,
) -> torch.Tensor:
    """H v for the full tangent kernel H of `entk(model, inputs, others)`, which is never formed.

    `vectors` are (m, C) or (k, m, C) over `others` (m, ...), without them over `inputs` (n, ...);
    the result is (n, C) or (k, n, C). H v = J (J' v), with J = df/dtheta: a backward pass over
    `others`, and a forward, a backward and another backward pass over `inputs`, for each vector.
    That takes time in proportion to n + m, and memory for two gradients of all parameters;
    `memory_limit` bounds, in bytes, what passes hold besides.

    Raises `KernelError` if vectors are of another shape, if the network has no tangent kernel (see
    `entk`), or if v' H v differs from |J' v|^2 where both sets are one.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> entk_action(model, torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -1.0]]))
    tensor([[ 5., -5.]])
    """
    with torch.inference_mode(False), torch.enable_grad():
        inputs = checked(model, inputs)
        beside = inputs if others is None else checked(model, others)
        refuse_batch_statistics(model)
        # Other ways to compute attention have no second derivatives.
        with mended(model), sdpa_kernel(SDPBackend.MATH):
            three = probes(inputs)
            _, logits, graph = measured(model, three[:2], [])
            refuse_dependence(model, three, logits_of(model, three), logits)
            several = vectors if vectors.dim() == 3 else vectors[None]
            if several.dim() != 3 or several.shape[1:] != (len(beside), logits.shape[1]):
                raise KernelError(
                    f"vectors are {tuple(vectors.shape)}: must be ({len(beside)}, "
                    f"{logits.shape[1]}), or several of these"
                )
            memory = min(plan.BLOCK, plan.MEMORY if memory_limit is None else memory_limit)
            block = max(2, memory // (4 * logits.itemsize * max(1, graph)))
            found = [_times(model, inputs, v.to(logits), beside, block) for v in several]
    return torch.stack(found) if vectors.dim() == 3 else found[0]


def _times(
    model: nn.Module, inputs: torch.Tensor, v: torch.Tensor, beside: torch.Tensor, block: int
) -> torch.Tensor:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = [torch.zeros_like(parameter) for parameter in trained]
    for some, part in zip(beside.split(block), v.split(block), strict=True):
        logits = logits_of(model, never_one(some))
        part = torch.cat([part, 0 * part]) if len(part) == 1 else part
        for place, g in zip(total, gradients_of(logits, trained, part), strict=True):
            if g is not None:
                place += g
    found = torch.cat([_forward(model, some, trained, total) for some in inputs.split(block)])
    if beside is inputs:
        expected = sum(float(g.double().square().sum()) for g in total)
        if not abs(float((v * found).double().sum()) - expected) <= tolerance(found) * expected:
            raise KernelError(
                "the tangent kernel's action is wrong: v' H v is not the square of a gradient; the "
                "network's backward pass is not the derivative, or has none itself"
            )
    return found


def _forward(
    model: nn.Module,
    inputs: torch.Tensor,
    trained: list[nn.Parameter],
    direction: list[torch.Tensor],
) -> torch.Tensor:
    """J u (n, C): the derivative of <J' w, u> with respect to w."""
    logits = logits_of(model, never_one(inputs))
    w = torch.zeros_like(logits, requires_grad=True)
    with Contiguous():  # a checkpoint calls its layers again
        found = torch.autograd.grad(logits, trained, w, create_graph=True, allow_unused=True)
        product = sum((g * u).sum() for g, u in zip(found, direction, strict=True) if g is not None)
        return torch.autograd.grad(product, w)[0][: len(inputs)]
