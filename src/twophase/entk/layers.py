"""Rules for the layers whose parameters the engine contracts by itself."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as hooks

from twophase.entk.network import Call

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (*CONVS, nn.Linear, *NORMS)  # others: see rules.py
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
    """Output gradients (k, n, ...) as (k, n, O, P)."""
    if isinstance(module, CONVS):
        return g.flatten(3)
    return g.reshape(*g.shape[:2], -1, g.shape[-1]).transpose(2, 3)


def over_positions(module: nn.Module, products: torch.Tensor) -> torch.Tensor:
    """Sum of (k, n, ...) over all axes that a bias or scale of `module` does not have, as (k, n,
    numbers).
    """
    if isinstance(module, nn.Linear):
        return products.flatten(2, -2).sum(2) if products.dim() > 3 else products
    if isinstance(module, nn.LayerNorm):
        inner = math.prod(module.normalized_shape)
        return products.reshape(*products.shape[:2], -1, inner).sum(2)
    return products.flatten(3).sum(3) if products.dim() > 3 else products


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
    if {*module.kernel_size, *module.stride} == {1} and not any(zeros_around(module)):
        return a.reshape(len(a) * module.groups, -1, a[0, 0].numel())
    a = F.pad(a, zeros_around(module)).contiguous()
    steps, reached = a.stride()[2:], []
    for axis, length in enumerate(a.shape[2:]):
        reach = module.dilation[axis] * (module.kernel_size[axis] - 1)
        reached.append((length - reach - 1) // module.stride[axis] + 1)
    windows = a.as_strided(
        (*a.shape[:2], *module.kernel_size, *reached),
        (
            *a.stride()[:2],
            *(d * step for d, step in zip(module.dilation, steps, strict=True)),
            *(s * step for s, step in zip(module.stride, steps, strict=True)),
        ),
    )
    return windows.reshape(len(a) * module.groups, -1, math.prod(reached))


def zeros_around(module: nn.Module) -> list[int]:
    """Zeros before and after, by axis, the last one first."""
    if module.padding == "valid":
        return [0, 0] * len(module.kernel_size)
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [side for t in reversed(total) for side in (t // 2, t - t // 2)]
    return [side for p in reversed(module.padding) for side in (p, p)]


def padded_pixels(module: nn.Module, shape: torch.Size) -> int:
    """Pixels of an input (channels, ...) after padding."""
    zeros = zeros_around(module)
    around = [before + after for before, after in zip(zeros[::2], zeros[1::2], strict=True)]
    return math.prod(size + more for size, more in zip(reversed(shape[1:]), around, strict=True))


def groups_of(module: nn.Module) -> int:
    """Groups of channels of a convolution."""
    return getattr(module, "groups", 1)


def positions(call: Call) -> int:
    """Output positions of a call of a convolution or a linear layer."""
    return math.prod(call.shape[2:] if isinstance(call.module, CONVS) else call.shape[1:-1])
