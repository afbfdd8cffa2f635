"""VGG networks (Simonyan and Zisserman 2015) in the form used for small images."""

import torch
from torch import nn

from twophase.networks.layers import ACTIVATIONS, scaled
from twophase.networks.variants import changed

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SMALL = ((16, 16), (32, 32), (64, 64, 64))


POOLING = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


class VGG(nn.Module):
    """Blocks of 3 x 3 convolutions, each block followed by 2 x 2 pooling, then linear layers.

    Maps (n, channels, size, size) to logits (n, classes), with size 2 ** (number of blocks).
    Initialised as in the authors' earlier code (github.com/zzp1012/LLFC) and torchvision:
    convolutions Kaiming normal, fan-out, for ReLU; linear layers normal with deviation 0.01; biases
    zero. With `head_init` "kaiming_fan_out" the last layer is as the convolutions are.
    """

    def __init__(
        self,
        blocks: tuple[tuple[int, ...], ...],
        channels: int,
        classes: int,
        *,
        batch_norm: bool,
        width: float = 1.0,
        activation: str = "relu",
        head_init: str = "normal",
        pooling: str = "max",
        hidden: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in blocks:
            for out in (scaled(each, width) for each in block):
                layers.append(nn.Conv2d(channels, out, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out))
                layers.append(ACTIVATIONS[activation]())
                channels = out
            layers.append(POOLING[pooling](2))
        layers.append(nn.Flatten())
        for out in hidden:
            layers += [nn.Linear(channels, out), ACTIVATIONS[activation]()]
            channels = out
        layers.append(nn.Linear(channels, classes))
        self.layers = nn.Sequential(*layers)
        as_convolution = {layers[-1]} if head_init == "kaiming_fan_out" else set()
        for layer in layers:
            if isinstance(layer, nn.Conv2d) or layer in as_convolution:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of images (n, channels, height, width)."""
        return self.layers(images)


def vgg16(
    channels: int = 3,
    classes: int = 10,
    *,
    batch_norm: bool = True,
    wide_head: bool = False,
    dropout: float = 0.0,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> VGG:
    """VGG-16 for 32 x 32 images; `wide_head` adds the two 4096-wide layers, and `dropout` follows
    each activation there.
    """
    hidden = (4096, 4096) if wide_head else ()
    network = VGG(VGG16, channels, classes, batch_norm=batch_norm, hidden=hidden, **options)
    if dropout:
        network.layers = _with_dropout(network.layers, dropout)
    return changed(network, norm, init)


def vgg_small(
    channels: int = 1,
    classes: int = 10,
    *,
    batch_norm: bool = False,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> VGG:
    """Seven convolutions, 16 to 64 wide, for 8 x 8 images."""
    return changed(VGG(SMALL, channels, classes, batch_norm=batch_norm, **options), norm, init)


def _with_dropout(layers: nn.Sequential, p: float) -> nn.Sequential:
    """The same layers with dropout after each linear layer's activation."""
    found: list[nn.Module] = []
    for layer in layers:
        after_linear = found and isinstance(found[-1], nn.Linear)
        found += [layer, nn.Dropout(p)] if after_linear else [layer]
    return nn.Sequential(*found)
