"""Networks modulo permutation: units that may change places, and the order that matches another's.

A *unit* is a channel of a layer. Hidden units of a layer may change places, with what leads to them
and from them, and the network computes the same. Units that an addition joins move together, and a
shortcut padded with channels of zeros allows fewer permutations than its layer has channels.
"""

from __future__ import annotations

import operator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import fx, nn

from twophase.errors import RunError
from twophase.training.evaluation import logits
from twophase.training.layer_calls import described, raising
from twophase.training.tensors import named_state, trained

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# What acts on each channel alone, and leaves their order.
ALONE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Identity)
ALONE += (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout)
ALONE_FUNCTIONS = {F.relu, F.gelu, F.silu, torch.relu, torch.tanh, F.max_pool2d, F.avg_pool2d}
ALONE_FUNCTIONS |= {F.dropout}
SUMS = {operator.add, operator.iadd, torch.add}
ZERO = 0  # the unit of a channel that holds zeros

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

    Raises `RunError` if the graph holds anything else than convolutions, linear layers, batch
    norm, pooling, elementwise activations, sums, and shortcuts that are cut or padded.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> units(model).groups  # the hidden layer's, not the logits
    [tensor([1, 2, 3])]
    """
    try:
        graph = fx.Tracer().trace(model.eval())
    except Exception as error:  # whatever the network's own code raises
        where = raising(error) or described(model, "")
        raise _unknown(where, str(error).partition("\n")[0]) from None
    walk = _Walk(dict(model.named_modules()), set(named_state(model)), [ZERO], {})
    channels: dict[fx.Node, Channels] = {}
    for node in graph.nodes:
        channels[node] = walk.after(node, channels)
        if node.op == "output":
            fixed = {walk.joined(unit) for unit in channels[node] or []} | {ZERO}
    axes = {
        key: torch.tensor([walk.joined(unit) for unit in found]) for key, found in walk.axes.items()
    }
    # Units may change places if each axis has all of them, or none.
    where: dict[int, list] = {}
    for key, found in axes.items():
        for unit in found.tolist():
            where.setdefault(unit, []).append(key)
    groups: dict[tuple, list[int]] = {}
    for unit, keys in where.items():
        if unit not in fixed:
            groups.setdefault(tuple(keys), []).append(unit)
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

    def joined(self, unit: int) -> int:
        """The first of the units that move together with this one."""
        while self.same[unit] != unit:
            unit = self.same[unit]
        return unit

    def after(self, node: fx.Node, channels: dict[fx.Node, Channels]) -> Channels:
        """The channels of what a node of the graph computes."""
        if node.op == "placeholder":
            return None
        inputs = [channels[each] for each in node.args if isinstance(each, fx.Node)]
        if node.op == "output" and len(inputs) == 1:
            return inputs[0]
        if node.op == "call_module" and len(inputs) == 1:
            return self._after_module(node, inputs[0])
        if node.target in SUMS and len(inputs) == len(node.args) == 2 and not node.kwargs:
            return self._sum(node, *inputs)
        if len(inputs) == 1 and _keeps_channels(node):
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
        if isinstance(module, ALONE) or (isinstance(module, nn.Flatten) and module.start_dim == 1):
            return inputs
        if isinstance(module, NORMS):
            if inputs is not None and ZERO in inputs:
                raise self._unknown(node)
            for tensor in ("weight", "bias", "running_mean", "running_var"):
                if inputs is not None and getattr(module, tensor) is not None:
                    self._lies(f"{name}.{tensor}", 0, inputs)
            return inputs
        if not isinstance(module, LAYERS) or getattr(module, "groups", 1) > 1:
            raise self._unknown(node)
        outputs = list(range(len(self.same), len(self.same) + len(module.weight)))
        self.same.extend(outputs)
        self._lies(f"{name}.weight", 0, outputs)
        if inputs is not None:
            self._lies(f"{name}.weight", 1, inputs)
        if module.bias is not None:
            self._lies(f"{name}.bias", 0, outputs)
        return outputs

    def _lies(self, tensor: str, axis: int, found: list[int]) -> None:
        """Note the units along an axis. Flattened pixels of a channel follow each other."""
        if (tensor, axis) in self.axes or tensor not in self.tensors:
            raise _unknown(tensor, "is used twice, or computed from others")
        layer, _, attribute = tensor.rpartition(".")
        times, rest = divmod(getattr(self.modules[layer], attribute).shape[axis], len(found))
        if rest:
            raise _unknown(tensor, "mixes channels with pixels")
        self.axes[tensor, axis] = [unit for unit in found for _ in range(times)]

    def _sum(self, node: fx.Node, one: Channels, other: Channels) -> Channels:
        if one is None or other is None or len(one) != len(other):
            raise self._unknown(node)
        for a, b in zip(one, other, strict=True):
            if ZERO not in (a, b):
                first, last = sorted((self.joined(a), self.joined(b)))
                self.same[last] = first
        return [a or b for a, b in zip(one, other, strict=True)]


def _keeps_channels(node: fx.Node) -> bool:
    """Whether a node acts on each channel alone: on axis 0, examples, and 1 it does nothing."""
    if node.op == "call_function" and node.target is operator.getitem:
        whole = slice(None, None, None)
        return isinstance(node.args[1], tuple) and node.args[1][:2] == (whole, whole)
    if node.target in (torch.flatten, "flatten"):
        return node.args[1:] == (1,) and not node.kwargs
    if node.target in (torch.mean, "mean"):
        return node.args[1:] in [((2, 3),), ((-2, -1),), ([2, 3],)] and not node.kwargs
    return node.target in ALONE_FUNCTIONS or (node.op, node.target) == ("call_method", "relu")


def _padded(node: fx.Node, inputs: Channels) -> Channels:
    """The channels after zeros were added on both sides; None if something else was."""
    sizes = list(node.args[1])[4:]  # after those of width and height
    if not any(sizes):
        return inputs
    zeros = node.kwargs == {"mode": "constant", "value": None} and len(node.args) == 2
    if inputs is None or len(sizes) > 2 or not zeros or min(sizes) < 0:
        return None
    return [ZERO] * sizes[0] + inputs + [ZERO] * sizes[1]


def _unknown(what: str, why: str) -> RunError:
    return RunError(f"units cannot be matched: {what}: {why}; do without: `matching: false`")


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
