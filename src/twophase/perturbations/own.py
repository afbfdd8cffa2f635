"""What a function of the user's own adds."""

import inspect

import numpy as np
import torch
from torch import nn

from twophase.errors import RunError
from twophase.study.functions import imported
from twophase.study.perturbations import OwnKick
from twophase.training import switches
from twophase.training.perturbation import Added, At
from twophase.training.tensors import bits, named_state, trained


def added(perturbation: OwnKick, at: At) -> Added:
    """What the function returns, a tensor or array for each parameter that it names, in float64.

    It gets `options`, and of these what it names: `parameters` (by name, float64 copies on the CPU,
    in the order of the network) and `initial` (the same as the run began), `model` (the network),
    `batch` (images and labels of a batch that training does not see), `rng` (a numpy generator),
    `step` (t0) and `direction` (1, 2, …). PyTorch's generators are seeded before, as `rng` is, for
    the run and the direction.

    Raises `RunError` if that is not such a thing, or the function changes the network itself.
    """
    key, name = "file" if perturbation.file else "function", perturbation.function
    said = f"perturbation.function = {name!r}"
    before = {name: tensor.clone() for name, tensor in named_state(at.model).items()}
    where = switches.kept(f"perturbation.{key} = {perturbation.file or name!r}")
    with where, torch.random.fork_rng(), torch.enable_grad():
        function = imported(perturbation.file, name)
        torch.manual_seed(at.other_seed())
        found = function(**_given(function, at), **perturbation.arguments)
    for tensor_name, tensor in named_state(at.model).items():
        if not torch.equal(bits(tensor), bits(before[tensor_name])):
            raise RunError(f"{said}: changes {tensor_name} itself; return what is to be added")
    return _checked(found, at.model, said)


def _given(function, at: At) -> dict:  # noqa: ANN001
    takes = inspect.signature(function).parameters.values()
    every = any(parameter.kind == parameter.VAR_KEYWORD for parameter in takes)
    named = {parameter.name for parameter in takes}
    values = {
        "parameters": lambda: _copies(trained(at.model)),
        "initial": lambda: _copies(at.initial()),
        "model": lambda: at.model,
        "batch": at.batch,
        "rng": at.rng,
        "step": lambda: at.step,
        "direction": lambda: at.direction,
    }
    return {name: value() for name, value in values.items() if every or name in named}


def _copies(parameters: dict[str, torch.Tensor]) -> Added:
    return {n: p.detach().to("cpu", torch.float64, copy=True) for n, p in parameters.items()}


def _checked(found: object, model: nn.Module, said: str) -> Added:
    parameters = trained(model)
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise RunError(f"{said}: returns a {kind}; must return by name what is added to parameters")
    added = {}
    for name, value in found.items():
        if name not in parameters:
            raise RunError(f"{said}: returns {name!r}, which is no parameter that is trained")
        if not isinstance(value, torch.Tensor | np.ndarray):
            kind = type(value).__name__
            raise RunError(f"{said}: returns a {kind} for {name!r}; must be a tensor")
        like = parameters[name]
        tensor = torch.as_tensor(value).detach().to(like.device, torch.float64)
        if tensor.shape != like.shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(like.shape)}"
            raise RunError(f"{said}: returns a tensor {shapes}, for {name!r}")
        if not tensor.isfinite().all():
            raise RunError(f"{said}: returns numbers for {name!r} that are not finite")
        added[name] = tensor
    return added
