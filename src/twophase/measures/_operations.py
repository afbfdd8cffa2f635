"""What PyTorch's operations do to the units of a network: a rule for each kind of operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from twophase.measures import _labels as at

# They move entries, and change none; or take some of them.
MOVE = {"alias", "channel_shuffle", "detach", "expand", "flip", "lift_fresh", "permute", "repeat"}
MOVE |= {"native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "reshape", "roll", "squeeze"}
MOVE |= {"t", "transpose", "unsqueeze", "view", "_unsafe_view"}
TAKE = {"diagonal", "index", "index_select", "narrow", "select", "slice", "split", "unbind"}
TAKE |= {"split_with_sizes", "unsafe_split"}
COPY = frozenset({"clone", "contiguous", "_to_copy"})
# Entry by entry, though PyTorch does not say so.
EACH = frozenset({"_prelu_kernel", "hardswish", "log_sigmoid_forward", "masked_fill"})
PAIR = frozenset({"add", "sub", "mul"})
ZERO_FOR_ZERO = frozenset({"relu", "gelu", "silu", "tanh", "neg", "abs", "mul", "div", "clone"})
OVER = frozenset({"mean", "sum", "amax", "amin", "var", "std", "logsumexp", "linalg_vector_norm"})
SOFTMAX = frozenset({"_softmax", "_log_softmax", "_safe_softmax"})
# Per channel, over places.
PLACES = ("max_pool", "avg_pool", "adaptive_max_pool", "_adaptive_avg_pool", "upsample")
PLACES += ("reflection_pad", "replication_pad", "_reflection_pad", "_replication_pad")
MADE = frozenset({"empty_like", "zeros_like", "ones_like", "full_like"})
MADE |= {"new_empty", "new_zeros", "new_ones", "new_full"}
Fields = list


def after(
    labels: at.Labels, func: Any, args: tuple, kwargs: dict, given: list, laid: list, out: Any
) -> Fields:
    """The fields of what an operation gives, or of each of several tensors.

    Raises `Unknown` if it does something else with units than the rules say.
    """
    name = func.overloadpacket.__name__
    changes = name.endswith("_") and not name.startswith("__")
    name = name[:-1] if changes else name
    rule = _rule(name, func)
    if changes and labels.of(args[0]) is None:
        raise at.Unknown(name)  # a constant that is none any more
    if changes and rule not in (_each, _laid):
        rule = _moved if name in ("squeeze", "t", "transpose", "unsqueeze") else None
    if not any(labels.of(tensor) for tensor in given) and not (rule and name in RULES):
        if name in ("item", "_local_scalar_dense"):
            raise at.Unknown(name)
        return []
    if rule is None:
        raise at.Unknown(name)
    fields = rule(labels, _Call(name, func, args, kwargs, given, laid, out))
    if changes and rule is _each:
        before = labels.of(args[0]) or []
        same = len(before) == len(fields) and all(
            torch.equal(*at.less(labels.now(a), labels.now(b)))
            for a, b in zip(before, fields, strict=True)
        )
        if not same:
            raise at.Unknown(name)
    return fields


class _Call(NamedTuple):
    """One call of an operation, the tensors that it is given, in their order, and how the first of
    them lay in memory.
    """

    name: str
    func: Any
    args: tuple
    kwargs: dict
    given: list[torch.Tensor]
    laid: list[tuple]
    out: Any

    @property
    def shape(self) -> torch.Size:
        """The shape of what it gives, or of the first of several tensors."""
        return (self.out if isinstance(self.out, torch.Tensor) else self.out[0]).shape

    def option(self, name: str) -> Any:
        """What it is given by that name, or its default."""
        for place, argument in enumerate(self.func._schema.arguments):
            if argument.name == name and place < len(self.args):
                return self.args[place]
            if argument.name == name and name not in self.kwargs:
                return argument.default_value
        return self.kwargs.get(name)


def _rule(name: str, func: Any) -> Callable | None:
    if name in RULES:
        return RULES[name]
    if name in MADE:
        return lambda labels, call: []
    if name.startswith(PLACES):
        return _places
    kinds = ((MOVE | TAKE, _moved), (COPY, _copied), (OVER, _over), (SOFTMAX, _softmax))
    for names, rule in kinds:
        if name in names:
            return rule
    return _each if name in EACH or torch.Tag.pointwise in func.tags else None


def _shaped(labels: at.Labels, tensor: torch.Tensor) -> tuple[Fields, Sequence[int]]:
    """The fields of a tensor and its shape: of a constant, with 1 where all its entries are one."""
    fields = labels.of(tensor)
    if fields is None:
        size = [tensor.shape[a] if a in at.varies(tensor) else 1 for a in range(tensor.dim())]
        return [], size
    return fields, tensor.shape


def _each(labels: at.Labels, call: _Call) -> Fields:
    operands = [_shaped(labels, tensor) for tensor in call.given]
    product, pair = call.name == "mul", len(operands) > 1 and call.name in PAIR
    if not (pair and all(fields for fields, _ in operands)) and call.name not in ZERO_FOR_ZERO:
        _refuse_zeros(call.name, *(fields for fields, _ in operands))
    return labels.joint(call.shape, operands, any if product else all)


def _refuse_zeros(name: str, *several: Fields) -> None:
    """What is made of channels of zeros must be zero, or their places count."""
    if any(bool((at.small(field) == at.ZERO).any()) for fields in several for field in fields):
        raise at.Unknown(name)


def _copied(labels: at.Labels, call: _Call) -> Fields:
    return labels.of(call.args[0]) or []


def _moved(labels: at.Labels, call: _Call) -> Fields:
    """The operation itself moves the labels."""
    fields = labels.of(call.args[0]) or []
    if any(labels.of(tensor) is not None for tensor in call.given[1:]):
        fields = _looked_up(labels, call, fields)
    view = call.name in ("view", "_unsafe_view", "reshape")
    if view and not isinstance(call.args[1], list | tuple):
        raise at.Unknown(call.name)  # the bytes as another type
    in_place = call.func.overloadpacket.__name__ != call.name
    move = getattr(torch.Tensor, call.name) if in_place else call.func
    move = torch.reshape if view else move
    several = not isinstance(call.out, torch.Tensor)
    found = [labels.carried(f, lambda t: move(t, *call.args[1:], **call.kwargs)) for f in fields]
    return [list(fields) for fields in zip(*found, strict=True)] if several else found


def _looked_up(labels: at.Labels, call: _Call, fields: Fields) -> Fields:
    """The fields of a tensor of which places are taken that depend on the data."""
    if call.name != "index":
        raise at.Unknown(call.name)
    axes = {axis for axis, places in enumerate(call.args[1]) if places is not None}
    labels.fix(*(field for field in fields if axes & {*at.varies(field)}))
    return [field for field in fields if not axes & {*at.varies(field)}]


def _laid(labels: at.Labels, call: _Call) -> Fields:
    """The same entries, which lie otherwise in memory."""
    found = labels.of(call.args[0]) or []
    if [at.layout(call.out)] != call.laid or any(f.shape != call.shape for f in found):
        raise at.Unknown(call.name)
    return found


def _places(labels: at.Labels, call: _Call) -> Fields:
    shape = call.shape
    found = labels.of(call.args[0]) or []
    # There may be no axis of examples, but the places are the last axes.
    places = range(len(shape) - int(re.search(r"\dd", call.name)[0][0]), len(shape))
    if any({*places} & {*at.varies(field)} for field in found):
        raise at.Unknown(call.name)
    return [at.first(field, places).expand(shape) for field in found]


def _padded(labels: at.Labels, call: _Call) -> Fields:
    """Zeros beside the entries: places within a channel, or channels of zeros."""
    pad, found = list(call.args[1]), []
    for field in labels.of(call.args[0]) or []:
        axes, own = set(at.varies(field)), pad.copy()
        for axis in range(field.dim()):
            place = 2 * (field.dim() - 1 - axis)
            if axis not in axes and place < len(pad):
                field, own[place : place + 2] = field.narrow(axis, 0, 1), [0, 0]
        if any(own) and (call.option("value") or min(own) < 0):
            raise at.Unknown(call.name)
        padded = torch.constant_pad_nd(field, own, at.ZERO)
        found.append(padded.expand(call.out.shape))
    return found


def _over(labels: at.Labels, call: _Call) -> Fields:
    """Sums and the like over axes: of units there, taken as a set."""
    tensor = call.args[0]
    axes = call.option("dim")
    axes = range(tensor.dim()) if axes in (None, []) else axes
    axes = [axis % tensor.dim() for axis in ([axes] if isinstance(axes, int) else axes)]
    left = labels.together(labels.of(tensor) or [], axes)
    if call.option("keepdim"):
        return left
    for axis in sorted(axes, reverse=True):
        left = [field.select(axis, 0) for field in left]
    return left


def _softmax(labels: at.Labels, call: _Call) -> Fields:
    tensor = call.args[0]
    fields = labels.of(tensor) or []
    _refuse_zeros(call.name, fields)
    axis = call.args[1] % tensor.dim()
    labels.together([field for field in fields if axis in at.varies(field)], [axis])
    return fields


def _joined(labels: at.Labels, call: _Call) -> Fields:
    """Tensors beside each other: fields along the axis, and those of all of them."""
    tensors, axis = call.args[0], call.option("dim")
    shape = call.out.shape
    axis %= len(shape)
    if call.name == "stack":
        every = [[f.unsqueeze(axis) for f in labels.of(t) or []] for t in tensors]
        sizes = [1] * len(tensors)
    else:
        every, sizes = [labels.of(t) or [] for t in tensors], [t.shape[axis] for t in tensors]
    beside = [[f for f in fields if axis in at.varies(f)] for fields in every]
    found = [_beside(labels, call, beside, sizes, axis)] if any(beside) else []
    rest = [[f for f in fields if axis not in at.varies(f)] for fields in every]
    wide = [([at.first(f, [axis]).expand(shape) for f in fields], shape) for fields in rest]
    return found + labels.joint(shape, wide, all)


def _beside(labels: at.Labels, call: _Call, beside: list, sizes: Sequence[int], axis: int) -> Any:
    """The field of tensors beside each other along an axis, each with at most one field of it."""
    parts, entries, sources, count = [], [], [], 0
    for own, size in zip(beside, sizes, strict=True):
        if len(own) > 1:
            raise at.Unknown(call.name)
        part = [*call.out.shape]
        part[axis] = size
        if not own:
            own = [at.along(labels.new(size), axis, part)]
            labels.fix(own[0])
        parts.append(own[0].expand(part))
        entries.append(at.numbers(own[0]).expand(part) + count)
        sources.append(at.small(own[0]).flatten())
        count += len(sources[-1])
    which = [torch.full_like(source, place) for place, source in enumerate(sources)]
    found = torch.cat(parts, axis)
    labels.ordered(found, torch.cat(entries, axis), torch.cat(sources), torch.cat(which))
    return found


def _product(labels: at.Labels, one: torch.Tensor, two: torch.Tensor) -> Fields:
    """Of matrices (..., i, k) and (..., k, j): products entry by entry, and their sums over k."""
    (ones, first), (twos, second) = _shaped(labels, one), _shaped(labels, two)
    ones = [field.unsqueeze(-2) for field in ones]
    twos = [labels.carried(f, lambda t: t.transpose(-1, -2)).unsqueeze(-3) for f in twos]
    shape = [*one.shape[:-1], two.shape[-1], one.shape[-1]]
    sizes = [*first[:-1], 1, first[-1]], [*second[:-2], 1, second[-1], second[-2]]
    found = labels.joint(shape, list(zip((ones, twos), sizes, strict=True)), any)
    return [f.squeeze(-1) for f in labels.together(found, [len(shape) - 1])]


def _mm(labels: at.Labels, call: _Call) -> Fields:
    one, two = call.args
    if two.dim() == 1:
        raise at.Unknown(call.name)
    return _product(labels, one, two)


def _addmm(labels: at.Labels, call: _Call) -> Fields:
    bias, one, two = call.args
    found = _product(labels, one, two)
    shape = call.out.shape
    return labels.joint(shape, [(found, shape), _shaped(labels, bias)], all)


def _convolved(labels: at.Labels, call: _Call) -> Fields:
    images, weight, bias, *_ = call.args
    groups, turned = call.option("groups"), call.option("transposed")
    shape, where = call.out.shape, 0 if turned else 1
    inputs = labels.of(images) or []
    labels.fix(*(f for f in inputs if at.varies(f) != [1]))
    others = [axis for axis in range(len(shape)) if axis != 1]
    inputs = [at.first(f, others).flatten() for f in inputs if at.varies(f) == [1]]
    kernel = {axis: f for f in labels.of(weight) or [] for axis in at.varies(f)}
    labels.fix(*(f for axis, f in kernel.items() if axis > 1))
    own = {a: kernel[a].movedim(a, 0).flatten(1)[:, 0] for a in (0, 1) if a in kernel}
    if groups > 1:
        outputs = _grouped(labels, call, inputs, own)
    else:
        size = weight.shape[0], weight.shape[1]
        both = [at.along(units, axis, size) for axis, units in own.items()]
        wide = [1, 1]
        wide[where] = size[where]
        given = [at.along(units, where, wide) for units in inputs]
        left = labels.together(labels.joint(size, [(both, size), (given, wide)], any), [where])
        outputs = [field.flatten() for field in left]
    found = [at.along(units, 1, shape) for units in outputs]
    if bias is None:
        return found
    along = [at.along(f, 1, shape) for f in labels.of(bias) or []]
    size = [s if axis == 1 else 1 for axis, s in enumerate(shape)]
    return labels.joint(shape, [(found, shape), (along, size)], all)


def _grouped(labels: at.Labels, call: _Call, inputs: Fields, own: dict) -> Fields:
    """The channels behind a grouped convolution: behind a depthwise one those before it."""
    images, groups = call.args[0], call.option("groups")
    _refuse_zeros(call.name, inputs)
    if call.option("transposed") or 0 not in own:
        raise at.Unknown(call.name)
    if 1 in own:
        labels.fix(own[1])
    if groups == images.shape[1] and inputs:
        times = len(own[0]) // groups
        labels.join(torch.stack([own[0], inputs[0].repeat_interleave(times)], 1))
        return [labels.now(own[0])]
    labels.fix(*inputs)
    _keep_apart(labels, own[0], groups)
    return [own[0]]


def _keep_apart(labels: at.Labels, units: torch.Tensor, groups: int) -> None:
    """Let units change places within each of the groups that lie one after another only."""
    for part in units.chunk(groups):
        labels.operations += 1
        labels.set_apart(part)


def _embedded(labels: at.Labels, call: _Call) -> Fields:
    weight, shape = call.args[0], call.out.shape
    fields = labels.of(weight) or []
    labels.fix(*(field for field in fields if 0 in at.varies(field)))
    own = [field[0] for field in fields if at.varies(field) == [1]]
    return [at.along(units, len(shape) - 1, shape) for units in own]


def _gated(labels: at.Labels, call: _Call) -> Fields:
    """The first half of a tensor times a function of the second."""
    axis, shape = call.option("dim"), call.out.shape
    fields = labels.of(call.args[0]) or []
    halves = [labels.carried(f, lambda t: t.chunk(2, axis)) for f in fields]
    _refuse_zeros(call.name, fields)
    operands = [([pair[half] for pair in halves], shape) for half in (0, 1)]
    return labels.joint(shape, operands, any)


def _weight_norm(labels: at.Labels, call: _Call) -> Fields:
    weight, size, axis = call.args[0], call.args[1], call.option("dim")
    axes = [a for a in range(weight.dim()) if a != axis % weight.dim()]
    return _normed(labels, call, axes, (size, size.shape))


def _normed(labels: at.Labels, call: _Call, axes: Sequence[int], *tensors: Any) -> Fields:
    """Scaled by what a set has together, and by tensors, each of its own shape."""
    images = call.args[0]
    fields = labels.of(images) or []
    _refuse_zeros(call.name, fields)
    labels.together([f for f in fields if set(at.varies(f)) & set(axes)], axes)
    operands = [(fields, images.shape)]
    for tensor, shape in tensors:
        own = labels.of(tensor, state=True) or []
        operands.append(([field.reshape(shape) for field in own], shape))
    return labels.joint(images.shape, operands, all)


def _layer_norm(labels: at.Labels, call: _Call) -> Fields:
    images, size = call.args[0], call.args[1]
    axes = range(images.dim() - len(size), images.dim())
    tensors = [(t, t.shape) for t in call.args[2:4] if isinstance(t, torch.Tensor)]
    return _normed(labels, call, axes, *tensors)


def _per_channel(labels: at.Labels, call: _Call) -> Fields:
    images = call.args[0]
    shape = [size if axis == 1 else 1 for axis, size in enumerate(images.shape)]
    # Statistics move with their channels; instance norm has none.
    return _normed(labels, call, [], *((t, shape) for t in call.given[1:] if t.numel() > 1))


def _group_norm(labels: at.Labels, call: _Call) -> Fields:
    for field in labels.of(call.args[0]) or []:
        if at.varies(field) != [1]:
            raise at.Unknown(call.name)
        units = at.first(field, [a for a in range(field.dim()) if a != 1]).flatten()
        _keep_apart(labels, units, call.option("group"))
    return _per_channel(labels, call)


RULES: dict[str, Callable] = {
    "as_strided": _laid, "constant_pad_nd": _padded, "cat": _joined, "stack": _joined,
    "mm": _mm, "bmm": _mm, "addmm": _addmm, "baddbmm": _addmm, "convolution": _convolved,
    "embedding": _embedded, "native_layer_norm": _layer_norm, "native_group_norm": _group_norm,
    "native_batch_norm": _per_channel,
    "_fused_rms_norm": _layer_norm, "glu": _gated, "_weight_norm_interface": _weight_norm,
}  # fmt: skip
