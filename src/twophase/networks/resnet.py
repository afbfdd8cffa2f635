"""Residual networks for CIFAR (He et al. 2016, section 4.2), shortcuts without parameters."""

import torch
import torch.nn.functional as F
from torch import nn

from twophase.networks.layers import ACTIVATIONS, scaled
from twophase.networks.variants import changed


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut ("option A" of the paper)."""

    def __init__(self, channels: int, width: int, stride: int, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.activation1, self.activation2 = ACTIVATIONS[activation](), ACTIVATIONS[activation]()
        self.stride = stride
        self.added = width - channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to (n, width, h / stride, w / stride)."""
        y = self.activation1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.stride > 1 or self.added:
            before = self.added // 2
            x = F.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before)
            )
        return self.activation2(x + y)


class ResNet(nn.Module):
    """A convolution, `depth` blocks in each stage, the mean over pixels, a linear layer.

    `stages` are the channels of the stages before they are multiplied by `width`.

    Initialised as in the authors' earlier code (github.com/zzp1012/LLFC): weights of convolutions
    and of the linear layer Kaiming normal, fan-in (He et al. 2015); the rest as PyTorch does.
    """

    def __init__(
        self,
        stages: tuple[int, ...],
        depth: int,
        channels: int,
        classes: int,
        *,
        width: float = 1.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        widths = [scaled(each, width) for each in stages]
        self.conv = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.activation = ACTIVATIONS[activation]()
        blocks, before = [], widths[0]
        for stage, out in enumerate(widths):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(before, out, stride, activation))
                before = out
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of images (n, channels, height, width)."""
        x = self.blocks(self.activation(self.norm(self.conv(images))))
        # The backward pass of adaptive average pooling is not deterministic on CUDA; this is.
        return self.linear(x.mean((2, 3)))


def resnet20(
    channels: int = 3,
    classes: int = 10,
    *,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> ResNet:
    """ResNet-20: 16-32-64 channels, three blocks each; 0.27 million parameters."""
    return changed(ResNet((16, 32, 64), 3, channels, classes, **options), norm, init)


def resnet8(
    channels: int = 1,
    classes: int = 10,
    *,
    norm: str = "batch",
    init: str = "default",
    **options: object,
) -> ResNet:
    """ResNet-8 of half the width: 8-16-32 channels, one block each."""
    return changed(ResNet((8, 16, 32), 1, channels, classes, **options), norm, init)
