"""The tensors of a network: those that are trained, and all that make its state."""

from __future__ import annotations

import torch
from torch import nn


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by name, each once, that require gradients: theta in arXiv 2505.13900.

    They are trained, perturbed, linearised and compared, and the kernel is of them. Frozen ones
    are left alone.
    """
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def named_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers by name: each once, also one that several layers share, and also
    buffers that the network calls not persistent.
    """
    found: dict[torch.Tensor, str] = {}
    for prefix, module in model.named_modules():
        # Not the public methods, which call a tensor that two layers share twice.
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                found.setdefault(tensor, f"{prefix}.{name}".lstrip("."))
    return {name: tensor.detach() for tensor, name in found.items()}


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor of any type and shape: 0.0 and -0.0 differ, NaN equals itself."""
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def in_precision(examples: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Examples in that precision; tokens, which are whole numbers, as they are."""
    return examples.to(dtype) if examples.is_floating_point() else examples


def others(examples: torch.Tensor) -> torch.Tensor:
    """Other examples of the same kind, whatever these are: of tokens, in another order."""
    return 2 * examples + 1 if examples.is_floating_point() else examples.flip(0, 1)


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to `device`, with tensors of four axes channels last: convolutions are
    faster so. Shared tensors stay shared; a buffer that repeats its entries gets room for each.
    """
    model = model.to(device)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
        elif not isinstance(tensor, nn.Parameter):
            tensor.data = tensor.data.contiguous()
    return model
