"""Networks modulo permutation: units that may change places, and the order that matches another's.

A *unit* is a channel of a layer. Hidden units of a layer may change places, with what leads to them
and from them, and the network computes the same. Units that an addition joins move together, and a
shortcut padded with channels of zeros allows fewer permutations than its layer has channels.
"""

from __future__ import annotations

from operator import getitem
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import fx, nn

from twophase.errors import RunError
from twophase.measures import _channels as known
from twophase.training.evaluation import logits
from twophase.training.layer_calls import described, raising
from twophase.training.tensors import named_state, trained

ZERO = 0  # the unit of a channel that holds zeros
# What gives zeros for zeros, of the functions that networks with such channels use.
KEEP_ZERO = {F.relu, F.gelu, F.silu, torch.relu, torch.tanh, F.max_pool2d, F.avg_pool2d, F.dropout}
KEEP_ZERO |= {torch.flatten, torch.mean, "relu", "tanh", "flatten", "mean", "view", "reshape"}

Channels = list[int] | None  # the unit of each channel; None for the network's images


class Units(NamedTuple):
    """The units of a network, by number.

    `axes`: by tensor and axis, the unit of each place along it (size,), for all but the images'
    channels. `groups`: the hidden units, those together that may change places with each other.
    `count`: how many numbers there are.
    """

    axes: dict[tuple[str, int], torch.Tensor]
    groups: list[torch.Tensor]
    count: int


def units(model: nn.Module) -> Units:
    """The units of a network, read off its graph (torch.fx).

    It may hold convolutions, linear layers, batch, instance and group norm, pooling, elementwise
    layers and functions, sums and products, and shortcuts that are cut or padded. Units of a group
    norm may change places within their group; those behind a depthwise convolution move with those
    before it, and what leads into another grouped one stays where it is.

    Raises `Unmatched` if the graph holds anything else.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> units(model).groups  # the hidden layer's, not the logits
    [tensor([1, 2, 3])]
    """
    try:
        graph = fx.Tracer().trace(model.eval())
    except Exception as error:  # whatever the network's own code raises
        where = raising(error) or described(model, "")
        raise _unknown(where, str(error).partition("\n")[0]) from None
    walk = _Walk(dict(model.named_modules()), set(named_state(model)), [ZERO], {}, {}, set())
    channels: dict[fx.Node, Channels] = {}
    for node in graph.nodes:
        channels[node] = walk.after(node, channels)
        if node.op == "output":
            walk.fixed.update(channels[node] or [], [ZERO])
    fixed = {walk.joined(unit) for unit in walk.fixed}
    axes = {
        key: torch.tensor([walk.joined(unit) for unit in found]) for key, found in walk.axes.items()
    }
    # Units may change places if each axis has all of them, or none.
    where: dict[int, list] = {}
    for key, found in axes.items():
        for unit in found.tolist():
            where.setdefault(unit, []).append(key)
    for unit, marks in walk.apart.items():
        where.setdefault(walk.joined(unit), []).extend(marks)
    groups: dict[tuple, list[int]] = {}
    for unit, keys in where.items():
        if unit not in fixed:
            groups.setdefault(tuple(sorted(keys, key=str)), []).append(unit)
    if not groups:
        raise _unknown(described(model, ""), "has no hidden units")
    found = [torch.tensor(sorted(group)) for group in groups.values()]
    return Units(axes, found, len(walk.same))


class _Walk(NamedTuple):
    """What is known of a network's units after a part of its graph."""

    modules: dict[str, nn.Module]
    tensors: set[str]
    same: list[int]  # an earlier unit that each moves together with, or itself
    axes: dict[tuple[str, int], list[int]]
    apart: dict[int, list[tuple[str, int]]]  # marks of a unit: others may differ, and stay apart
    fixed: set[int]  # units that stay where they are

    def joined(self, unit: int) -> int:
        """The first of the units that move together with this one."""
        while self.same[unit] != unit:
            unit = self.same[unit]
        return unit

    def after(self, node: fx.Node, channels: dict[fx.Node, Channels]) -> Channels:
        """The channels of what a node of the graph computes."""
        if node.op == "placeholder":
            return None
        if known.is_value(node):
            return None
        tensors = [each for each in node.all_input_nodes if not known.is_value(each)]
        inputs = [channels[each] for each in tensors]
        if node.op == "output" and len(inputs) == 1:
            return inputs[0]
        if node.op == "call_module" and len(inputs) == 1:
            return self._after_module(node, inputs[0])
        pair = [channels[each] for each in node.args if each in tensors]
        joint = known.SUMS | known.PRODUCTS
        if len(pair) == len(node.args) == 2 and node.target in joint and not node.kwargs:
            return self._joint(node, *pair, product=node.target in known.PRODUCTS)
        if len(inputs) == 1 and known.keeps(node):
            moves = inputs[0] is not None and ZERO in inputs[0] and not _keeps_zero(node)
            if not moves:
                return inputs[0]
        if node.target is F.pad and len(inputs) == 1 and (padded := _padded(node, inputs[0])):
            return padded
        raise self._unknown(node)

    def _unknown(self, node: fx.Node) -> RunError:
        """A refusal that names the layer whose code has this node."""
        layers = [name for name, _ in node.meta.get("nn_module_stack", {}).values()]
        where = described(self.modules[""], layers[-1] if layers else "")
        return _unknown(where, f"what `{node.name}` does to channels is not known")

    def _after_module(self, node: fx.Node, inputs: Channels) -> Channels:
        name = str(node.target)
        module = self.modules[name]
        if isinstance(module, known.ALONE) or (
            isinstance(module, nn.Flatten) and module.start_dim == 1
        ):
            if inputs and ZERO in inputs and not isinstance(module, known.KEEP_ZERO_LAYERS):
                raise self._unknown(node)
            return inputs
        if isinstance(module, nn.PReLU):
            if len(module.weight) > 1 and inputs is not None:
                self._lies(f"{name}.weight", 0, inputs)
            return inputs
        if isinstance(module, (*known.NORMS, nn.GroupNorm)):
            if inputs is not None and ZERO in inputs:
                raise self._unknown(node)
            for tensor in ("weight", "bias", "running_mean", "running_var"):
                if inputs is not None and getattr(module, tensor, None) is not None:
                    self._lies(f"{name}.{tensor}", 0, inputs)
            if isinstance(module, nn.GroupNorm) and inputs is not None:
                self._keep_apart(name, inputs, module.num_groups)
            return inputs
        if not isinstance(module, known.LAYERS):
            raise self._unknown(node)
        if getattr(module, "groups", 1) > 1:
            return self._grouped(node, module, inputs)
        outputs = self._new(name, module)
        if inputs is not None:
            self._lies(f"{name}.weight", 1, inputs)
        return outputs

    def _new(self, name: str, module: nn.Module, outputs: Channels = None) -> list[int]:
        """The channels that a layer gives: units of its own, unless they are others'."""
        if outputs is None:
            outputs = list(range(len(self.same), len(self.same) + len(module.weight)))
            self.same.extend(outputs)
        self._lies(f"{name}.weight", 0, outputs)
        if module.bias is not None:
            self._lies(f"{name}.bias", 0, outputs)
        return outputs

    def _grouped(self, node: fx.Node, module: nn.Module, inputs: Channels) -> list[int]:
        """The channels behind a grouped convolution: behind a depthwise one those before it."""
        name = str(node.target)
        if inputs is not None and ZERO in inputs:
            raise self._unknown(node)
        if inputs is not None and module.groups == module.in_channels:
            times = module.out_channels // module.in_channels
            return self._new(name, module, [unit for unit in inputs for _ in range(times)])
        self.fixed.update(inputs or [])
        outputs = self._new(name, module)
        self._keep_apart(name, outputs, module.groups)
        return outputs

    def _keep_apart(self, name: str, found: list[int], groups: int) -> None:
        """Let units change places within each of the groups that lie one after another only."""
        size = len(found) // groups
        for place, unit in enumerate(found):
            self.apart.setdefault(unit, []).append((name, place // size))

    def _lies(self, tensor: str, axis: int, found: list[int]) -> None:
        """Note the units along an axis. Flattened pixels of a channel follow each other."""
        if (tensor, axis) in self.axes or tensor not in self.tensors:
            raise _unknown(tensor, "is used twice, or computed from others")
        layer, _, attribute = tensor.rpartition(".")
        times, rest = divmod(getattr(self.modules[layer], attribute).shape[axis], len(found))
        if rest:
            raise _unknown(tensor, "mixes channels with pixels")
        self.axes[tensor, axis] = [unit for unit in found for _ in range(times)]

    def _joint(
        self, node: fx.Node, one: Channels, other: Channels, product: bool = False
    ) -> Channels:
        """The channels of a sum or product: units that stand at one place move together."""
        if one is None or other is None or len(one) != len(other):
            raise self._unknown(node)
        for a, b in zip(one, other, strict=True):
            if ZERO not in (a, b):
                first, last = sorted((self.joined(a), self.joined(b)))
                self.same[last] = first
        if product:
            return [a and b for a, b in zip(one, other, strict=True)]
        return [a or b for a, b in zip(one, other, strict=True)]


def _keeps_zero(node: fx.Node) -> bool:
    """Whether what a node does to channels of zeros is known to give zeros."""
    return node.target in KEEP_ZERO or node.op == "call_function" and node.target is getitem


def _padded(node: fx.Node, inputs: Channels) -> Channels:
    """The channels after zeros were added on both sides; None if something else was."""
    sizes = list(node.args[1])[4:]  # after those of width and height
    if not any(sizes):
        return inputs
    zeros = node.kwargs == {"mode": "constant", "value": None} and len(node.args) == 2
    if inputs is None or len(sizes) > 2 or not zeros or min(sizes) < 0:
        return None
    return [ZERO] * sizes[0] + inputs + [ZERO] * sizes[1]


class Unmatched(RunError):
    """Which units of a network may change places is not known."""


def _unknown(what: str, why: str) -> Unmatched:
    return Unmatched(f"units cannot be matched: {what}: {why}; do without: `matching: false`")


def _order(labels: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Which place along an axis each place takes its entries from, if unit u takes those of unit
    `places[u]`.
    """
    order = torch.empty_like(labels)
    order[places[labels].argsort(stable=True)] = labels.argsort(stable=True)
    return order


def _permuted(
    name: str, tensor: torch.Tensor, found: Units, places: torch.Tensor, but: int | None = None
) -> torch.Tensor:
    """The tensor called `name` with its units at their places, along all axes `but` one."""
    for (other, axis), labels in found.axes.items():
        if other == name and axis != but:
            tensor = tensor.index_select(axis, _order(labels, places).to(tensor.device))
    return tensor


@torch.no_grad()
def permute(model: nn.Module, found: Units, places: torch.Tensor) -> None:
    """Give unit u what leads to and from unit `places[u]`, in place; buffers move along.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    >>> before, found = model[1].weight.detach().clone(), units(model)
    >>> permute(model, found, torch.tensor([0, 2, 1, 3, 4]))
    >>> torch.equal(model[1].weight, before.flip(0))
    True
    """
    for name, tensor in named_state(model).items():
        tensor.copy_(_permuted(name, tensor, found, places))


def check_units(model: nn.Module, found: Units, images: torch.Tensor) -> None:
    """Raise `RunError` unless the network, which is left permuted at random, computes the same
    after it as before: its graph does not show hooks.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> check_units(model, units(model), torch.rand(5, 1, 2, 2))
    """
    before, generator = logits(model, images), torch.Generator().manual_seed(0)
    places = torch.arange(found.count)
    for group in found.groups:
        places[group] = group[torch.randperm(len(group), generator=generator)]
    permute(model, found, places)
    if not (logits(model, images) - before).abs().max() <= 1e-3 * before.abs().max():
        raise _unknown(described(model, ""), "computes something else with its units permuted")


def moved(found: Units, places: torch.Tensor) -> float:
    """Share of the hidden units that `places` (count,) moves.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    >>> moved(units(model), torch.tensor([0, 2, 1, 3, 4])), moved(units(model), torch.arange(5))
    (1.0, 0.0)
    """
    hidden = torch.cat(found.groups)
    return float((places[hidden] != hidden).double().mean())


@torch.no_grad()
def weight_matching(
    one: nn.Module, other: nn.Module, found: Units, sweeps: int, seed: int = 0
) -> torch.Tensor:
    """Where each unit of `one` finds its match in `other`: `places` (count,) for `permute`.

    Weight matching of Ainsworth et al. 2023 (Git Re-Basin, arXiv 2209.04836), algorithm 1: group
    by group, in random order, the permutation with the largest inner product of the parameters of
    `one` and of `other` permuted, all other groups held; over and over until none changes, at most
    `sweeps` times. It starts from no permutation, and ends in a local maximum. Units whose
    parameters are not finite stay where they are.

    >>> import copy
    >>> one = nn.Sequential(nn.Flatten(), nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> other, found = copy.deepcopy(one), units(one)
    >>> permute(other, found, torch.tensor([0, 3, 1, 2, 4, 5]))
    >>> permute(other, found, weight_matching(one, other, found, sweeps=10))
    >>> torch.equal(other[1].weight, one[1].weight)
    True
    """
    ours, theirs = ({n: p.double() for n, p in trained(m).items()} for m in (one, other))
    places, rng = torch.arange(found.count), np.random.default_rng(seed)
    for _ in range(sweeps):
        before = places.clone()
        for index in rng.permutation(len(found.groups)):
            group = found.groups[index]
            gains = _gains(group, ours, theirs, found, places).cpu().numpy()
            if not np.isfinite(gains).all():
                continue
            rows, best = linear_sum_assignment(gains, maximize=True)
            now = torch.searchsorted(group, places[group]).numpy()
            # Not for rounding's sake, or equal units would change places for ever.
            if gains[rows, best].sum() - gains[rows, now].sum() > 1e-9 * np.abs(gains).max():
                places[group] = group[torch.from_numpy(best)]
        if torch.equal(places, before):
            break
    return places


def _gains(
    group: torch.Tensor, ours: dict, theirs: dict, found: Units, places: torch.Tensor
) -> torch.Tensor:
    """Inner products (m, m) of what leads to and from each unit of a group in two networks."""
    total = torch.zeros(len(group), len(group), dtype=torch.float64)
    for (name, axis), labels in found.axes.items():
        at = labels.argsort(stable=True)
        at = at[torch.isin(labels[at], group)]
        if name in ours and len(at):
            pair = ours[name], _permuted(name, theirs[name], found, places, but=axis)
            at = at.to(pair[0].device)
            a, b = (t.movedim(axis, 0)[at].reshape(len(group), -1) for t in pair)
            total = total.to(a.device) + a @ b.T
    return total
