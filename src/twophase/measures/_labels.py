"""Which units stand where in a network: its operations, done on labels beside the numbers.

A *field* of a tensor is a label for each of its entries, along some of its axes: the unit that the
entry belongs to. Each axis of a parameter begins with units of its own. An operation joins the
units that it brings together, fixes those whose places it knows, and notes which it takes as a set.
So it does not matter how a network is written, but only what it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ZERO = 0  # the label of entries that are always zero
Field = torch.Tensor  # whole numbers (shape of the tensor), the same along the axes it is not of
# A parameter and an axis of it; or the number of an operation, and the head whose units it takes,
# or ZERO and in which order it has the unit's entries.
Mark = tuple


class Unknown(Exception):
    """What an operation does to units is not known."""


class Labels(TorchDispatchMode):
    """Labels of all that is computed within the block from `inputs` and the tensors of `state`.

    `after` says the fields of what an operation gives, from those of what it is given.
    `same` (count,): the first of the units that each moves together with. `axes`: by name and axis
    of a parameter, the unit of each place. `marks`: what tells units apart. `heads`: (unit, head),
    where a unit moves with its head, another unit, and beside it only within that head. `orders`:
    what `ordered` was given, with the number of the operation.
    """

    def __init__(
        self, inputs: torch.Tensor, state: dict[str, torch.Tensor], after: Callable[..., list]
    ) -> None:
        super().__init__()
        self.after = after
        self.names = {id(tensor): name for name, tensor in state.items()}
        # Tensors are kept, too: another one may get the id of one that is gone.
        self.known: dict[int, tuple[torch.Tensor, list[Field]]] = {id(inputs): (inputs, [])}
        self.same = torch.zeros(1, dtype=torch.long)
        self.axes: dict[tuple[str, int], torch.Tensor] = {}
        self.marks: list[tuple[int, Mark]] = []
        self.heads: list[tuple[int, int]] = []
        self.orders: list[tuple[int, Field, Field, Field, Field]] = []
        self.fixed: set[int] = {ZERO}
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [each for each in tree_leaves([args, kwargs]) if isinstance(each, torch.Tensor)]
        laid = [layout(tensor) for tensor in given[:1]]  # it may change the first one in place
        out = func(*args, **kwargs)
        if any(self.of(tensor) is not None for tensor in given):
            self.operations += 1
            self._note(out, self.after(self, func, args, kwargs, given, laid, out))
        return out

    def _note(self, out: Any, fields: list) -> None:
        """Keep the fields of what an operation gives: of a tensor, or of each of several."""
        if isinstance(out, torch.Tensor):
            self.known[id(out)] = out, fields
        elif isinstance(out, list | tuple):
            several = fields if fields and isinstance(fields[0], list) else [fields]
            for place, tensor in enumerate(out):
                if isinstance(tensor, torch.Tensor):
                    self._note(tensor, several[place] if place < len(several) else [])

    def of(self, tensor: torch.Tensor, *, state: bool = False) -> list[Field] | None:
        """The fields of a tensor; None if it is a constant. With `state` a buffer has some, too."""
        if id(tensor) in self.known:
            return [self.now(field) for field in self.known[id(tensor)][1]]
        name = self.names.get(id(tensor))
        if name is None:
            return None
        if not (state or isinstance(tensor, torch.nn.Parameter)):
            return []
        fields = []
        for axis, size in enumerate(tensor.shape):
            if size > 1:
                units = self.axes[name, axis] = self.new(size)
                self.marks += [(unit, (name, axis)) for unit in units.tolist()]
                fields.append(along(units, axis, tensor.shape))
        self.known[id(tensor)] = tensor, fields
        return fields

    def new(self, count: int) -> torch.Tensor:
        """Units (count,) that there were not."""
        units = torch.arange(len(self.same), len(self.same) + count)
        self.same = torch.cat([self.same, units])
        return units

    def now(self, field: Field) -> Field:
        """The field with the first of the units that move together."""
        return self.same[small(field)].expand(field.shape)

    def join(self, pairs: torch.Tensor) -> None:
        """Let the units of each of the pairs (n, 2) move together."""
        pairs = pairs[(pairs != ZERO).all(1) & (pairs[:, 0] != pairs[:, 1])]
        if not len(pairs):
            return
        every = torch.cat([pairs, torch.stack([torch.arange(len(self.same)), self.same], 1)])
        graph = coo_matrix((np.ones(len(every)), every.numpy().T), shape=(len(self.same),) * 2)
        parts = connected_components(graph, directed=False)[1]
        first = np.unique(parts, return_index=True)[1]
        self.same = torch.from_numpy(first[parts]).long()

    def fix(self, *fields: Field) -> None:
        """Let the units of fields stay where they are."""
        for field in fields:
            self.fixed.update(small(field).unique().tolist())

    def together(self, fields: list[Field], axes: Iterable[int]) -> list[Field]:
        """What is left when an operation takes all entries along `axes` as a set: of these a field
        has size 1.

        One set may be permuted. Of several, such as the entries of attention's heads, each may be,
        and the sets may change places if they do so everywhere: each is a unit itself, a head.
        """
        axes, left = sorted(axes), []
        self.operations += 1
        for field in fields:
            if not set(axes) & set(varies(field)):
                left.append(first(field, axes))
                continue
            rows = small(field).movedim(axes, list(range(-len(axes), 0)))
            kept = rows.shape[: -len(axes)]
            rows, which = rows.flatten(-len(axes)).flatten(0, -2).unique(dim=0, return_inverse=True)
            if len(rows) == 1:
                self.set_apart(rows[rows != ZERO])
            elif ZERO in rows or len(rows.unique()) < sum(len(row.unique()) for row in rows):
                self.fix(field)
            else:
                heads = self.new(len(rows))
                for head, row in zip(heads, rows, strict=True):
                    self.set_apart(row, int(head))
                found = heads[which].reshape(kept)
                for axis in axes:
                    found = found.unsqueeze(axis)
                size = [1 if axis in axes else s for axis, s in enumerate(field.shape)]
                left.append(found.expand(size))
                self.ordered(field, numbers(left[-1]).expand(field.shape), left[-1])
        return left

    def set_apart(self, units: torch.Tensor, head: int = ZERO) -> None:
        """Note that the present operation takes these units as a set, which may be a head's."""
        self.marks += [(unit, (self.operations, head)) for unit in units.tolist()]
        if head != ZERO:
            self.heads += [(unit, head) for unit in units.unique().tolist()]

    def ordered(
        self, field: Field, entries: Field, source: Field, which: torch.Tensor | None = None
    ) -> None:
        """Note from which entry of a source, by `numbers`, each of a field's comes.

        A unit with several entries changes places with another one entry by entry, in their order
        in each field. So units must be told apart unless the order is changed alike for them; and
        unless as many of their entries are taken from each part of the source, which `which` says.
        """
        self.operations += 1
        source = small(source).flatten()
        which = torch.zeros_like(source) if which is None else which
        self.orders.append((self.operations, *less(field, entries), source, which))

    def carried(self, field: Field, move: Any) -> Any:
        """A field after what moves entries, or takes some; or several such fields."""
        moved, entries = move(field), move(numbers(field))
        several = not isinstance(moved, torch.Tensor)
        for units, places in zip(moved, entries, strict=True) if several else [(moved, entries)]:
            self.ordered(units, places, field)
        return moved

    def told_apart(self) -> list[tuple[int, Mark]]:
        """Marks of units by the order of their entries, when all joins are known."""
        marks, seen = [], {}
        for operation, field, entries, source, which in self.orders:
            units, source = self.same[field].flatten(), self.same[source]
            code = which * len(source) + ranks(source * (int(which.max()) + 1) + which)
            code = torch.where(source == ZERO, -1, code)[entries.flatten()]
            order = units.argsort(stable=True)
            found, counts = units.unique(return_counts=True)
            for unit, codes in zip(found.tolist(), code[order].split(counts.tolist()), strict=True):
                if unit != ZERO:
                    rank = seen.setdefault(tuple(codes.tolist()), len(seen))
                    marks.append((unit, (operation, ZERO, rank)))
        return marks

    def joint(
        self, shape: Sequence[int], operands: Sequence[tuple[list[Field], Sequence[int]]], zero: Any
    ) -> list[Field]:
        """The fields of what has a `shape` and is made entry by entry of operands, each with its
        fields and its own shape. `zero` is `any` if a zero among factors makes zero, `all` if only
        zeros do.
        """
        wide = [[f.expand(shape) for f in fields] for fields, _ in operands]
        for place, fields in enumerate(wide):
            for other, (_, size) in enumerate(operands):
                known_axes = {axis for f in wide[other] for axis in varies(f)}
                size = [1] * (len(shape) - len(size)) + list(size)
                open_axes = {axis for axis, s in enumerate(size) if s > 1} - known_axes
                for field in fields:
                    if other != place and open_axes & set(varies(field)):
                        self._pin(field, open_axes)
        found: list[Field] = []
        for field in (field for fields in wide for field in fields):
            found = self._merged(found, field, zero)
        return found

    def _pin(self, field: Field, axes: set[int]) -> None:
        """Let units stay where they are along axes, where something stands that does not move."""
        here = set(varies(field))
        if here <= axes:
            self.fix(field)
            return
        for axis in here & axes:
            place = along(torch.arange(field.shape[axis]), axis, field.shape)
            place = place.expand(field.shape)[tuple(slice(n) for n in small(field).shape)]
            self.ordered(field, numbers(field), field, place.flatten())

    def _merged(self, fields: list[Field], field: Field, zero: Any) -> list[Field]:
        """Fields of one tensor with another one. Fields of the same axes become one; where one is
        of some of another's axes, its units are heads of the other's.
        """
        merged = []
        for other in fields:
            here, there = set(varies(field)), set(varies(other))
            if here == there:
                one, two = less(other, field)
                self.join(torch.stack([one.flatten(), two.flatten()], 1))
                either = torch.where(one == ZERO, two, one)
                none = (one == ZERO) | (two == ZERO)
                if zero is any and none.any():
                    self.fix(either[none])
                either = torch.where(none, ZERO, one) if zero is any else either
                if none.any():
                    self.ordered(either, numbers(one).expand(either.shape), one)
                    self.ordered(either, numbers(two).expand(either.shape), two)
                field = either.expand(field.shape)
            elif here & there and (here < there or there < here):
                inner, outer = (other, field) if here < there else (field, other)
                self._nested(inner, outer)
                field = inner
            elif here & there:
                self.fix(field, other)
                merged.append(other)
            else:
                merged.append(other)
        return [*merged, field]

    def _nested(self, inner: Field, outer: Field) -> None:
        """Let units move with those of an outer field, as the entries of heads do."""
        pairs = torch.stack([f.flatten() for f in less(inner, outer)], 1).unique(dim=0)
        if len(pairs[:, 0].unique()) < len(pairs) or ZERO in pairs:
            self.fix(inner, outer)
            return
        self.ordered(inner, numbers(outer), outer)
        for head in pairs[:, 1].unique():
            self.set_apart(pairs[pairs[:, 1] == head, 0], int(head))


def along(units: torch.Tensor, axis: int, shape: Sequence[int]) -> Field:
    """The field of a tensor with these units along an axis."""
    size = [1] * len(shape)
    size[axis] = len(units)
    return units.view(size).expand(*shape)


def small(field: Field) -> Field:
    """A field with one entry along axes of which memory has no more."""
    for axis, (size, stride) in enumerate(zip(field.shape, field.stride(), strict=True)):
        field = field.narrow(axis, 0, 1) if size > 1 and stride == 0 else field
    return field


def varies(field: Field) -> list[int]:
    """The axes along which the units of a field are not all the same."""
    field = small(field)
    sizes = enumerate(field.shape)
    return [a for a, size in sizes if size > 1 and bool((field != field.narrow(a, 0, 1)).any())]


def first(field: Field, axes: Iterable[int]) -> Field:
    """A field with the first entry along each of the axes."""
    for axis in axes:
        field = field.narrow(axis, 0, 1)
    return field


def numbers(field: Field) -> Field:
    """A number for each entry of a field that memory has."""
    once = small(field)
    return torch.arange(once.numel()).view(once.shape).expand(field.shape)


def ranks(units: torch.Tensor) -> torch.Tensor:
    """Which of its unit's entries each entry (n,) is: 0 for the first, and so on."""
    counts = units.unique(return_counts=True)[1].tolist()
    number = torch.cat([torch.arange(count) for count in counts])
    return torch.empty_like(units).scatter_(0, units.argsort(stable=True), number)


def layout(tensor: torch.Tensor) -> tuple:
    """Where in memory the entries of a tensor are."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.storage_offset(), [(size, step) for size, step in steps if size > 1]


def less(one: Field, two: Field) -> tuple[Field, Field]:
    """Two fields of one shape, with one entry along axes of which neither has more in memory."""
    for axis in range(one.dim()):
        if one.stride(axis) == two.stride(axis) == 0:
            one, two = one.narrow(axis, 0, 1), two.narrow(axis, 0, 1)
    return one, two
