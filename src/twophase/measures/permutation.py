"""Networks modulo permutation: units that may change places, and the order that matches another's.

A *unit* is a channel of a layer. Hidden units of a layer may change places, with what leads to them
and from them, and the network computes the same. Units that an addition joins move together, and a
shortcut padded with channels of zeros allows fewer permutations than its layer has channels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from twophase.errors import RunError
from twophase.measures._groups import Units, grouped
from twophase.measures._labels import Labels, Unknown
from twophase.measures._operations import after
from twophase.training.attention import plain_attention
from twophase.training.evaluation import logits
from twophase.training.layer_calls import described, raising
from twophase.training.tensors import named_state, trained


@torch.no_grad()
def units(model: nn.Module, images: torch.Tensor) -> Units:
    """The units of a network, read off what it computes of images or other examples (n, ...).

    It may be made of linear layers, convolutions, embeddings, norms, pooling, attention, sums,
    products and functions of single entries, in any spelling, with weights that are tied or used
    again. Units of a group norm may change places within their group; those behind a depthwise
    convolution move with those before it, and what leads into another grouped one stays where it
    is. Heads of attention may change places, and within a head its values, and its keys and queries
    together. Units to which something is added that does not move, such as fixed positions, stay.

    Raises `Unmatched` if the network does anything else with them.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> units(model, torch.rand(2, 1, 2, 2)).groups  # the hidden layer's, not the logits
    [tensor([1, 2, 3])]
    """
    images = images.cpu()
    try:
        # Where masks are kept beside weights a network cannot be copied.
        model = model.eval() if _on_cpu(model) else copy.deepcopy(model).cpu().eval()
        labels = Labels(images, _tensors(model), after)
        with plain_attention(), _plain_recurrence(), labels:
            out = model(images)
    except Unknown as error:
        where = raising(error) or described(model, "")
        raise _unknown(where, f"what `{error}` does to units is not known") from None
    except Exception as error:  # whatever the network's own code raises
        where = raising(error) or described(model, "")
        raise _unknown(where, str(error).partition("\n")[0]) from None
    labels.fix(*(labels.of(out) or []))
    found = grouped(labels)
    if not found.groups:
        raise _unknown(described(model, ""), "has no hidden units")
    return found


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
    >>> before, found = model[1].weight.detach().clone(), units(model, torch.rand(2, 1, 1, 1))
    >>> permute(model, found, torch.tensor([0, 2, 1]))
    >>> torch.equal(model[1].weight, before.flip(0))
    True
    """
    for name, tensor in named_state(model).items():
        tensor.copy_(_permuted(name, tensor, found, places))


def _on_cpu(model: nn.Module) -> bool:
    return all(tensor.device.type == "cpu" for tensor in _tensors(model).values())


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers themselves, by the names of `named_state`."""
    found: dict[torch.Tensor, str] = {}
    for prefix, module in model.named_modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                found.setdefault(tensor, f"{prefix}.{name}".lstrip("."))
    return {name: tensor for tensor, name in found.items()}


@contextmanager
def _plain_recurrence() -> Iterator[None]:
    """Recurrent layers by matrix products within the block, not by a library's fused operation."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def shuffled(found: Units, seed: int = 0) -> torch.Tensor:
    """Random places (count,) at which a network computes the same.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2))
    >>> shuffled(units(model, torch.rand(2, 1, 2, 2))).sort().values
    tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    generator, places = torch.Generator().manual_seed(seed), torch.arange(found.count)
    for group in found.groups:
        places[group] = group[torch.randperm(len(group), generator=generator)]
    for kinds in found.heads:
        order = torch.randperm(len(kinds[0]), generator=generator)
        for kind in kinds:
            places[kind] = places[kind[order]]
    return places


def _rolled(found: Units) -> torch.Tensor:
    """Places (count,) that move each unit and head that may move."""
    places = torch.arange(found.count)
    for group in found.groups:
        places[group] = group.roll(1)
    for kinds in found.heads:
        for kind in kinds:
            places[kind] = places[kind.roll(1, 0)]
    return places


def check_units(model: nn.Module, found: Units, images: torch.Tensor) -> None:
    """Raise `Unmatched` unless the network, which is left permuted at random, computes the same
    after each of seven permutations as before: one moves each unit, six are random.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> images = torch.rand(5, 1, 2, 2)
    >>> check_units(model, units(model, images), images)
    """
    before = logits(model, images)
    for places in (_rolled(found), *(shuffled(found, seed) for seed in range(6))):
        permute(model, found, places)
        if not (logits(model, images) - before).abs().max() <= 1e-3 * before.abs().max():
            raise _unknown(described(model, ""), "computes something else with its units permuted")


def moved(found: Units, places: torch.Tensor) -> float:
    """Share of the hidden units that `places` (count,) moves.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    >>> found = units(model, torch.rand(2, 1, 1, 1))
    >>> moved(found, torch.tensor([0, 2, 1])), moved(found, torch.arange(3))
    (1.0, 0.0)
    """
    hidden = torch.cat([*found.groups, *(k.flatten() for kinds in found.heads for k in kinds)])
    hidden = hidden.unique()
    return float((places[hidden] != hidden).double().mean())


@torch.no_grad()
def weight_matching(
    one: nn.Module, other: nn.Module, found: Units, sweeps: int, seed: int = 0
) -> torch.Tensor:
    """Where each unit of `one` finds its match in `other`: `places` (count,) for `permute`.

    Weight matching of Ainsworth et al. 2023 (Git Re-Basin, arXiv 2209.04836), algorithm 1: group
    by group, in random order, the permutation with the largest inner product of the parameters of
    `one` and of `other` permuted, all other groups held; over and over until none changes, at most
    `sweeps` times. Heads change places with the best permutation within each pair of them. It
    starts from no permutation. It ends in a local maximum, unless a parameter has the units that a
    step moves on two axes, as recurrent weights have, or their heads on one: the sum that a step
    raises takes one axis at a time, so that the inner product itself may fall. Units whose
    parameters are not finite stay where they are.

    >>> one = nn.Sequential(nn.Flatten(), nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> other, found = copy.deepcopy(one), units(one, torch.rand(2, 1, 1, 1))
    >>> permute(other, found, torch.tensor([0, 3, 1, 2]))
    >>> permute(other, found, weight_matching(one, other, found, sweeps=10))
    >>> torch.equal(other[1].weight, one[1].weight)
    True
    """
    ours, theirs = ({n: p.double() for n, p in trained(m).items()} for m in (one, other))
    places, rng = torch.arange(found.count), np.random.default_rng(seed)
    within = {int(unit) for kinds in found.heads for kind in kinds for unit in kind.flatten()}
    free = [[group[None]] for group in found.groups if int(group[0]) not in within]
    for _ in range(sweeps):
        before = places.clone()
        for index in rng.permutation(len(free) + len(found.heads)):
            kinds = [*free, *found.heads][index]
            gains = [_gains(kind.flatten(), ours, theirs, found, places) for kind in kinds]
            gains = [each.cpu().numpy() for each in gains]
            if not all(np.isfinite(each).all() for each in gains):
                continue
            now = sum(
                each[range(len(each)), _at(places[kind.flatten()], kind.flatten())].sum()
                for each, kind in zip(gains, kinds, strict=True)
            )
            reached, best = _best(gains, [len(kind) for kind in kinds])
            # Not for rounding's sake, or equal units would change places for ever.
            if reached - now > 1e-9 * max(np.abs(each).max() for each in gains):
                for kind, order in zip(kinds, best, strict=True):
                    places[kind.flatten()] = kind.flatten()[torch.from_numpy(order)]
        if torch.equal(places, before):
            break
    return places


def _at(units: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    """Where each of the units (n,) stands among others (m,)."""
    order = among.argsort()
    return order[torch.searchsorted(among[order], units)]


def _best(gains: list[np.ndarray], heads: list[int]) -> tuple[float, list[np.ndarray]]:
    """The largest sum of gains, one (m, m) for each kind of unit, if heads change places, as many
    of each kind, and units within them; and where each unit then finds its match.
    """
    number = heads[0]
    totals = np.zeros((number, number))
    orders = [[[None] * number for _ in range(number)] for _ in gains]
    for kind, gain in enumerate(gains):
        size = len(gain) // number
        for a, b in np.ndindex(number, number):
            block = gain[a * size : (a + 1) * size, b * size : (b + 1) * size]
            rows, order = linear_sum_assignment(block, maximize=True)
            totals[a, b] += block[rows, order].sum()
            orders[kind][a][b] = b * size + order
    rows, chosen = linear_sum_assignment(totals, maximize=True)
    best = [np.concatenate([each[a][b] for a, b in enumerate(chosen)]) for each in orders]
    return totals[rows, chosen].sum(), best


def _gains(
    group: torch.Tensor, ours: dict, theirs: dict, found: Units, places: torch.Tensor
) -> torch.Tensor:
    """Inner products (m, m) of what leads to and from each unit of a group in two networks."""
    total = torch.zeros(len(group), len(group), dtype=torch.float64)
    place = torch.full((found.count,), -1)
    place[group] = torch.arange(len(group))
    for (name, axis), labels in found.axes.items():
        at = place[labels].argsort(stable=True)
        at = at[place[labels[at]] >= 0]
        if name in ours and len(at):
            pair = ours[name], _permuted(name, theirs[name], found, places, but=axis)
            at = at.to(pair[0].device)
            a, b = (t.movedim(axis, 0)[at].reshape(len(group), -1) for t in pair)
            total = total.to(a.device) + a @ b.T
    return total
