"""Derivatives of the logits with respect to parameters that no rule for layers covers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from twophase.entk.network import as_logits, evaluate, gradients_of, logits_of, never_one
from twophase.entk.plan import Task


def by_func(
    model: nn.Module, inputs: torch.Tensor, task: Task, parameters: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Derivatives (n, rows, ...) of the logits of `inputs` by `torch.func`, each example alone."""
    from torch.func import functional_call, jacrev, vmap  # its first use takes a second

    # Left to find shared parameters itself, functional_call leaves a module that has two names
    # changed (torch 2.15). Each module is named once here, with all it holds.
    names = {parameter: name for name, parameter in parameters.items()}
    holders = {
        f"{prefix}.{role}".lstrip("."): names[parameter]
        for prefix, module in model.named_modules()
        for role, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if parameter in names
    }

    def logits(values: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        values = {holder: values[name] for holder, name in holders.items()}
        output = functional_call(model, values, (x[None],), tie_weights=False)
        return task.functions(as_logits(output, x[None]))[0]

    parameters = {name: parameter.detach() for name, parameter in parameters.items()}
    evaluate(model)
    with warnings.catch_warnings(), torch.no_grad():  # beyond those within torch.func
        warnings.filterwarnings("ignore", "There is a performance drop")
        return vmap(jacrev(logits), in_dims=(None, 0))(parameters, inputs)


def by_autograd(
    model: nn.Module, inputs: torch.Tensor, task: Task, parameters: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The same by a backward pass for each example and row, two examples at a time."""
    found = {
        name: parameter.new_zeros(len(inputs), task.backwards, *parameter.shape)
        for name, parameter in parameters.items()
    }
    with _trained(task):
        for start in range(0, len(inputs), 2):
            pair = inputs[start : start + 2]
            rows = task.functions(logits_of(model, never_one(pair)))
            for i in range(len(pair)):
                for c in range(task.backwards):
                    for name, gradient in _gradients(rows[i, c], task, parameters).items():
                        found[name][start + i, c] = gradient
    return found


def _gradients(
    value: torch.Tensor, task: Task, parameters: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Gradients of a number. All trained parameters take part: users' backward hooks may count on
    that.
    """
    found = dict(zip(task.trained, gradients_of(value, task.trained, again=True), strict=True))
    return {
        name: torch.zeros_like(parameter) if found[parameter] is None else found[parameter]
        for name, parameter in parameters.items()
    }


@contextmanager
def _trained(task: Task) -> Iterator[None]:
    """Within the block, all parameters that are trained require gradients."""
    flags = [parameter.requires_grad for parameter in task.trained]
    for parameter in task.trained:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, flag in zip(task.trained, flags, strict=True):
            parameter.requires_grad_(flag)


def right_by_func(
    model: nn.Module, inputs: torch.Tensor, task: Task, parameters: dict[str, torch.Tensor]
) -> set[str]:
    """The names of those whose derivatives `torch.func` gets right for two examples.

    It raises where a network needs numbers during its pass or an operation has no rule, and it is
    wrong without a word where a module holds its parameters twice (`nn.LSTM`) or keeps values from
    call to call. The reference is a random sum of the logits of one example, by autograd.
    """
    names = [name for name, parameter in parameters.items() if not parameter._backward_hooks]
    chosen = {name: parameters[name] for name in names}
    if not chosen:
        return set()
    try:
        found = by_func(model, inputs, task, chosen)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever it is: autograd will do, or fail with the network's own error
        return set()
    rows = task.functions(logits_of(model, inputs))
    generator = torch.Generator().manual_seed(0)
    right = set(names)
    for i in range(len(inputs)):
        v = torch.randn(task.backwards, generator=generator).to(rows)
        gradients = _gradients(rows[i] @ v, task, chosen)
        for name in names:
            got = torch.tensordot(v.to(found[name]), found[name][i], 1)
            bound = torch.finfo(got.dtype).eps ** 0.5 * found[name][i].norm() * v.norm()
            if not (got - gradients[name]).norm() <= bound:
                right.discard(name)
    return right
