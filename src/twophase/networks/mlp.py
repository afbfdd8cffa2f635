"""A multi-layer perceptron."""

from torch import nn

from twophase.networks.layers import ACTIVATIONS
from twophase.networks.variants import initialised


def mlp(
    channels: int,
    classes: int,
    *,
    image_size: int,
    widths: list[int],
    activation: str = "relu",
    dropout: float = 0.0,
    init: str = "default",
) -> nn.Module:
    """Linear layers of `widths` between the pixels and the logits, each with an activation and then
    dropout. Weights are Kaiming normal, fan-in, biases zero, unless `init` says otherwise.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    before = channels * image_size**2
    for width in widths:
        layers += [nn.Linear(before, width), ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
        before = width
    network = nn.Sequential(*layers, nn.Linear(before, classes))
    initialised(network, "kaiming_fan_in" if init == "default" else init)
    return network
