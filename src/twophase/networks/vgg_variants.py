"""VGG networks with other norms, with dropout, or initialised otherwise.

Built as in `vgg.py`, which does not know these options, and changed afterwards.
"""

from torch import nn

from twophase.networks import vgg
from twophase.networks.options import changed


def vgg16(
    channels: int = 3,
    classes: int = 10,
    *,
    norm: str = "batch",
    init: str = "default",
    dropout: float = 0.0,
    **options: object,
) -> vgg.VGG:
    """VGG-16; `dropout` follows each activation of the wide head."""
    network = vgg.vgg16(channels, classes, **options)
    if dropout:
        network.layers = _with_dropout(network.layers, dropout)
    return changed(network, norm, init)


def vgg_small(
    channels: int = 1,
    classes: int = 10,
    *,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> vgg.VGG:
    """The small VGG for 8 x 8 images."""
    return changed(vgg.vgg_small(channels, classes, **options), norm, init)


def _with_dropout(layers: nn.Sequential, p: float) -> nn.Sequential:
    """The same layers with dropout after each linear layer's activation."""
    found: list[nn.Module] = []
    for layer in layers:
        after_linear = found and isinstance(found[-1], nn.Linear)
        found += [layer, nn.Dropout(p)] if after_linear else [layer]
    return nn.Sequential(*found)
