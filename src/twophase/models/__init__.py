"""The networks a study can name. A new one: a builder here, its name in `study.py`."""

import torch
from torch import nn

from twophase.models.resnet import resnet8, resnet20
from twophase.models.vgg import vgg16, vgg_small

ARCHITECTURES = {"vgg16": vgg16, "vgg_small": vgg_small, "resnet20": resnet20, "resnet8": resnet8}

__all__ = ["ARCHITECTURES", "initialised", "resnet8", "resnet20", "vgg16", "vgg_small"]


def initialised(network: dict, channels: int, classes: int, seed: int) -> nn.Module:
    """The network that a study's `network` section describes, initialised from `seed` alone.

    How is the network's own business: its constructor draws from PyTorch's generator on the CPU,
    which is left as it was.
    """
    options = {key: value for key, value in network.items() if key != "architecture"}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ARCHITECTURES[network["architecture"]](channels, classes, **options)
