"""The networks that a study can name: their options; each family's code is a file of `networks/`.

A network of this package is a record here and a builder `architecture(channels, classes, *,
options…)` in its family's file. Any
other network needs neither: a study names torchvision's, or a file of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from twophase.store.code import Place
from twophase.study import functions
from twophase.study.records import Arguments, Count, Mistakes, Record

# Bounded, so that a slip of the keyboard asks for no network that fits nowhere.
Width = Annotated[float, Field(gt=0, le=16)]
Channels = Annotated[int, Field(ge=1, le=100_000)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal["relu", "gelu", "silu"]
Pooling = Literal["max", "average"]
HeadInit = Literal["normal", "kaiming_fan_out"]
Norm = Literal["batch", "group", "none"]
Init = Literal["default", "pytorch", "kaiming_fan_in", "kaiming_fan_out"]
GIVEN = ("channels", "classes", "image_size")  # what a user's builder gets, of these what it names
# The same by the names that they have for vectors and tokens, where it needs one of that name.
ALSO = {
    "features": "channels",
    "vocabulary": "channels",
    "length": "image_size",
    "outputs": "classes",
}


class Changed(Record):
    """Options that change a network after it is built (see `networks/variants.py`).

    `norm` is what takes the place of batch norm, where the network has it; `init` how it is
    initialised: as its own file says, as PyTorch does, or Kaiming normal with biases zero.
    """

    norm: Norm = "batch"
    init: Init = "default"


class VGG16(Changed):
    """VGG-16: 13 convolutions and one linear layer, or ImageNet's 4096-wide head.

    `width` multiplies the channels of all convolutions; `head_init` is how the last layer is
    initialised: normal with deviation 0.01, or as the convolutions are. `pooling` is what ends each
    block: the largest of four values or their mean, in which no winner can change. `dropout` is the
    share of the wide head's units that training sets to zero.
    """

    architecture: Literal["vgg16"]
    batch_norm: bool = True
    wide_head: bool = False
    width: Width = 1.0
    activation: Activation = "relu"
    head_init: HeadInit = "normal"
    pooling: Pooling = "max"
    dropout: Dropout = 0.0
    family: ClassVar = "vgg"
    image_size: ClassVar = 32


class SmallVGG(Changed):
    """VGG for 8 x 8 images: 16-16 | 32-32 | 64-64-64; its options are VGG-16's."""

    architecture: Literal["vgg_small"]
    batch_norm: bool = False
    width: Width = 1.0
    activation: Activation = "relu"
    head_init: HeadInit = "normal"
    pooling: Pooling = "max"
    family: ClassVar = "vgg"
    image_size: ClassVar = 8


class ResNet(Changed):
    """CIFAR ResNets with batch norm: 20 layers (16-32-64), or 8 layers (8-16-32).

    `width` multiplies all channels.
    """

    architecture: Literal["resnet20", "resnet8"]
    width: Width = 1.0
    activation: Activation = "relu"
    family: ClassVar = "resnet"
    image_size: ClassVar = None  # any


class ResNet18(Changed):
    """ResNet-18 for small images: 64-128-256-512 channels, no pooling at the start.

    `width` multiplies all channels.
    """

    architecture: Literal["resnet18"]
    width: Width = 1.0
    activation: Activation = "relu"
    family: ClassVar = "resnet18"
    image_size: ClassVar = None


class OfImageSize(Record):
    """A network whose parameters depend on the size of images, which the study's images say."""

    image_size: Count | None = None


class MLP(OfImageSize):
    """Linear layers of these `widths` between the pixels and the logits.

    `dropout` is the share of the hidden units that training sets to zero; `init` as in `Changed`.
    """

    architecture: Literal["mlp"]
    widths: Annotated[list[Channels], Field(min_length=1)] = [256, 256]
    activation: Activation = "relu"
    dropout: Dropout = 0.0
    init: Init = "default"
    family: ClassVar = "mlp"


class ViT(OfImageSize):
    """A small vision transformer (Dosovitskiy et al. 2021), with PyTorch's attention.

    Patches of `patch` x `patch` pixels, vectors of `width` entries, `depth` blocks of `heads`
    attention heads and a layer `expansion` times as wide. `dropout` is the share of entries that
    training sets to zero on both ways into the sum of each block.
    """

    architecture: Literal["vit"]
    patch: Count = 4
    width: Channels = 64
    depth: Layers = 4
    heads: Channels = 4
    expansion: Layers = 2
    activation: Activation = "gelu"
    dropout: Dropout = 0.0
    family: ClassVar = "vit"


class GPT(OfImageSize):
    """A small transformer that predicts the next token (as GPT-2, Radford et al. 2019): `depth`
    blocks of `heads` attention heads over the tokens before, and a layer `expansion` times as
    wide; vectors of `width` entries; learnt positions. `dropout` as in `ViT`.
    """

    architecture: Literal["gpt"]
    width: Channels = 64
    depth: Layers = 2
    heads: Channels = 4
    expansion: Layers = 4
    activation: Activation = "gelu"
    dropout: Dropout = 0.0
    family: ClassVar = "gpt"


class Torchvision(Record):
    """A network of `torchvision.models` by name, with what its builder takes as `options`.

    Its weights are drawn from the study's seed. The version of torchvision counts as an option.
    """

    architecture: Literal["torchvision"] = "torchvision"
    torchvision: str
    arguments: Arguments = {}
    family: ClassVar = "from_torchvision"
    image_size: ClassVar = None

    def options(self, **selection: Any) -> dict:
        """As of any record, with the version of torchvision."""
        return super().options(**selection) | {"version": version("torchvision")}


class Own(OfImageSize):
    """A network of one's own: the `builder` in a `file` beside the study file, or without a file
    `module:function` of an installed package.

    The builder takes `options`, and those of `channels`, `classes` and `image_size` that it names.
    What the code says counts, not where the file lies. `same_weights` lets it start from the same
    weights whatever the seed, such as those of a file.
    """

    architecture: Literal["own"] = "own"
    file: str | None = None
    builder: str
    arguments: Arguments = {}
    same_weights: bool = False
    family: ClassVar = "own"


def _kind(value: object) -> object:
    """What tells the kinds apart, where a study need not say it."""
    if isinstance(value, dict) and "architecture" not in value:
        if "torchvision" in value:
            return {"architecture": "torchvision", **value}
        if "file" in value or "builder" in value:
            return {"architecture": "own", **value}
    return value


Network = Annotated[
    VGG16 | SmallVGG | ResNet | ResNet18 | MLP | ViT | GPT | Torchvision | Own,
    Field(discriminator="architecture"),
    BeforeValidator(_kind),
]
OF_OTHERS = (Torchvision, Own)  # networks whose code is not this package's
# What a network takes from where the study lies and from its images; no options of its own.
BESIDE = {"file", "image_size"}


def module(network: Network) -> str:
    """The module of this package that holds the builder of `network`."""
    return f"networks.{network.family}"


def code(network: Network) -> tuple[str | Place, ...]:
    """That module, and the user's code that it calls."""
    if isinstance(network, Own):
        return module(network), functions.place(network.file, network.builder)
    return (module(network),)


def imported(network: Network) -> ModuleType:
    """The module that holds the builder, imported."""
    return importlib.import_module(f"twophase.{module(network)}")


def placed(network: Network, folder: Path, image_size: int) -> Network:
    """The network with what it takes from its study: the place of its file, the images' size."""
    update: dict[str, object] = {}
    if isinstance(network, OfImageSize):
        update["image_size"] = image_size
    if getattr(network, "file", None):
        # Links are not followed: the study names what lies beside it.
        update["file"] = str((folder / network.file).absolute())
    return network.model_copy(update=update)


def mistakes(network: Network, folder: Path, images: Any) -> Mistakes:
    """What is wrong with a network of a study in `folder`, by `images` of a source."""
    if isinstance(network, Own):
        given = network.file, network.builder, network.arguments, folder
        filled = () if images.form == "images" else tuple(ALSO)
        yield from functions.mistakes("builder", *given, GIVEN, filled=filled)
        return
    if (line := _unfit(network, images)) is not None:
        name = "torchvision" if isinstance(network, Torchvision) else "architecture"
        yield name, f"= '{getattr(network, name)}': {line}"
    elif isinstance(network, Torchvision):
        yield from _of_torchvision(network, images.channels)
    elif isinstance(network, ViT | GPT):
        if isinstance(network, ViT) and images.image_size % network.patch:
            yield "patch", f"= {network.patch}: must divide the images' {images.image_size} pixels"
        if network.width % network.heads:
            yield "width", f"= {network.width}: must be a multiple of heads = {network.heads}"
    elif network.family == "vgg":
        if network.norm != "batch" and not network.batch_norm:
            line = "takes the place of batch norm; needs batch_norm: true"
            yield "norm", f"= '{network.norm}': {line}"
        if getattr(network, "dropout", 0) and not network.wide_head:
            yield "dropout", f"= {network.dropout}: is of the wide head; needs wide_head: true"


def _unfit(network: Network, images: Any) -> str | None:
    """Why a network of others' design does not fit examples of this form."""
    forms = {"gpt": ("tokens",), "mlp": ("images", "vectors")}.get(network.family, ("images",))
    if images.form not in forms:
        fits = {"images": "one of images", "vectors": "'mlp'", "tokens": "'gpt'"}[images.form]
        return (
            f"takes {' or '.join(forms)}, data.images.source '{images.source}' has {images.form}; "
            f"must be {fits}, or your own"
        )
    if network.family == "gpt" and images.task != "next_token":
        return f"predicts the next token, the task is {images.task!r}; must be your own"
    return None


def _of_torchvision(network: Torchvision, channels: int) -> Mistakes:
    name = network.torchvision
    names = _torchvision_names()
    if name not in names:
        yield (
            "torchvision",
            f"= '{name}': is no network of torchvision; {functions.near(name, names)}",
        )
    if channels != 3:
        yield "torchvision", f"= '{name}': takes images of 3 channels, data.images has {channels}"
    for option in sorted({"weights", "num_classes"} & network.arguments.keys()):
        why = "weights are drawn from the seed" if option == "weights" else "the images say it"
        yield f"options.{option}", f"= {network.arguments[option]!r}: is not allowed: {why}"


def _torchvision_names() -> list[str]:
    """The builders that `torchvision.models` registers for classification, without running it."""
    origin = Path(importlib.util.find_spec("torchvision").origin)
    registered = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.M)
    return sorted(
        name
        for path in (origin.parent / "models").glob("*.py")
        for name in registered.findall(path.read_text(encoding="utf-8"))
    )
