"""The empirical neural tangent kernel (eNTK) of a network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap


def entk(
    model: nn.Module,
    inputs: torch.Tensor,
    *,
    kind: Literal["full", "trace", "pseudo"] = "full",
    memory_limit: int | None = None,
) -> torch.Tensor:
    """Tangent kernel of `model` on `inputs` (n, ...), the network in eval mode.

    `full`: H[(i, c), (j, d)] = <df_c(x_i)/dtheta, df_d(x_j)/dtheta> (arXiv 2505.13900, section 3),
    shape (n C, n C), rows ordered by example, then class. `trace`: (n, n), the mean over classes of
    the diagonal blocks' entries. `pseudo`: (n, n), with the gradient of the logits' sum over
    sqrt(C) (Mohamadi et al. 2023).

    `memory_limit` bounds, in bytes, the Jacobian held at once: with a limit, the parameters are
    taken in groups, each at the price of another pass. Raises `ValueError` if a single parameter
    tensor exceeds it.
    """
    model.eval()
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    buffers = dict(model.named_buffers())
    with torch.no_grad():
        rows = model(inputs[:1]).shape[1]
    outputs = 1 if kind == "pseudo" else rows

    def logits(group: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        out = functional_call(model, {**parameters, **buffers, **group}, (x[None],))[0]
        return out.sum().view(1) / rows**0.5 if kind == "pseudo" else out

    n = len(inputs)
    size = n * (1 if kind == "trace" else outputs)
    kernel = inputs.new_zeros(size, size)
    for group in _groups(parameters, n * outputs, memory_limit):
        jacobian = vmap(jacrev(logits), in_dims=(None, 0))(group, inputs)
        for derivative in jacobian.values():
            flat = derivative.flatten(2)  # (n, outputs, parameters)
            if kind == "trace":
                flat = flat.transpose(0, 1)
                kernel += torch.bmm(flat, flat.transpose(1, 2)).mean(0)
            else:
                flat = flat.flatten(0, 1)
                kernel.addmm_(flat, flat.T)
    # A matrix product need not be symmetric to the last bit.
    return (kernel + kernel.T) / 2


def _groups(
    parameters: dict[str, torch.Tensor], rows: int, limit: int | None
) -> list[dict[str, torch.Tensor]]:
    """Split parameters into groups whose Jacobian, `rows` high, fits into `limit` bytes."""
    if limit is None:
        return [parameters]
    groups: list[dict[str, torch.Tensor]] = [{}]
    used = 0
    for name, parameter in parameters.items():
        needed = rows * parameter.numel() * parameter.element_size()
        if needed > limit:
            raise ValueError(f"memory_limit = {limit}: the Jacobian of {name} takes {needed} bytes")
        if used + needed > limit:
            groups.append({})
            used = 0
        groups[-1][name] = parameter
        used += needed
    return groups
