"""A small transformer that predicts the next token (as GPT-2, Radford et al. 2019)."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from twophase.networks.layers import ACTIVATIONS


class Block(nn.Module):
    """Causal attention, then two linear layers, each after layer norm and added to what went in."""

    def __init__(
        self, width: int, heads: int, expansion: int, activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.inward = nn.Linear(width, 3 * width)  # queries, keys and values
        self.outward = nn.Linear(width, width)
        self.dropout1 = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, expansion * width)
        self.activation = ACTIVATIONS[activation]()
        self.linear2 = nn.Linear(expansion * width, width)
        self.dropout2 = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, length, width) to the same."""
        parts = self.inward(self.norm1(x)).chunk(3, 2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout1(self.outward(seen.transpose(1, 2).flatten(2)))
        y = self.linear2(self.activation(self.linear1(self.norm2(x))))
        return x + self.dropout2(y)


class GPT(nn.Module):
    """Tokens as vectors, with learnt positions, `depth` blocks, layer norm, a linear layer.

    Weights are normal with deviation 0.02, those of layers that add to the sum 0.02 / sqrt(2
    depth); biases are zero.
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        *,
        image_size: int,
        width: int,
        depth: int,
        heads: int,
        expansion: int,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(image_size, width))
        blocks = (Block(width, heads, expansion, activation, dropout) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, classes)
        for name, parameter in self.named_parameters():
            if name.endswith(("outward.weight", "linear2.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth))
            elif parameter.dim() > 1 and name != "positions":
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (n, length, classes) of tokens (n, length), whole numbers: what comes next."""
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        return self.linear(self.norm(self.blocks(x)))


def gpt(channels: int, classes: int, **options: object) -> GPT:
    """The transformer that the options describe; `channels` is the number of different tokens."""
    return GPT(channels, classes, **options)
