"""Which units of a network may change places, from what its operations have done with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from twophase.measures._labels import ZERO, Labels, Mark


class Units(NamedTuple):
    """The units of a network, by number.

    `axes`: by tensor and axis, the unit of each place along it (size,), where any may move.
    `groups`: the units, those together that may change places with each other. `heads`: sets of
    groups that may change places as a whole, such as attention's: of each set for each kind of
    group, such as values, the units (heads, size). `count`: how many numbers there are.
    """

    axes: dict[tuple[str, int], torch.Tensor]
    groups: list[torch.Tensor]
    heads: list[list[torch.Tensor]]
    count: int


def grouped(labels: Labels) -> Units:
    """Units may change places if each axis has all of them, or none, and each operation takes them
    as one set; heads, if all their units have counterparts.
    """
    heads = _heads(labels)
    same = labels.same.tolist()
    fixed = {same[unit] for unit in labels.fixed} | {u for u, head in heads.items() if u == head}
    outer, marks = {*heads.values()}, {}
    for unit, mark in [*labels.marks, *labels.told_apart()]:
        marks.setdefault(same[unit], []).append(mark)
    alike: dict[tuple, list[int]] = {}
    for unit, own in sorted(marks.items()):
        if unit not in fixed and unit not in outer:
            alike.setdefault((heads.get(unit), tuple(sorted(own, key=str))), []).append(unit)
    sets = _sets(alike, heads, marks, fixed, same)
    moving = {unit for group in alike.values() for unit in group}
    moving |= {unit for kinds in sets for kind in kinds for head in kind for unit in head}
    axes = {key: [same[unit] for unit in units.tolist()] for key, units in labels.axes.items()}
    axes = {key: units for key, units in axes.items() if moving & {*units}}
    # Numbers without gaps, in the order of the network.
    used = sorted((moving | {unit for units in axes.values() for unit in units}) - {ZERO})
    number = {ZERO: ZERO} | {unit: place + 1 for place, unit in enumerate(used)}

    def numbers(units: list[int]) -> torch.Tensor:
        return torch.tensor([number[unit] for unit in units])

    return Units(
        {key: numbers(units) for key, units in axes.items()},
        [numbers(group) for group in alike.values()],
        [[torch.stack([*map(numbers, kind)]) for kind in kinds] for kinds in sets],
        len(number),
    )


def _heads(labels: Labels) -> dict[int, int]:
    """The head that each unit moves with. Heads of units that move together do so, too."""
    while True:
        same, heads, joint = labels.same.tolist(), {}, []
        for unit, head in labels.heads:
            known = heads.setdefault(same[unit], same[head])
            if known != same[head]:
                joint.append((known, same[head]))
        if not joint:
            return heads
        labels.join(torch.tensor(joint))


def _sets(
    alike: dict[tuple, list[int]],
    heads: dict[int, int],
    marks: dict[int, list[Mark]],
    fixed: set[int],
    same: list[int],
) -> list[list[list[list[int]]]]:
    """Sets of heads that may change places: of each, for each kind of unit, those of each head."""

    def kind(own: Iterable[Mark], head: int) -> tuple:
        """Marks that are those of the counterparts in another head, too."""
        its = [
            (m, -1) if isinstance(m, int) and same[n] == head else (m, n, *k) for m, n, *k in own
        ]
        return tuple(sorted(its, key=str))

    # Heads within heads stay, and those of which a unit stays.
    stay = {head for unit, head in heads.items() if {unit, head} & fixed or head in heads}
    members: dict[int, dict[Any, list[int]]] = {}
    for (head, own), units in alike.items():
        if head is not None:
            kinds = members.setdefault(head, {})
            if kinds.setdefault(kind(own, head), units) is not units:
                stay.add(head)  # which of the two is whose counterpart?
    counterparts: dict[tuple, list[int]] = {}
    for head, kinds in members.items():
        own = marks.get(head, [])
        if head not in stay:
            sizes = sorted(((key, len(units)) for key, units in kinds.items()), key=str)
            sizes.append(("itself", kind(own, head)))
            counterparts.setdefault(tuple(sizes), []).append(head)
        if any(isinstance(mark[0], str) for mark in own):
            kinds["itself"] = [head]  # it stands on axes, too
    return [
        [[members[head][key] for head in found] for key in members[found[0]]]
        for found in counterparts.values()
        if len(found) > 1
    ]
