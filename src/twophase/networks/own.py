"""A network of the user's own, from its builder."""

import inspect
import weakref
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from twophase.errors import RunError
from twophase.study.functions import imported
from twophase.study.networks import ALSO, GIVEN
from twophase.training import switches

# The layers that hold tensors, and the parameters, of all networks that are still in use: by id,
# parameters also by the place of their numbers in memory.
_IN_USE: weakref.WeakValueDictionary[Any, nn.Module | nn.Parameter] = weakref.WeakValueDictionary()


def own(
    channels: int,
    classes: int,
    *,
    file: str | None,
    builder: str,
    arguments: dict[str, Any],
    image_size: int,
    same_weights: bool = False,
) -> nn.Module:
    """What the builder makes of `arguments` and of channels, classes and image_size, as far as it
    names them; for vectors it may call them features and outputs, for tokens vocabulary and length.
    `same_weights` only says what `check` lets pass.

    Raises `RunError` if that is no torch module, or has parts of a network that it made before.
    """
    with switches.kept(f"network.file = {file!r}" if file else f"network.builder = {builder!r}"):
        # What is drawn or seeded where the file is run, once, is not for the weights.
        with torch.random.fork_rng(devices=[]):
            function = imported(file, builder)
        takes = inspect.signature(function).parameters.values()
        all_of_them = any(parameter.kind == parameter.VAR_KEYWORD for parameter in takes)
        named = {parameter.name for parameter in takes}
        values = dict(zip(GIVEN, (channels, classes, image_size), strict=True))
        needed = {p.name for p in takes if p.default is p.empty and p.name not in arguments}
        given = {name: value for name, value in values.items() if all_of_them or name in named}
        given |= {name: values[other] for name, other in ALSO.items() if name in needed}
        network = function(**given, **arguments)
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise RunError(f"network.builder = '{builder}': gives a {kind}; must give a torch module")
    _refuse_parts_in_use(network, builder)
    return network


def _refuse_parts_in_use(network: nn.Module, builder: str) -> None:
    """Raise `RunError` if a network has parts of another that is in use: both would train them."""
    parts: dict[Any, nn.Module | nn.Parameter] = {}
    for prefix, module in network.named_modules():
        if any(True for _ in module.parameters(recurse=False)) or module._buffers:
            parts[id(module)] = module
            if _IN_USE.get(id(module)) is module:
                _refuse(builder, f"module {prefix}" if prefix else "module")
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and not is_lazy(parameter) and _place(parameter)[1]:
            place = _place(parameter)
            before = _IN_USE.get(place)
            if _IN_USE.get(id(parameter)) is parameter or (
                before is not None and _place(before) == place
            ):
                _refuse(builder, f"parameter {name}")
            parts[id(parameter)] = parts[place] = parameter
    _IN_USE.update(parts)


def _place(parameter: nn.Parameter) -> tuple[str, int]:
    """Where a parameter's numbers lie in memory."""
    if parameter.layout != torch.strided:  # is refused elsewhere
        return "", 0
    return str(parameter.device), parameter.untyped_storage().data_ptr()


def _refuse(builder: str, what: str) -> None:
    raise RunError(
        f"network.builder = '{builder}': returned the same {what} twice; make a new one in each "
        "call (without functools.cache, and not at the top of the file)"
    )
