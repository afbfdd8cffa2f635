"""Gradients of parameters, example by example, from those of the operations that take them."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import nn

from twophase.entk.layers import unfolded
from twophase.entk.network import Misfit
from twophase.entk.operations import Graph, Use, by_example, graph_of, room
from twophase.entk.places import Places, by_one_product, empty
from twophase.entk.plan import Share, Task, linear
from twophase.entk.rules import Convolved, Product, Rule, Scaled, Table, rule_of


class Uses:
    """The operations that take the parameters of `shares`, in a pass over the examples of `part`.

    What they give is left in `found`. Raises `Misfit` if the graph is not that of the first
    examples.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        part: slice,
        task: Task,
        shares: list[Share],
        found: Places,
    ) -> None:
        shares = [share for share in shares if share.operations]
        self.found, self.part = found, part
        self.edges: list[torch.autograd.graph.GradientEdge] = []
        self.by_node: dict[int, list[tuple[Share, Taken, torch.Tensor | None]]] = defaultdict(list)
        self.products: list[tuple[Share, list[Taken], torch.Tensor]] = []
        if not shares:
            return
        graph = graph_of(logits)
        if graph.names != task.names:
            raise Misfit(share.parameter for share in shares)
        for share in shares:
            uses = taken(share, graph, len(logits))
            places: list[torch.Tensor | None] = [None] * len(uses)
            if share.order != "formed" or by_one_product(share):
                stack = _stack(share, uses, part, task, found)
                places = list(stack.split([_sites(each) for each in uses], dim=3))
                if share.order == "formed":
                    self.products.append((share, uses, stack))
            for each, place in zip(uses, places, strict=True):
                self.by_node[each.use.node].append((share, each, place))
        self.edges = [torch.autograd.graph.GradientEdge(graph.nodes[i], 0) for i in self.by_node]

    def add(self, some: slice, gradients: tuple[torch.Tensor | None, ...]) -> None:
        """Take in the gradients (k, ...) of `some` k logits at `edges`."""
        for at, g in zip(self.by_node.values(), gradients, strict=True):
            for share, each, place in at:
                if g is None:
                    if place is not None:
                        place[:, some] = 0
                elif place is not None:
                    place[:, some] = outputs(each, g)[: len(place)].transpose(2, 3)
                else:
                    add_gradients(self.found.of(share, self.part, some), each, g)

    def finish(self) -> None:
        """Form the gradients of products that are not contracted otherwise, for all logits."""
        for share, uses, g in self.products:
            a = torch.cat([each.rule.a[: len(g)] for each in uses], 1)
            gradients = self.found.alone[share.name][self.part].view(len(g), -1, a.shape[2])
            torch.bmm(g.flatten(1, 2), a, out=gradients)


def _sites(each: Taken) -> int:
    if isinstance(each.rule, Table):
        return each.use.size // each.use.shape[1:].numel()
    return each.use.outer * each.use.inner


def _stack(
    share: Share,
    uses: list[Taken],
    part: slice,
    task: Task,
    found: Places,
) -> torch.Tensor:
    """Room for the gradients of products' outputs, (examples, C, O, P). What the products take is
    kept where it is needed later.
    """
    shape, count = share.operations[0].shape, part.stop - part.start
    width = shape[1:].numel() if isinstance(uses[0].rule, Table) else shape[0]
    stack = (task.backwards, width, sum(map(_sites, uses)))
    if share.order == "formed":
        return empty(share.order, found.formed, count, stack)
    a = torch.cat(
        [numbers(each) if isinstance(each.rule, Table) else each.rule.a for each in uses], 1
    )
    return found.keep(share, part, a[:count], stack, share.order)


def _ones(at: torch.Tensor, size: int) -> torch.Tensor:
    """Ones at the numbers `at` (n, P), as (n, P, size); nowhere for -1."""
    places = torch.arange(size, device=at.device)
    return at[..., None] == places


def reached(
    share: Share, a: torch.Tensor, g: torch.Tensor
) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Layer, inputs and output gradients (n, C, O, P) of a share that is to be contracted: of
    linear layers and products without the positions at which no gradient arrives.
    """
    module = share.uses[0][0] if share.uses else None
    if share.operations and share.operations[0].rule is Table:
        kinds, at = a.unique(return_inverse=True)
        a = (_ones(at, len(kinds)) & (kinds >= 0)).to(g)
    if module is None:
        module = linear(a.shape[-1], g.shape[2])
    if share.fewer:
        live = (g != 0).flatten(0, 2).any(0)
        if not live.all():
            live[0] |= not live.any()
            a, g = a.reshape(len(a), -1, a.shape[-1])[:, live], g[..., live]
    return module, a, g


class Taken(NamedTuple):
    """A use in one pass: its rule, and the number of examples that went through it."""

    use: Use
    rule: Rule
    count: int


def taken(share: Share, graph: Graph, count: int) -> list[Taken]:
    """The uses of a parameter in the graph of a pass. Raises `Misfit` if it is not as expected."""
    found = []
    for use in share.operations:
        node = graph.nodes[use.node]
        rule = rule_of(node, use.slot)
        if rule is None or node._input_metadata[0].shape[use.axis] != count * use.outer * use.inner:
            raise Misfit([share.parameter])
        if isinstance(rule, Product):
            rows = by_example(rule.a, 0, use.outer, count)
            rule = Product(rows, rule.left)
        found.append(Taken(use, rule, count))
    return found


def outputs(each: Taken, g: torch.Tensor) -> torch.Tensor:
    """Gradients (k, ...) of a product's output, (n, k, P, O); of the rows of a table that were
    taken, too.
    """
    use, rule, count = each
    if isinstance(rule, Table):
        rows = by_example(g, use.axis + 1, use.outer, count)
        return rows.reshape(count, len(g), -1, use.shape[1:].numel())
    g = g.flatten(1, -3)[:, 0] if g.dim() > 3 else g
    return by_example(g.mT if rule.left else g, 1, use.outer, count)


def numbers(each: Taken) -> torch.Tensor:
    """The rows of a table that were taken, (n, P); -1 where nothing is trained."""
    use, rule, count = each
    found = by_example(rule.numbers, use.axis, use.outer, count).reshape(count, -1)
    return found.masked_fill(found == rule.nowhere, -1) if rule.nowhere >= 0 else found


def add_gradients(place: torch.Tensor, each: Taken, g: torch.Tensor) -> None:
    """Add to `place` (real examples, k, numbers of the parameter) what one use contributes."""
    gradients = _FORMS[type(each.rule)](each, g)[: len(place)]
    source = each.use.source
    if source is None:
        place += gradients
        return
    if (source < 0).any():
        chosen = source >= 0
        source, gradients = source[chosen], gradients[..., chosen]
    place.index_add_(2, source, gradients)


def _scaled(each: Taken, g: torch.Tensor) -> torch.Tensor:
    use, rule, count = each
    if isinstance(rule.factor, torch.Tensor) or rule.factor != 1:
        g = g * rule.factor
    shape = room(use.shape, g.dim() - 1, rule.channels)
    g = by_example(g, use.axis + 1, use.outer, count)
    axes = [axis + 2 for axis, size in enumerate(shape) if size == 1 and g.shape[axis + 2] != 1]
    return (g.sum(axes) if axes else g).reshape(*g.shape[:2], -1)


def _product(each: Taken, g: torch.Tensor) -> torch.Tensor:
    rows = outputs(each, g)
    gradients = torch.bmm(rows.mT.flatten(1, 2), each.rule.a)
    return gradients.view(*rows.shape[:2], -1)


def _table(each: Taken, g: torch.Tensor) -> torch.Tensor:
    rows, at = outputs(each, g), numbers(each)
    size, (count, k, _, width) = each.use.shape[0], rows.shape
    total = rows.new_zeros(count * k * size, width)
    first = size * torch.arange(count * k, device=at.device).view(count, k, 1)
    rows = rows * (at >= 0)[:, None, :, None] if (at < 0).any() else rows
    places = at.clamp(min=0)[:, None] + first
    total.index_add_(0, places.flatten(), rows.flatten(0, 2))
    return total.view(count, k, -1)


def _convolved(each: Taken, several: torch.Tensor) -> torch.Tensor:
    return torch.stack([_convolved_once(each, g) for g in several], 1)


def _convolved_once(each: Taken, g: torch.Tensor) -> torch.Tensor:
    use, (x, geometry, transposed), count = each
    narrow, wide = (x, g) if transposed else (g, x)
    patches = unfolded(geometry, wide)
    narrow = narrow.reshape(len(patches), -1, patches.shape[2])
    gradients = torch.bmm(narrow, patches.transpose(1, 2)).view(len(g), -1)
    return by_example(gradients, 0, use.outer, count).sum(1)


_FORMS = {Scaled: _scaled, Product: _product, Table: _table, Convolved: _convolved}
