"""Layers' inputs and output gradients, and parameters' gradients formed from them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import nn

from twophase.entk.contract import ORDERS, add_gram
from twophase.entk.jacobians import by_autograd, by_func
from twophase.entk.layers import (
    NORMS,
    channels_first,
    groups_of,
    normalised,
    over_positions,
    positions,
    unfolded,
)
from twophase.entk.network import (
    Call,
    Misfit,
    gradients_of_several,
    logits_of,
    never_one,
    recorded,
)
from twophase.entk.plan import Share, Task, zeros
from twophase.entk.uses import Uses, reached

JACOBIANS = {"func": by_func, "autograd": by_autograd}


def add_shares(
    kernel: torch.Tensor,
    model: nn.Module,
    inputs: torch.Tensor,
    task: Task,
    shares: list[Share],
    block: int,
    together: int,
) -> Iterator[float]:
    """Add to `kernel` what `shares` contribute, with `block` examples and `together` logits in a
    backward pass. Yields after each block and each contraction how many of them are done, as a part
    of all.
    """
    steps = math.ceil(task.n / block) + len(shares)
    columns, end = {}, 0
    for share in shares:
        if share.order in ("formed", *JACOBIANS):
            columns[share.name] = slice(end, end + share.parameter.numel())
            end += share.parameter.numel()
    formed = kernel.new_zeros(task.n, task.backwards, end)
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    others: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for share in shares:
        if share.order in JACOBIANS:
            others[share.order][share.name] = share.parameter
    for start in range(0, task.n, block):
        part = slice(start, min(start + block, task.n))
        if any(share.uses or share.operations for share in shares):
            _backward(model, inputs, part, task, shares, together, columns, formed, kept)
        for order, parameters in others.items():
            for name, jacobian in JACOBIANS[order](model, inputs[part], task, parameters).items():
                formed[part, :, columns[name]] = jacobian.reshape(*jacobian.shape[:2], -1)
        yield (start // block + 1) / steps
    if end:
        add_gram(kernel, formed.view(task.size, -1), task.first * task.rows)
    del formed
    for index, share in enumerate(shares):
        if share.name in kept:
            module, a, g = reached(share, *kept.pop(share.name))
            g = g.reshape(task.n, task.rows, -1, g.shape[-1])
            ORDERS[share.order](kernel, module, a, g, task)
        yield (steps - len(shares) + index + 1) / steps


def _backward(
    model: nn.Module,
    inputs: torch.Tensor,
    part: slice,
    task: Task,
    shares: list[Share],
    together: int,
    columns: dict[str, slice],
    formed: torch.Tensor,
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]],
) -> None:
    """Fill in `formed` (n, C, columns) and `kept`, (a, g) by name, for the examples of `part`."""
    share_of = {use: share for share in shares for use in share.uses}
    count = len(inputs[part])
    # Recording continues in the backward passes: a checkpoint calls its layers again.
    with recorded(dict.fromkeys(module for module, _ in share_of)) as record:
        logits = logits_of(model, never_one(inputs[part]))
        _refuse_other_calls(record, len(logits), share_of)
        calls = [call._replace(input=call.input[:count]) for call in record]
        stacks, normal = _room(calls, part, task, share_of, formed, kept)
        uses = Uses(logits, part, task, shares, columns, formed, kept)
        edges, c = [*(call.edge for call in calls), *uses.edges], 0
        for seeds in task.seeds(logits).split(together) if edges else ():
            some, seeds = slice(c, c + len(seeds)), seeds.contiguous()
            c = some.stop
            gradients = gradients_of_several(logits, edges, seeds, again=c < task.backwards)
            uses.add(some, gradients[len(calls) :])
            for index, g in enumerate(gradients[: len(calls)]):
                if g is None:
                    continue
                g = g[:, :count]
                module = calls[index].module
                if index in stacks:
                    stacks[index][:, some] = channels_first(module, g).transpose(0, 1)
                if index in normal:
                    place = formed[part, some, columns[share_of[module, "weight"].name]]
                    place += over_positions(module, g * normal[index]).transpose(0, 1)
                if (module, "bias") in share_of:
                    place = formed[part, some, columns[share_of[module, "bias"].name]]
                    place += over_positions(module, g).transpose(0, 1)
    uses.finish()
    for index, (module, a, *_) in enumerate(calls):
        if index in stacks and share_of[module, "weight"].order == "formed":
            place = formed[part, :, columns[share_of[module, "weight"].name]]
            place += _formed(module, a, stacks.pop(index))


def _refuse_other_calls(
    calls: list[Call], count: int, share_of: dict[tuple[nn.Module, str], Share]
) -> None:
    """Raise `Misfit` if layers are called on other than all `count` examples, or more often than
    their order of contraction allows.
    """
    seen: set[nn.Module] = set()
    for call in calls:
        share = share_of.get((call.module, "weight"))
        once = share is not None and share.order != "formed"
        if not len(call.input) == call.shape[0] == count or (once and call.module in seen):
            raise Misfit(call.module.parameters(recurse=False))
        seen.add(call.module)


def _room(
    calls: list[Call],
    part: slice,
    task: Task,
    share_of: dict[tuple[nn.Module, str], Share],
    formed: torch.Tensor,
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]],
) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
    """By index of the call: zeros for output gradients (examples, C, O, P), and what a norm
    multiplies with its weight. Inputs that are needed later go to `kept`.
    """
    stacks, normal = {}, {}
    for index, (module, a, *_) in enumerate(calls):
        if (module, "weight") not in share_of:
            continue
        share = share_of[module, "weight"]
        if isinstance(module, NORMS):
            normal[index] = normalised(module, a)
            continue
        stack = (task.backwards, len(module.weight), positions(calls[index]))
        if share.order == "formed":
            stacks[index] = zeros(_layout(module, share), formed, len(a), stack)
        else:
            if share.name not in kept:
                inputs_kept = a.new_zeros(task.n, *a.shape[1:])  # some examples may not come here
                g = zeros(_layout(module, share), formed, task.n, stack)
                kept[share.name] = (inputs_kept, g)
            if (a.shape[1:], stack) != tuple(t.shape[1:] for t in kept[share.name]):
                raise Misfit([share.parameter])
            kept[share.name][0][part] = a
            stacks[index] = kept[share.name][1][part]
    return stacks, normal


def _layout(module: nn.Module, share: Share) -> str:
    """The order whose layout of g is meant: a convolution's g has its positions side by side."""
    return share.order if isinstance(module, nn.Linear) else "pairs"


def _formed(module: nn.Module, a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """A weight's gradients (n, C, numbers) from inputs and output gradients (n, C, O, P)."""
    count, rows = g.shape[:2]
    groups = groups_of(module)
    # Groups are examples of their own: (n groups, C O / groups, P) with (n groups, D, P).
    g = g.unflatten(2, (groups, -1)).transpose(1, 2).reshape(count * groups, -1, g.shape[-1])
    gradients = torch.bmm(g, unfolded(module, a).transpose(1, 2))
    return gradients.view(count, groups, rows, -1).transpose(1, 2).flatten(2)
