"""The networks that a study can name: their options here, each family in a file beside this one.

This module imports no PyTorch, because the Snakefile reads studies. A new network is a record
here and a builder `architecture(channels, classes, *, options…)` in its family's file.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from twophase.records import Number, Record

# Bounded, so that a slip of the keyboard asks for no network that fits nowhere.
Width = Annotated[Number, Field(gt=0, le=16)]
Activation = Literal["relu", "gelu", "silu"]
HeadInit = Literal["normal", "kaiming_fan_out"]


class VGG16(Record):
    """VGG-16: 13 convolutions and one linear layer, or ImageNet's 4096-wide head.

    `width` multiplies the channels of all convolutions; `head_init` is how the last layer is
    initialised: normal with deviation 0.01, or as the convolutions are.
    """

    architecture: Literal["vgg16"]
    batch_norm: bool = True
    wide_head: bool = False
    width: Width = 1.0
    activation: Activation = "relu"
    head_init: HeadInit = "normal"
    family: ClassVar = "vgg"
    image_size: ClassVar = 32


class SmallVGG(Record):
    """VGG for 8 x 8 images: 16-16 | 32-32 | 64-64-64; its options are VGG-16's."""

    architecture: Literal["vgg_small"]
    batch_norm: bool = False
    width: Width = 1.0
    activation: Activation = "relu"
    head_init: HeadInit = "normal"
    family: ClassVar = "vgg"
    image_size: ClassVar = 8


class ResNet(Record):
    """CIFAR ResNets with batch norm: 20 layers (16-32-64), or 8 layers (8-16-32).

    `width` multiplies all channels.
    """

    architecture: Literal["resnet20", "resnet8"]
    width: Width = 1.0
    activation: Activation = "relu"
    family: ClassVar = "resnet"
    image_size: ClassVar = None  # any


Network = Annotated[VGG16 | SmallVGG | ResNet, Field(discriminator="architecture")]


def module(network: Network) -> str:
    """The module of this package that holds the builder of `network`."""
    return f"networks.{network.family}"


def load(network: Network) -> ModuleType:
    """That module, imported."""
    return importlib.import_module(f"twophase.{module(network)}")
