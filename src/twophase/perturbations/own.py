"""What a function of the user's own adds."""

import inspect
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from twophase.errors import Problem, RunError
from twophase.study.functions import at_its_line, imported, near
from twophase.study.perturbations import OwnKick
from twophase.training import switches
from twophase.training.perturbation import Added, At
from twophase.training.tensors import bits, named_state, trained


def added(perturbation: OwnKick, at: At) -> Added:
    """What the function returns, a tensor or array for each parameter that it names, in float64.
    What it returns for buffers of real numbers, such as batch norm's means, and for what the
    optimizer keeps, is added to them here.

    It gets `options`, and of these what it names: `parameters` (by name, float64 copies on the CPU,
    in the order of the network), `initial` (the same as the run began), `optimizer` (what that
    keeps of each parameter, by names such as `momentum.0.weight`), `model` (the network), `batch`
    (images and labels of a batch that training does not see), `rng` (a numpy generator), `step`
    (t0) and `direction` (1, 2, …). PyTorch's generators are seeded before, as `rng` is, for the run
    and the direction. Buffers that change as the function calls the network are set back.

    Raises `RunError` if it returns anything else, fails, or changes parameters itself.
    """
    key, name = "file" if perturbation.file else "function", perturbation.function
    said = f"perturbation.function = {name!r}"
    before = {name: tensor.clone() for name, tensor in named_state(at.model).items()}
    where = switches.kept(f"perturbation.{key} = {perturbation.file or name!r}")
    with where, torch.random.fork_rng(), torch.enable_grad():
        try:
            function = imported(perturbation.file, name)
            given = _given(function, at)
            torch.manual_seed(at.other_seed())
            found = function(**given, **perturbation.arguments)
        except Problem:
            raise
        except Exception as error:  # whatever the user's code raises
            raise RunError(f"{said}: {at_its_line(error)}") from error
    _set_back(at.model, before, said)
    for role, theirs in (("parameters", lambda: trained(at.model)), ("optimizer", at.kept)):
        handed = given.get(role)
        for name, tensor in _copies(theirs()).items() if handed else ():
            if not torch.equal(bits(handed.get(name, tensor)), bits(tensor)):
                line = f"changes {role}[{name!r}] in place; return what is to be added"
                raise RunError(f"{said}: {line}")
    beside = _beside(at)
    found = _checked(found, trained(at.model) | beside, said)
    for name in found.keys() & beside.keys():
        beside[name].copy_(beside[name].double() + found.pop(name))
    return found


def _set_back(model: nn.Module, before: Added, said: str) -> None:
    """Give buffers their values again. Raises `RunError` if parameters have others, too."""
    parameters = dict(model.named_parameters())
    for name, tensor in named_state(model).items():
        if torch.equal(bits(tensor), bits(before[name])):
            continue
        if name in parameters:
            raise RunError(f"{said}: changes {name} itself; return what is to be added")
        tensor.copy_(before[name])


def _given(function: Callable, at: At) -> dict:
    takes = inspect.signature(function).parameters.values()
    every = any(parameter.kind == parameter.VAR_KEYWORD for parameter in takes)
    named = {parameter.name for parameter in takes}
    values = {
        "parameters": lambda: _copies(trained(at.model)),
        "initial": lambda: _copies(at.initial()),
        "optimizer": lambda: _copies(at.kept()),
        "model": lambda: at.model,
        "batch": at.batch,
        "rng": at.rng,
        "step": lambda: at.step,
        "direction": lambda: at.direction,
    }
    return {name: value() for name, value in values.items() if every or name in named}


def _copies(tensors: dict[str, torch.Tensor]) -> Added:
    return {n: t.detach().to("cpu", torch.float64, copy=True) for n, t in tensors.items()}


def _beside(at: At) -> dict[str, torch.Tensor]:
    """What else can be added to, by name: buffers of real numbers, what the optimizer keeps."""
    parameters = dict(at.model.named_parameters())
    found = {} if at.optimizer is None else at.kept()
    found |= named_state(at.model)
    return {n: t for n, t in found.items() if n not in parameters and t.is_floating_point()}


def _checked(found: object, may: dict[str, torch.Tensor], said: str) -> Added:
    added = {}
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise RunError(f"{said}: returns a {kind}; must return by name what is added to parameters")
    for name, value in found.items():
        if name not in may:
            line = "which is no parameter that is trained, no buffer of real numbers, and nothing"
            line += f" that the optimizer keeps; {near(str(name), may)}"
            raise RunError(f"{said}: returns {name!r}, {line}")
        if not isinstance(value, torch.Tensor | np.ndarray):
            kind = type(value).__name__
            raise RunError(f"{said}: returns a {kind} for {name!r}; must be a tensor")
        like = may[name]
        tensor = torch.as_tensor(value).detach().to(like.device, torch.float64)
        if tensor.shape != like.shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(like.shape)}"
            raise RunError(f"{said}: returns a tensor {shapes}, for {name!r}")
        if not tensor.isfinite().all():
            raise RunError(f"{said}: returns numbers for {name!r} that are not finite")
        added[name] = tensor
    return added
