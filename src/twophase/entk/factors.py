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
from twophase.entk.places import Places, by_one_product, empty, places
from twophase.entk.plan import Share, Task
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
    found = places(task, shares, set(JACOBIANS), kernel)
    others: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for share in shares:
        if share.order in JACOBIANS:
            others[share.order][share.name] = share.parameter
    for start in range(0, task.n, block):
        part = slice(start, min(start + block, task.n))
        if any(share.uses or share.operations for share in shares):
            _backward(model, inputs, part, task, shares, together, found)
        for order, parameters in others.items():
            for name, jacobian in JACOBIANS[order](model, inputs[part], task, parameters).items():
                gradients = jacobian.reshape(*jacobian.shape[:2], -1)
                found.formed[part, :, found.columns[name]] = gradients
        yield (start // block + 1) / steps
    kept, alone = found.kept, found.alone
    if found.columns:
        add_gram(kernel, found.formed.view(task.size, -1), task.first * task.rows)
    del found
    for index, share in enumerate(shares):
        if share.name in alone:
            gradients = alone.pop(share.name).view(task.size, -1)
            add_gram(kernel, gradients, task.first * task.rows)
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
    found: Places,
) -> None:
    """Fill in what is found for the examples of `part`."""
    share_of = {use: share for share in shares for use in share.uses}
    count = len(inputs[part])
    # Recording continues in the backward passes: a checkpoint calls its layers again.
    with recorded(dict.fromkeys(module for module, _ in share_of)) as record:
        logits = logits_of(model, never_one(inputs[part]))
        _refuse_other_calls(record, len(logits), share_of)
        calls = [call._replace(input=call.input[:count]) for call in record]
        stacks, normal = _room(calls, part, task, share_of, found)
        uses = Uses(logits, part, task, shares, found)
        edges, c = [*(call.edge for call in calls), *uses.edges], 0
        for seeds in task.seeds(logits).split(together) if edges else ():
            some, seeds = slice(c, c + len(seeds)), seeds.contiguous()
            c = some.stop
            gradients = gradients_of_several(logits, edges, seeds, again=c < task.backwards)
            uses.add(some, gradients[len(calls) :])
            for index, g in enumerate(gradients[: len(calls)]):
                module = calls[index].module
                if g is None:
                    if index in stacks:
                        stacks[index][:, some] = 0
                    continue
                g = g[:, :count]
                if index in stacks:
                    stacks[index][:, some] = channels_first(module, g).transpose(0, 1)
                if index in normal:
                    place = found.of(share_of[module, "weight"], part, some)
                    place += over_positions(module, g * normal[index]).transpose(0, 1)
                if (module, "bias") in share_of:
                    place = found.of(share_of[module, "bias"], part, some)
                    place += over_positions(module, g).transpose(0, 1)
    uses.finish()
    for index, (module, a, *_) in enumerate(calls):
        if index in stacks and (share := share_of[module, "weight"]).order == "formed":
            _form(found, share, part, a, stacks.pop(index))
    weights = [share_of.get((call.module, "weight")) for call in calls]
    met = {share.name for share in weights if share is not None}
    found.leave_out({share.name for share in shares if share.uses} - met, part)


def _refuse_other_calls(
    calls: list[Call], count: int, share_of: dict[tuple[nn.Module, str], Share]
) -> None:
    """Raise `Misfit` if layers are called on other than all `count` examples, or more often than
    their order of contraction allows.
    """
    seen: set[nn.Module] = set()
    for call in calls:
        share = share_of.get((call.module, "weight"))
        once = share is not None and (share.order != "formed" or by_one_product(share))
        if not len(call.input) == call.shape[0] == count or (once and call.module in seen):
            raise Misfit(call.module.parameters(recurse=False))
        seen.add(call.module)


def _room(
    calls: list[Call],
    part: slice,
    task: Task,
    share_of: dict[tuple[nn.Module, str], Share],
    found: Places,
) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
    """By index of the call: room for output gradients (examples, C, O, P), and what a norm
    multiplies with its weight. Inputs that are needed later are kept.
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
        layout = share.order if isinstance(module, nn.Linear) else "pairs"  # as convolutions' g lie
        if share.order == "formed":
            stacks[index] = empty(layout, found.formed, len(a), stack)
        else:
            stacks[index] = found.keep(share, part, a, stack, layout)
    return stacks, normal


def _form(found: Places, share: Share, part: slice, a: torch.Tensor, g: torch.Tensor) -> None:
    """Form a weight's gradients from inputs and output gradients (n, C, O, P)."""
    module = share.uses[0][0]
    patches = unfolded(module, a).transpose(1, 2)
    if share.name in found.alone:
        gradients = found.alone[share.name][part].view(len(a), -1, patches.shape[2])
        torch.bmm(g.flatten(1, 2), patches, out=gradients)
        return
    count, rows = g.shape[:2]
    groups = groups_of(module)
    # Groups are examples of their own: (n groups, C O / groups, P) with (n groups, D, P).
    g = g.unflatten(2, (groups, -1)).transpose(1, 2).reshape(count * groups, -1, g.shape[-1])
    gradients = torch.bmm(g, patches).view(count, groups, rows, -1).transpose(1, 2)
    place = found.of(share, part, slice(None))
    place += gradients.flatten(2)
