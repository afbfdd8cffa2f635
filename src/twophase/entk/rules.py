"""Rules for the operations that take a parameter, read off the graph that autograd keeps.

The graph says what was computed, whatever module, function or operator asked for it: a projection
within attention, a step of a recurrent cell, a scale, a table of positions. Each rule says how the
gradient g of an operation's output becomes that of the parameter, example by example.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

Node = torch.autograd.graph.Node


class Product(NamedTuple):
    """out = a @ p, or p @ a.T if `left`. The parameter's gradient is g.T @ a, or a.T @ g."""

    a: torch.Tensor  # (rows, D)
    left: bool


class Scaled(NamedTuple):
    """out = factor * p + ...: the parameter's gradient is the sum of factor * g."""

    factor: torch.Tensor | float
    channels: bool = False  # p lies along axis 1 of the output, not along its last axes


class Table(NamedTuple):
    """Rows of p by number. The parameter's gradient is the sum of g at each number."""

    numbers: torch.Tensor
    nowhere: int  # the number whose row is not trained, or -1


class Convolved(NamedTuple):
    """A convolution of the input x, or its transpose, with p."""

    x: torch.Tensor
    geometry: SimpleNamespace
    transposed: bool


Rule = Product | Scaled | Table | Convolved


def _addmm(node: Any, slot: int) -> Rule | None:
    if slot == 0:
        return Scaled(node._saved_beta)
    a, left = (node._saved_mat1, False) if slot == 2 else (node._saved_mat2.T, True)
    return Product(a if node._saved_alpha == 1 else node._saved_alpha * a, left)


def _mm(node: Any, slot: int) -> Rule | None:
    return Product(node._saved_self, False) if slot == 1 else Product(node._saved_mat2.T, True)


def _bmm(node: Any, slot: int) -> Rule | None:
    other = node._saved_self if slot == 1 else node._saved_mat2
    if len(other) != 1:
        return None
    return Product(other[0], False) if slot == 1 else Product(other[0].T, True)


def _div(node: Any, slot: int) -> Rule | None:
    if slot == 0:
        return Scaled(1 / node._saved_other)
    return Scaled(-node._saved_self / node._saved_other**2)


def _where(node: Any, slot: int) -> Rule | None:
    kept = node._saved_condition if slot == 0 else ~node._saved_condition
    return Scaled(kept)


def _prelu(node: Any, slot: int) -> Rule | None:
    return Scaled(node._saved_self.clamp(max=0)) if slot == 1 else None


def _embedding(node: Any, slot: int) -> Rule | None:
    if node._saved_scale_grad_by_freq:
        return None  # its gradient depends on the other examples
    nowhere = node._saved_padding_idx
    return Table(node._saved_indices, nowhere if nowhere < 2**63 else -1)


def _index(node: Any, slot: int) -> Rule | None:
    first, *others = node._saved_indices
    if first is None or first.dtype != torch.int64 or any(i is not None for i in others):
        return None
    return Table(first % node._saved_self_sym_sizes[0], -1)


def _index_select(node: Any, slot: int) -> Rule | None:
    return None if node._saved_dim else Table(node._saved_index, -1)


def _layer_norm(node: Any, slot: int) -> Rule | None:
    if slot == 2:
        return Scaled(1.0)
    return Scaled((node._saved_input - node._saved_result1) * node._saved_result2)


def _group_norm(node: Any, slot: int) -> Rule | None:
    if slot == 2:
        return Scaled(1.0, channels=True)
    x = node._saved_input
    mean, rstd = node._saved_result1, node._saved_result2
    grouped = x.reshape(*mean.shape, -1)
    return Scaled(((grouped - mean[..., None]) * rstd[..., None]).view(x.shape), channels=True)


def _batch_norm(node: Any, slot: int) -> Rule | None:
    if node._saved_training:
        return None
    if slot == 2:
        return Scaled(1.0, channels=True)
    x = node._saved_input
    along = (1, -1, *[1] * (x.dim() - 2))
    rstd = (node._saved_running_var + node._saved_eps).rsqrt()
    return Scaled((x - node._saved_running_mean.view(along)) * rstd.view(along), channels=True)


def _convolution(node: Any, slot: int) -> Rule | None:
    if slot == 2:
        return Scaled(1.0, channels=True)
    names = ("stride", "padding", "dilation", "groups")
    geometry = SimpleNamespace(**{name: getattr(node, f"_saved_{name}") for name in names})
    geometry.kernel_size = tuple(node._saved_weight.shape[2:])
    transposed = node._saved_transposed
    more = zip(node._saved_output_padding, geometry.stride, strict=True)
    if slot != 1 or (transposed and any(zeros >= stride for zeros, stride in more)):
        return None
    return Convolved(node._saved_input, geometry, transposed)


RULES = {
    "AddmmBackward0": _addmm,
    "MmBackward0": _mm,
    "BmmBackward0": _bmm,
    "AddBackward0": lambda node, slot: Scaled(node._saved_alpha if slot == 1 else 1.0),
    "SubBackward0": lambda node, slot: Scaled(-node._saved_alpha if slot == 1 else 1.0),
    "MulBackward0": lambda node, slot: Scaled(node._saved_self if slot == 1 else node._saved_other),
    "DivBackward0": _div,
    "WhereBackward0": _where,
    "PreluKernelBackward0": _prelu,
    "ExpandBackward0": lambda node, slot: Scaled(1.0),
    "RepeatBackward0": lambda node, slot: Scaled(1.0),
    "EmbeddingBackward0": _embedding,
    "IndexBackward0": _index,
    "IndexSelectBackward0": _index_select,
    "NativeLayerNormBackward0": _layer_norm,
    "NativeGroupNormBackward0": _group_norm,
    "NativeBatchNormBackward0": _batch_norm,
    "CudnnBatchNormBackward0": _batch_norm,
    "ConvolutionBackward0": _convolution,
}


def rule_of(node: Node, slot: int) -> Rule | None:
    """How the gradient of the output of `node` becomes that of its input `slot`, if that is known.

    None, too, where what it takes is not there any more (a value changed in place).
    """
    rule = RULES.get(node.name())
    try:
        found = rule(node, slot) if rule else None
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError):
        return None
    if found is None:
        return None
    tensors = [part.detach() if isinstance(part, torch.Tensor) else part for part in found]
    return type(found)(*tensors)
