"""What a network is made of: which parameters the rules for layers cover, and what becomes of the
others.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Set

import torch
from torch import nn

from twophase.entk import plan
from twophase.entk.jacobians import right_by_func
from twophase.entk.layers import CONVS, ROLES
from twophase.entk.network import (
    Call,
    KernelError,
    gradients_of,
    kept_values,
    logits_of,
    never_one,
    probes,
    recorded,
    references,
    refuse_dependence,
)
from twophase.entk.operations import operations
from twophase.entk.plan import BLOCK, Share, Task, share_of_layers, share_of_operations
from twophase.entk.refusals import misplaced, refuse_batch_statistics, refuse_unreached


def survey(
    model: nn.Module,
    inputs: torch.Tensor,
    layers: list[nn.Module],
    kind: str,
    limit: int | None,
    excluded: Set[nn.Parameter] = frozenset(),
) -> Task:
    """Pass a few examples through `model`: which of `layers` are called, how often, on what shapes.
    The parameters `excluded` are not left to the rules for layers.

    Raises `KernelError` if the tangent kernel is not defined, or the network cannot be followed.
    """
    refuse_batch_statistics(model)
    three = probes(inputs)
    two = three[:2]
    try:
        calls, logits, graph = measured(model, two, layers)
    except RuntimeError as error:
        if reason := misplaced(model, two, error):
            raise KernelError(reason) from error
        raise  # the network's own fault, in its own words
    kept = kept_values(model)
    with recorded(layers) as record:
        logits_of_three = logits_of(model, three)
        larger = list(record)
        _refuse_kept(kept, kept_values(model))
        understood = _understood(calls, larger, logits, logits_of_three)
    refuse_dependence(model, three, logits_of_three, logits)
    task = _task(model, kind, len(inputs), logits, graph, limit)
    others, unreached = _covered(task, model, logits, calls, understood, excluded)
    rare = _reached(unreached, model, inputs, task, limit)
    _add_operations(task, logits, logits_of_three, others, excluded)
    if others or rare:
        by_func = right_by_func(model, two, task, others)
        _add_others(task, others | rare, by_func)
    refuse_unreached(task)
    return task


def measured(
    model: nn.Module, two: torch.Tensor, layers: list[nn.Module]
) -> tuple[list[Call], torch.Tensor, int]:
    """Calls, logits, and numbers that a pass holds for each example: what is saved for backward
    passes, and the gradients that one of them makes.
    """
    saved: dict[int, int] = {}

    def measure(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.data_ptr()] = tensor.numel()
        return tensor

    with recorded(layers) as calls, torch.autograd.graph.saved_tensors_hooks(measure, lambda t: t):
        logits = logits_of(model, two)
    for parameter in model.parameters():
        saved.pop(parameter.data_ptr(), None)
    outputs = sum(math.prod(call.shape) for call in calls)
    return calls, logits, (sum(saved.values()) + 2 * outputs) // len(two)


def _task(
    model: nn.Module, kind: str, n: int, logits: torch.Tensor, graph: int, limit: int | None
) -> Task:
    room = (plan.MEMORY if limit is None else limit) // 8
    count, nodes = references(logits)
    cache = plan.CUDA_CACHE if logits.is_cuda else plan.CACHE
    rows = n * (logits.shape[1] if kind == "full" else 1)
    chunk = max(plan.LEAST, plan.COLUMNS * rows * logits.itemsize)
    chunk = plan.CHUNK if logits.is_cuda else min(chunk, plan.CHUNK)
    return Task(
        count=count,
        nodes=len(nodes),
        kind=kind,
        n=n,
        classes=logits.shape[1],
        dtype=logits.dtype,
        chunk=min(chunk, room) // logits.itemsize,
        cache=min(cache, room) // logits.itemsize,
        graph=graph,
        trained=[parameter for parameter in model.parameters() if parameter.requires_grad],
        shares=[],
    )


def _refuse_kept(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    """Raise if a value made of parameters survives a forward pass: later ones would use it."""
    for name, value in after.items():
        if before.get(name) is value:
            raise KernelError(
                f"{name} keeps a value computed from parameters from one call to the next, also "
                "through model.train(): clear it there, or compute it in each call"
            )


def _understood(
    calls: list[Call], larger: list[Call], logits: torch.Tensor, logits_of_three: torch.Tensor
) -> dict[nn.Module, int | None]:
    """The layers whose rule holds in all calls of two passes, with two and with three examples, and
    the number of a linear layer's positions at which a gradient arrives.

    The examples come first, the input is still what it was, all numbers are of one kind, and the
    gradient of the first example's logits is zero but in the first place.
    """
    if [call.module for call in calls] != [call.module for call in larger]:
        return {}
    seen: dict[nn.Module, int | None] = {}
    owned = [True] * len(larger)
    if larger and logits_of_three.requires_grad:
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(logits.shape[1], generator=generator).to(logits)
        edges = [call.edge for call in larger]
        gradients = gradients_of(logits_of_three[0] @ v, edges, again=True)
        owned = [g is None or (len(g) == 3 and not g[1:].any()) for g in gradients]
        seen = {
            call.module: int(g[0].flatten(0, -2).any(1).sum())
            for call, g in zip(larger, gradients, strict=True)
            if g is not None and g.dim() > 2 and isinstance(call.module, nn.Linear)
        }
    wrong = {
        call.module
        for call, again, own in zip(calls, larger, owned, strict=True)
        if not (own and _holds(call, 2, logits) and _holds(again, 3, logits))
    }
    return {call.module: seen.get(call.module) for call in calls if call.module not in wrong}


def _holds(call: Call, count: int, logits: torch.Tensor) -> bool:
    """Whether a call is as the layer's rule wants it, with `count` examples."""
    module, a = call.module, call.input
    if isinstance(module, CONVS) and (
        module.padding_mode != "zeros" or a.dim() != 2 + len(module.kernel_size)
    ):
        return False
    alike = {(a.dtype, a.device), (call.dtype, call.device)} == {(logits.dtype, logits.device)}
    return alike and a.dim() > 1 and len(a) == call.shape[0] == count and a._version == call.version


def _covered(
    task: Task,
    model: nn.Module,
    logits: torch.Tensor,
    calls: list[Call],
    understood: dict[nn.Module, int | None],
    excluded: Set[nn.Parameter],
) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Plan the parameters that the rules cover; return the others, and those that the first
    examples do not reach.
    """
    uses = defaultdict(list)
    for call in calls:
        for role in ROLES:
            uses[call.module._parameters.get(role)].append((call, role))
    count, nodes = references(logits)
    others, unreached = {}, {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if not count[parameter]:
            unreached[name] = parameter
            continue
        known = uses[parameter]
        live = sum(call.edge.node in nodes for call, _ in known)
        if (
            count[parameter] == live
            and all(call.module in understood for call, _ in known)
            and not parameter._backward_hooks
            and parameter not in excluded
        ):
            seen = understood[known[0][0].module]
            task.shares.append(share_of_layers(task, name, parameter, known, seen))
        else:
            others[name] = parameter
    return others, unreached


def _add_operations(
    task: Task,
    two: torch.Tensor,
    three: torch.Tensor,
    others: dict[str, nn.Parameter],
    excluded: Set[nn.Parameter],
) -> None:
    """Plan those of `others` whose every use is an operation with a rule, and take them out."""
    eligible = {
        name: parameter
        for name, parameter in others.items()
        if parameter not in excluded and not parameter._backward_hooks
    }
    task.names, found = operations(two, three, eligible) if eligible else ((), {})
    for name, uses in found.items():
        task.shares.append(share_of_operations(task, name, others.pop(name), uses))


def _reached(
    unreached: dict[str, nn.Parameter],
    model: nn.Module,
    inputs: torch.Tensor,
    task: Task,
    limit: int | None,
) -> dict[str, nn.Parameter]:
    """Those of the parameters that the first examples do not reach, and some other example does:
    experts that few are sent to, rare branches.
    """
    found: dict[str, nn.Parameter] = {}
    memory = min(BLOCK, plan.MEMORY if limit is None else limit)
    block = max(2, memory // (task.dtype.itemsize * max(1, task.graph)))
    for some in inputs.split(block) if unreached else ():
        count, _ = references(logits_of(model, never_one(some)))
        found |= {name: parameter for name, parameter in unreached.items() if count[parameter]}
    return found


def _add_others(task: Task, others: dict[str, nn.Parameter], by_func: set[str]) -> None:
    """Plan the parameters that no rule covers, and say what they cost."""
    for name, parameter in others.items():
        numbers = task.backwards * parameter.numel()
        brief = 2 * numbers + (task.backwards if name in by_func else 1) * task.graph
        order = "func" if name in by_func else "autograd"
        task.shares.append(Share(name, parameter, [], [], order, numbers, 0, brief, 0))
    parts = []
    if by_func:
        names = ", ".join(name for name in others if name in by_func)
        parts.append(
            "torch.func computes the tangent kernel's share of parameters that no known layer "
            f"holds or not it alone: {names}"
        )
    if slow := [name for name in others if name not in by_func]:
        parts.append(
            "plain autograd computes the tangent kernel's share of parameters that torch.func "
            f"cannot follow: {', '.join(slow)}; that takes {task.n * task.backwards} backward "
            f"passes, one for each example and logit, instead of {task.backwards} over all examples"
        )
    warnings.warn("; ".join(parts), stacklevel=5)
