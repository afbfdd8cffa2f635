"""A network of torchvision, with random weights."""

from typing import Any

from torch import nn
from torchvision import models


def torchvision(
    channels: int, classes: int, *, torchvision: str, arguments: dict[str, Any]
) -> nn.Module:
    """The network called `torchvision`; its images have 3 channels."""
    assert channels == 3
    return models.get_model(torchvision, weights=None, num_classes=classes, **arguments)
