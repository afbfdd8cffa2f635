"""A small vision transformer (Dosovitskiy et al. 2021), with PyTorch's attention."""

import torch
from torch import nn

from twophase.networks.layers import ACTIVATIONS


class Block(nn.Module):
    """Attention, then two linear layers, each after layer norm and added to what went in."""

    def __init__(
        self, width: int, heads: int, expansion: int, activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.dropout1 = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, expansion * width)
        self.activation = ACTIVATIONS[activation]()
        self.linear2 = nn.Linear(expansion * width, width)
        self.dropout2 = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, patches, width) to the same."""
        y = self.norm1(x)
        x = x + self.dropout1(self.attention(y, y, y, need_weights=False)[0])
        y = self.linear2(self.activation(self.linear1(self.norm2(x))))
        return x + self.dropout2(y)


class ViT(nn.Module):
    """Patches as vectors, with learnt positions, `depth` blocks, layer norm, the mean over patches,
    a linear layer. Initialised as PyTorch's layers do; positions normal with deviation 0.02.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        image_size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        expansion: int,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        positions = torch.randn(1, (image_size // patch) ** 2, width)
        self.positions = nn.Parameter(0.02 * positions)
        blocks = (Block(width, heads, expansion, activation, dropout) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of images (n, channels, image_size, image_size)."""
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.linear(self.norm(self.blocks(x)).mean(1))


def vit(channels: int, classes: int, **options: object) -> ViT:
    """The transformer that the options describe."""
    return ViT(channels, classes, **options)
