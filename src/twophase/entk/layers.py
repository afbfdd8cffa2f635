"""Rules for the layers whose parameters the engine contracts by itself."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as hooks

from twophase.entk.network import Call

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)
LAYERS = (nn.Conv2d, nn.Linear, *NORMS)  # the others' parameters go through torch.func
ROLES = ("weight", "bias")  # the parameters that the rules know


def is_known(module: nn.Module) -> bool:
    """Whether `module` computes what its class says: its parameters are its own, nothing is
    overridden, and no hook can change its input, output or gradient.
    """
    own = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        type(module) in LAYERS
        and module._parameters.get("weight") is not None
        and not any(role in vars(module) for role in ROLES)
        and not any(callable(getattr(type(module), name, None)) for name in vars(module))
        and not any(getattr(module, name) for name in own)
        and not hooks._has_any_global_hook()
    )


def channels_first(module: nn.Module, g: torch.Tensor) -> torch.Tensor:
    """Output gradients as (n, O, P)."""
    if isinstance(module, nn.Conv2d):
        return g.flatten(2)
    return g.reshape(len(g), -1, g.shape[-1]).transpose(1, 2)


def over_positions(module: nn.Module, products: torch.Tensor) -> torch.Tensor:
    """Sum over all axes that a bias or scale of `module` does not have, as (n, numbers)."""
    if isinstance(module, nn.Linear):
        return products.flatten(1, -2).sum(1) if products.dim() > 2 else products
    if isinstance(module, nn.LayerNorm):
        inner = math.prod(module.normalized_shape)
        return products.reshape(len(products), -1, inner).sum(1)
    return products.flatten(2).sum(2) if products.dim() > 2 else products


def normalised(module: nn.Module, a: torch.Tensor) -> torch.Tensor:
    """What a norm multiplies with its weight."""
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(a, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(a, module.num_groups, eps=module.eps)
    return F.batch_norm(a, module.running_mean, module.running_var, eps=module.eps)


def unfolded(module: nn.Module, a: torch.Tensor) -> torch.Tensor:
    """The inputs that each output position sees, (n groups, D, P). A strided copy (im2col)."""
    if isinstance(module, nn.Linear):
        return a.reshape(len(a), -1, a.shape[-1]).transpose(1, 2)
    if module.kernel_size == (1, 1) == module.stride and not any(zeros_around(module)):
        return a.reshape(len(a) * module.groups, -1, a[0, 0].numel())
    a = F.pad(a, zeros_around(module)).contiguous()
    n, channels, height, width = a.shape
    sizes, strides = [], []
    for axis, length in ((0, height), (1, width)):
        step = a.stride(2 + axis)
        reach = module.dilation[axis] * (module.kernel_size[axis] - 1)
        sizes.append((module.kernel_size[axis], (length - reach - 1) // module.stride[axis] + 1))
        strides.append((module.dilation[axis] * step, module.stride[axis] * step))
    windows = a.as_strided(
        (n, channels, sizes[0][0], sizes[1][0], sizes[0][1], sizes[1][1]),
        (*a.stride()[:2], strides[0][0], strides[1][0], strides[0][1], strides[1][1]),
    )
    return windows.reshape(n * module.groups, -1, sizes[0][1] * sizes[1][1])


def zeros_around(module: nn.Conv2d) -> list[int]:
    """Zeros left, right, above and below."""
    if module.padding == "valid":
        return [0, 0, 0, 0]
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [side for t in reversed(total) for side in (t // 2, t - t // 2)]
    return [side for p in reversed(module.padding) for side in (p, p)]


def padded_pixels(module: nn.Conv2d, shape: torch.Size) -> int:
    """Pixels of an input (..., height, width) after padding."""
    left, right, above, below = zeros_around(module)
    return (shape[-2] + above + below) * (shape[-1] + left + right)


def groups_of(module: nn.Module) -> int:
    """Groups of channels of a convolution."""
    return getattr(module, "groups", 1)


def positions(call: Call) -> int:
    """Output positions of a call of a convolution or a linear layer."""
    return math.prod(call.shape[2:] if isinstance(call.module, nn.Conv2d) else call.shape[1:-1])
