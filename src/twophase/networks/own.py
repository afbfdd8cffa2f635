"""A network of the user's own, from its builder."""

import inspect
from typing import Any

from torch import nn

from twophase.errors import RunError
from twophase.study.functions import imported
from twophase.study.networks import GIVEN


def own(
    channels: int,
    classes: int,
    *,
    file: str | None,
    builder: str,
    arguments: dict[str, Any],
    image_size: int,
) -> nn.Module:
    """What the builder makes of `arguments` and of channels, classes and image_size, as far as it
    names them. Raises `RunError` if that is no torch module.
    """
    function = imported(file, builder)
    takes = inspect.signature(function).parameters.values()
    all_of_them = any(parameter.kind == parameter.VAR_KEYWORD for parameter in takes)
    named = {parameter.name for parameter in takes}
    values = dict(zip(GIVEN, (channels, classes, image_size), strict=True))
    given = {name: value for name, value in values.items() if all_of_them or name in named}
    network = function(**given, **arguments)
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise RunError(f"network.builder = '{builder}': gives a {kind}; must give a torch module")
    return network
