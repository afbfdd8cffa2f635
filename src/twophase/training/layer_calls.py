"""What each layer of a network takes and gives, call by call, and where a fault arises."""

from __future__ import annotations

import pickle
import random
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class Call(NamedTuple):
    """One call of a layer: its name in the network, copies of the tensors that went in and out, and
    the generators that random numbers were drawn from.

    The name of the network itself is empty.
    """

    layer: str
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]
    drawn: list[str]


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Call]]:
    """The calls of all layers of `model` within the block, in the order in which they end."""
    calls: list[Call] = []
    taken: list[tuple] = []  # by the layers that run, the innermost last

    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        taken.append((_copies([args, kwargs]), _generators()))

    def after(module: nn.Module, args: tuple, output: object) -> None:
        inputs, states = taken.pop()
        drawn = [name for name, state in _generators().items() if state != states[name]]
        calls.append(Call(names[module], inputs, _copies(output), drawn))

    names = {module: name for name, module in model.named_modules()}
    handles = [module.register_forward_pre_hook(before, with_kwargs=True) for module in names]
    handles += [module.register_forward_hook(after) for module in names]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _generators() -> dict[str, object]:
    """The states of the generators that a network may draw from."""
    states = {
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state()),
        "random": random.getstate(),
    }
    if torch.cuda.is_initialized():
        states["torch on CUDA"] = torch.cuda.get_rng_state().numpy().tobytes()
    return states


def _copies(value: object) -> list[torch.Tensor]:
    """Copies of all tensors in lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        return [value.detach().clone()]
    inner = value.values() if isinstance(value, Mapping) else value
    inner = inner if isinstance(value, Mapping | list | tuple) else []
    return [tensor for each in inner for tensor in _copies(each)]


def origin(calls: Iterable[tuple[str, bool, bool]]) -> str | None:
    """The layer in which a fault arises, from whether inputs and outputs of each call have it: the
    first that gives it without taking it, or what calls the first that takes it.
    """
    for layer, taken, given in calls:
        if taken:
            return layer.rpartition(".")[0]
        if given:
            return layer
    return None


def layer_called(model: nn.Module, name: str) -> nn.Module:
    """A layer by the name that `recorded` gives it.

    `get_submodule` asks for attributes, and these a network may answer otherwise.
    """
    return dict(model.named_modules())[name]


def described(model: nn.Module, layer: str | None) -> str:
    """A layer in words, with its class."""
    if layer is None:
        return "layer unknown"
    kind = type(layer_called(model, layer)).__name__
    return f"layer {layer} ({kind})" if layer else f"{kind} itself"


def raising(error: BaseException) -> str | None:
    """The layer in whose code an error was raised, in words; None if it was elsewhere."""
    selves = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [m for m in selves if isinstance(m, nn.Module) and "_modules" in vars(m)]
    if not modules:
        return None
    # The outermost is the network.
    names = {module: name for name, module in modules[0].named_modules()}
    return described(modules[0], next(names[m] for m in reversed(modules) if m in names))
