"""The networks a study can name. A new one: a builder here, its name in `study.py`."""

import torch
from torch import nn

from twophase.models.resnet import resnet8, resnet20
from twophase.models.vgg import vgg16, vgg_small

ARCHITECTURES = {"vgg16": vgg16, "vgg_small": vgg_small, "resnet20": resnet20, "resnet8": resnet8}

__all__ = ["ARCHITECTURES", "initialised", "resnet8", "resnet20", "vgg16", "vgg_small"]


def initialised(network: dict, channels: int, classes: int, seed: int) -> nn.Module:
    """The network that a study's `network` section describes, initialised from `seed` alone.

    Weights of convolutions and linear layers are Kaiming normal (He et al. 2015, fan-out), biases
    are zero, batch norms the identity. The weights are drawn on the CPU.
    """
    options = {key: value for key, value in network.items() if key != "architecture"}
    model = ARCHITECTURES[network["architecture"]](channels, classes, **options)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
