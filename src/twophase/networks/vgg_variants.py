"""VGG networks with other norms, with dropout, or initialised otherwise.

Built as in `vgg.py`, which does not know these options, and changed afterwards.
"""

from twophase.networks import vgg
from twophase.networks.options import initialised, normalised, with_dropout


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
        network.layers = with_dropout(network.layers, dropout)
    normalised(network, norm)
    initialised(network, init)
    return network


def vgg_small(
    channels: int = 1,
    classes: int = 10,
    *,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> vgg.VGG:
    """The small VGG for 8 x 8 images."""
    network = vgg.vgg_small(channels, classes, **options)
    normalised(network, norm)
    initialised(network, init)
    return network
