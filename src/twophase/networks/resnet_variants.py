"""CIFAR ResNets with other norms, or initialised otherwise.

Built as in `resnet.py`, which does not know these options, and changed afterwards.
"""

from twophase.networks import resnet
from twophase.networks.options import changed


def resnet20(
    channels: int = 3,
    classes: int = 10,
    *,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> resnet.ResNet:
    """ResNet-20."""
    return changed(resnet.resnet20(channels, classes, **options), norm, init)


def resnet8(
    channels: int = 1,
    classes: int = 10,
    *,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> resnet.ResNet:
    """ResNet-8."""
    return changed(resnet.resnet8(channels, classes, **options), norm, init)
