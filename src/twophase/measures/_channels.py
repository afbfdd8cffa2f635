"""What layers and functions do to channels: which act on each alone, in their usual spellings."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NORMS += (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_ELEMENTWISE = """CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish
ReLU ReLU6 RReLU SELU SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink Threshold"""
_POOLS = "MaxPool AvgPool AdaptiveAvgPool AdaptiveMaxPool LPPool Dropout ZeroPad ReflectionPad"
# Layers that act on each channel alone, and leave their order.
ALONE = tuple(
    getattr(nn, name)
    for name in (
        *_ELEMENTWISE.split(),
        "Identity",
        "Dropout",
        "AlphaDropout",
        "Upsample",
        *(f"{pool}{d}d" for pool in _POOLS.split() for d in (1, 2, 3)),
    )
    if hasattr(nn, name)
)
# Those among them that give zeros for channels of zeros.
KEEP_ZERO_LAYERS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Identity, nn.Dropout)
KEEP_ZERO_LAYERS += (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten)
# Functions and methods of tensors that do.
_NAMES = """abs alpha_dropout celu clamp clamp_min clip clone contiguous dropout dropout1d dropout2d
dropout3d elu erf exp float gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu log1p
logsigmoid mish neg relu relu6 relu_ rrelu selu sigmoid sign silu softplus softshrink softsign
sqrt square tanh tanhshrink threshold max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d
avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
adaptive_max_pool2d interpolate"""
METHODS = frozenset(_NAMES.split())
FUNCTIONS = {
    getattr(room, name) for room in (F, torch) for name in METHODS if hasattr(room, name)
} | {operator.neg, operator.abs}
SUMS = {operator.add, operator.iadd, torch.add, operator.sub, operator.isub, torch.sub}
SUMS |= {"add", "add_", "sub", "sub_"}
PRODUCTS = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
SCALED = SUMS | PRODUCTS | {operator.truediv, torch.div, "div", operator.pow, torch.pow, "pow"}
OVER_PLACES = {torch.mean, torch.sum, torch.amax, "mean", "sum", "amax"}
FLAT = {torch.flatten, "flatten"}


def is_value(node: fx.Node) -> bool:
    """Whether a node gives numbers, such as a size, and no tensor."""
    if node.op == "call_method" and node.target in ("size", "dim"):
        return True
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    inputs = [each for each in node.all_input_nodes]
    return bool(inputs) and all(map(is_value, inputs))


def keeps(node: fx.Node) -> bool:
    """Whether a node acts on each channel of its one tensor alone: on axis 0, examples, and 1 it
    does nothing.
    """
    if node.op == "call_function" and node.target is operator.getitem:
        whole = slice(None, None, None)
        return isinstance(node.args[1], tuple) and node.args[1][:2] == (whole, whole)
    if node.target in FLAT:
        return _arguments(node, "start_dim", "end_dim") in [(1,), (1, -1)]
    if node.target in ("view", "reshape") or node.target is torch.reshape:
        return _flattens(node)
    if node.target in OVER_PLACES:
        found = _arguments(node, "dim", "keepdim")
        return bool(found) and _places(found[0])
    if node.target in ("squeeze", torch.squeeze):
        found = _arguments(node, "dim")
        return bool(found) and _places(found[0])
    if node.target in SCALED:  # by a number
        return all(isinstance(each, int | float) for each in node.args if not _is_node(each))
    return node.target in FUNCTIONS or (node.op == "call_method" and node.target in METHODS)


def _is_node(value: Any) -> bool:
    return isinstance(value, fx.Node)


def _arguments(node: fx.Node, *names: str) -> tuple:
    """What a node is given after its tensor, by place or by name; nothing if that is odd."""
    given = list(node.args[1:])
    for name in names[len(given) :]:
        if name not in node.kwargs:
            break
        given.append(node.kwargs[name])
    taken = set(names[: len(given)])
    return () if {*node.kwargs} - taken - {"keepdim"} else tuple(given)


def _places(axes: Any) -> bool:
    """Whether axes are those of an image's height and width, or of what came of it."""
    axes = [axes] if isinstance(axes, int) else axes
    if not isinstance(axes, list | tuple) or not all(isinstance(axis, int) for axis in axes):
        return False
    return bool(axes) and all(axis > 1 or axis in (-1, -2) for axis in axes)


def _flattens(node: fx.Node) -> bool:
    """Whether a node reshapes to (examples, all the rest)."""
    given = node.args[1:]
    if len(given) == 1 and isinstance(given[0], list | tuple):
        given = tuple(given[0])
    if len(given) != 2 or given[1] != -1 or node.kwargs:
        return False
    first = given[0]
    if not _is_node(first):
        return False
    if first.target == "size":
        return first.args[1:] == (0,)
    if first.target is operator.getitem:
        return is_value(first) and first.args[1] == 0
    return first.target is len
