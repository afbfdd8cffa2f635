"""The proof of a kernel: a few random numbers that ordinary backward passes give as well."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from twophase.entk.network import (
    KernelError,
    Misfit,
    gradients_of,
    logits_of,
    never_one,
    references,
)
from twophase.entk.plan import BLOCK, MEMORY, Task


def prove(
    kernel: torch.Tensor, model: nn.Module, inputs: torch.Tensor, task: Task, limit: int | None
) -> None:
    """Compare v' H v with |d(v . f)/dtheta|^2 for two random v. Raises `KernelError`, or `Misfit`
    if a rule for layers does not hold for some examples.

    The examples are split at random into two halves, and one ordinary forward and backward pass
    over each gives a gradient. Their sum and their difference are those of two vectors v over all
    examples, at the price of one pass. For a kernel between two sets u' H v is the product of both
    sets' gradients. For `trace`, where an identity takes a pass for each class, v is zero but for a
    random nC-th of the examples.
    """
    if not task.trained:
        return
    generator = torch.Generator().manual_seed(0)
    halves = _halves(task, generator)
    chosen = torch.cat(halves)
    v = torch.randn(len(chosen), task.rows, generator=generator, dtype=torch.float64)
    squares, product = [0.0, 0.0], 0.0
    split = [seed.split([len(half) for half in halves]) for seed in _seeds(v, task)]
    gradients = [
        _gradients(model, inputs, half, [seeds[i] for seeds in split], task, limit)
        for i, half in enumerate(halves)
    ]
    for found in zip(*gradients, strict=True):
        for first, second in zip(*found, strict=True):
            first, second = first.flatten().double(), second.flatten().double()
            squares = [squares[0] + float(first @ first), squares[1] + float(second @ second)]
            product += float(first @ second)
    if task.first:
        w = torch.zeros(task.n, task.rows, dtype=torch.float64)
        w[chosen] = v
        columns, rows = w.to(kernel.device).tensor_split([task.first])
        _compare(kernel, rows.flatten(), columns.flatten(), product, math.prod(squares) ** 0.5)
        return
    for sign in (1, -1):
        w = torch.zeros(task.n, task.rows, dtype=torch.float64)
        signs = torch.ones(len(chosen), 1, dtype=torch.float64)
        signs[len(halves[0]) :] = sign
        w[chosen] = signs * v
        w, expected = w.flatten().to(kernel.device), sum(squares) + 2 * sign * product
        _compare(kernel, w, w, expected, float((w * w) @ kernel.diagonal().double()))


def _halves(task: Task, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """The examples that take part, at random, in two groups: those of columns and of rows, if the
    kernel has others.
    """
    chosen = torch.randperm(task.n, generator=generator)
    few = max(4, math.ceil(task.n / task.classes)) if task.kind == "trace" else task.n
    if not task.first:
        return chosen[:few].tensor_split(2)
    columns, rows = chosen[chosen < task.first], chosen[chosen >= task.first]
    return columns[:few], rows[:few]


def _seeds(v: torch.Tensor, task: Task) -> list[torch.Tensor]:
    """Factors (examples, C) of the logits, one for each backward pass whose squares add up."""
    if task.kind == "full":
        return [v]
    v = task.scale * v
    if task.kind == "pseudo":
        return [v.expand(-1, task.classes)]
    return [v * row for row in torch.eye(task.classes, dtype=v.dtype)]


def _gradients(
    model: nn.Module,
    inputs: torch.Tensor,
    part: torch.Tensor,
    seeds: list[torch.Tensor],
    task: Task,
    limit: int | None,
) -> Iterator[list[torch.Tensor]]:
    """Gradient of the sum of seed * logits over the examples `part`, by parameter, for each of
    `seeds`: after one forward pass, where it holds all of these examples.
    """
    memory = min(BLOCK, MEMORY if limit is None else limit) // 2  # both halves' passes are held
    block = max(2, memory // (task.dtype.itemsize * max(1, task.graph)))
    logits = None
    for left, seed in zip(reversed(range(len(seeds))), seeds, strict=True):
        total = [torch.zeros_like(parameter) for parameter in task.trained]
        for some, weights in zip(part.split(block), seed.split(block), strict=True):
            if not len(some):
                continue
            weights = torch.cat([weights, 0 * weights]) if len(some) == 1 else weights
            if logits is None or block < len(part):
                logits = logits_of(model, never_one(inputs[some.to(inputs.device)]))
                _refuse_other_uses(logits, task)
            if not logits.requires_grad:
                continue
            gradients = gradients_of(logits, task.trained, weights.to(logits), again=left > 0)
            for place, gradient in zip(total, gradients, strict=True):
                if gradient is not None:
                    place += gradient
        yield total


def _refuse_other_uses(logits: torch.Tensor, task: Task) -> None:
    """Raise `Misfit` if parameters enter these logits' graph more often, or less, than the first
    examples', and the rules for layers count on that. Not to enter it at all is no matter.
    """
    count, _ = references(logits)
    left = {s.parameter for s in task.shares if not s.uses and not s.operations}
    wrong = {p for p in task.trained if count[p] not in (0, task.count[p])} - left
    if wrong:
        raise Misfit(wrong)


def _compare(
    kernel: torch.Tensor, u: torch.Tensor, w: torch.Tensor, expected: float, size: float
) -> None:
    """Raise unless u' H w is `expected`, but for rounding in sums of this size."""
    strips = zip(u.split(512), kernel.split(512), strict=True)
    found = sum(float(part @ (strip.double() @ w)) for part, strip in strips)
    if not abs(found - expected) <= tolerance(kernel) * max(size, expected):
        raise KernelError(
            f"the tangent kernel is wrong: v' H v = {found:.9g} for a random v, where an ordinary "
            f"backward pass gives {expected:.9g}. {_small(kernel)}Likely causes: a hook, a mask or "
            "a value kept from call to call that changes what a layer computes, logits that depend "
            "on the other examples of a batch, a backward pass that is not the derivative, or "
            "numbers of lower precision within the network (autocast)"
        )


def _small(kernel: torch.Tensor) -> str:
    """What is said of a kernel in 16 bits whose numbers are near the least that they hold."""
    least = torch.finfo(kernel.dtype).tiny
    if kernel.dtype.itemsize > 2 or kernel.diagonal().median() > 1e4 * least:
        return ""
    return f"{kernel.dtype} rounds products below {least:.1g}: use float32. "


def tolerance(kernel: torch.Tensor) -> float:
    """Largest difference due to rounding, relative to the sum of v_i^2 H_ii."""
    eps = torch.finfo(kernel.dtype).eps
    if kernel.dtype == torch.float32 and kernel.is_cuda:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        if matmul.allow_tf32 or cudnn.allow_tf32:
            eps = 2.0**-11
    return eps**0.5 / 4
