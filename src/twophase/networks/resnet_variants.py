"""CIFAR ResNets with other norms, or initialised otherwise.

Built as in `resnet.py`, which does not know these options, and changed afterwards.
"""

from twophase.networks import resnet
from twophase.networks.options import initialised, normalised


def resnet20(
    channels: int = 3,
    classes: int = 10,
    *,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> resnet.ResNet:
    """ResNet-20."""
    network = resnet.resnet20(channels, classes, **options)
    normalised(network, norm)
    initialised(network, init)
    return network


def resnet8(
    channels: int = 1,
    classes: int = 10,
    *,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> resnet.ResNet:
    """ResNet-8."""
    network = resnet.resnet8(channels, classes, **options)
    normalised(network, norm)
    initialised(network, init)
    return network
