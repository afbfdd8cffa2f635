"""Options that networks here share: what normalises, and how a network is initialised."""

from typing import TypeVar

import torch
from torch import nn

Built = TypeVar("Built", bound=nn.Module)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm (Wu and He 2018) of at most 32 groups, of at least 4 channels where there are."""
    groups = max(g for g in range(1, 33) if channels % g == 0 and (g == 1 or channels // g >= 4))
    return nn.GroupNorm(groups, channels)


def changed(network: Built, norm: str, init: str) -> Built:
    """The network with other norms, then initialised otherwise; see the two functions below."""
    normalised(network, norm)
    initialised(network, init)
    return network


def normalised(network: nn.Module, norm: str) -> None:
    """Put what `norm` says ("batch", "group" or "none") in the place of each batch norm.

    Without any norm, convolutions without a bias get one of zeros: batch norm's was theirs.
    """
    if norm == "batch":
        return
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                own = group_norm(child.num_features) if norm == "group" else nn.Identity()
                setattr(module, name, own)
            elif isinstance(child, nn.Conv2d) and child.bias is None and norm == "none":
                child.bias = nn.Parameter(torch.zeros(child.out_channels))


@torch.no_grad()
def initialised(network: nn.Module, init: str) -> None:
    """Draw the weights of convolutions and linear layers again, from PyTorch's generator.

    "default" leaves them; "pytorch" is what these layers do by themselves; "kaiming_fan_in" and
    "kaiming_fan_out" are normal with variance 2 / fan (He et al. 2015), with biases zero.
    """
    if init == "default":
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if init == "pytorch":
                module.reset_parameters()
            else:
                mode = init.removeprefix("kaiming_")
                nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
