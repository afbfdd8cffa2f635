"""ResNet-18 (He et al. 2016) in the form used for 32 x 32 images."""

import torch
from torch import nn

from twophase.networks.layers import ACTIVATIONS, scaled
from twophase.networks.variants import changed


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut, a 1 x 1 convolution with batch
    norm where shapes differ ("option B" of the paper).
    """

    def __init__(self, channels: int, width: int, stride: int, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.activation1 = ACTIVATIONS[activation]()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.activation2 = ACTIVATIONS[activation]()
        self.shortcut = nn.Sequential()
        if stride > 1 or width != channels:
            conv = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to (n, width, h / stride, w / stride)."""
        y = self.activation1(self.norm1(self.conv1(x)))
        return self.activation2(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """A 3 x 3 convolution, two blocks in each of four stages, the mean over pixels, a linear layer.

    Weights of convolutions and of the linear layer are Kaiming normal, fan-in, as in `resnet.py`.
    """

    def __init__(self, channels: int, classes: int, width: float, activation: str) -> None:
        super().__init__()
        widths = [scaled(each, width) for each in (64, 128, 256, 512)]
        self.conv = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.activation = ACTIVATIONS[activation]()
        blocks, before = [], widths[0]
        for stage, out in enumerate(widths):
            blocks += [Block(before, out, 1 + (stage > 0), activation)]
            blocks += [Block(out, out, 1, activation)]
            before = out
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of images (n, channels, height, width)."""
        x = self.blocks(self.activation(self.norm(self.conv(images))))
        return self.linear(x.mean((2, 3)))


def resnet18(
    channels: int = 3,
    classes: int = 10,
    *,
    width: float = 1.0,
    activation: str = "relu",
    norm: str = "batch",
    init: str = "default",
) -> ResNet18:
    """ResNet-18 for small images: 11.2 million parameters at 32 x 32."""
    return changed(ResNet18(channels, classes, width, activation), norm, init)
