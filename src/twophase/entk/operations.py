"""Which operations take a parameter, through which views of it, and which of their numbers belong
to which example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from twophase.entk.network import gradients_of
from twophase.entk.rules import Node, Product, Rule, Scaled, Table, rule_of

Chain = tuple[tuple[int, int, int], ...]  # number of the node, its output and its input


class Use(NamedTuple):
    """One operation on numbers of the examples that takes a parameter. Nodes of the graph are known
    by their number in the order of `nodes_of`.
    """

    node: int
    slot: int
    axis: int  # of the output: the one that holds the examples, ...
    outer: int  # ... as so many blocks of all examples
    inner: int  # times so many numbers of each
    shape: torch.Size  # of what the operation takes: the parameter, or a view of it
    source: torch.Tensor | None  # numbers of its entries in the parameter, -1: in none; None: same
    rule: type
    seen: int  # positions of an example at which a gradient arrives
    size: int  # numbers of the output, for each example


class Graph(NamedTuple):
    """Nodes behind the logits in a fixed order, by number, and how many outputs each has."""

    nodes: list[Node]
    number: dict[Node, int]

    @property
    def names(self) -> tuple[str, ...]:
        """What each node is."""
        return tuple(node.name() for node in self.nodes)


def graph_of(logits: torch.Tensor) -> Graph:
    """The graph behind `logits`."""
    nodes: list[Node] = []
    number: dict[Node, int] = {}
    todo = [logits.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in number:
            continue
        number[node] = len(nodes)
        nodes.append(node)
        todo += [child for child, _ in reversed(node.next_functions)]
    return Graph(nodes, number)


def by_example(tensor: torch.Tensor, axis: int, outer: int, count: int) -> torch.Tensor:
    """`tensor` with the examples first, and what else its axis holds where that axis was."""
    parts = tensor.unflatten(axis, (outer, count, -1)).movedim(axis + 1, 0)
    return parts.flatten(axis + 1, axis + 2)


def operations(
    two: torch.Tensor, three: torch.Tensor, parameters: Mapping[str, nn.Parameter]
) -> tuple[tuple[str, ...], dict[str, list[Use]]]:
    """The names of the nodes behind the logits of two and of three examples, and the uses of those
    `parameters` that have a rule in each.

    Operations on numbers of the examples are those whose output grows with their number. Which of
    its numbers belong to which example is told by the gradients of single examples' logits.
    """
    graph, fewer = graph_of(three), graph_of(two)
    if graph.names != fewer.names:
        return (), {}
    grown = [_axis(*pair) for pair in zip(graph.nodes, fewer.nodes, strict=True)]
    above: list[list[tuple[int, int, int]]] = [[] for _ in graph.nodes]
    leaves = {}
    for index, node in enumerate(graph.nodes):
        for slot, (child, output) in enumerate(node.next_functions):
            if child is not None:
                above[graph.number[child]].append((index, output, slot))
                leaves[getattr(child, "variable", None)] = graph.number[child]
    found = {}
    for name, parameter in parameters.items():
        walks = _walks(leaves[parameter], above, grown) if parameter in leaves else None
        uses = [_use(graph, parameter, three.dtype, grown, *walk) for walk in walks or ()]
        if uses and all(uses):
            found[name] = uses
    return graph.names, _placed(found, graph, three)


def _axis(node: Node, fewer: Node) -> int | None:
    """The axis of the output that grows from two examples to three, -1 if none does, None if
    neither is clear.
    """
    shapes = [[tuple(each.shape) for each in one._input_metadata] for one in (node, fewer)]
    if shapes[0] == shapes[1]:
        return -1
    if len(shapes[0]) != len(shapes[1]) or len(shapes[0][0]) != len(shapes[1][0]):
        return None
    axes = [axis for axis, size in enumerate(shapes[0][0]) if size != shapes[1][0][axis]]
    if len(axes) != 1 or 2 * shapes[0][0][axes[0]] != 3 * shapes[1][0][axes[0]]:
        return None
    return axes[0]


def _walks(
    leaf: int, above: list[list[tuple[int, int, int]]], grown: list[int | None]
) -> list[tuple[Chain, int, int]] | None:
    """All ways from a parameter to operations on numbers of the examples: the nodes between, the
    operation, and the slot in which it takes the parameter. None if a way is lost.
    """
    found: list[tuple[Chain, int, int]] = []
    todo: list[tuple[Chain, int]] = [((), leaf)]
    while todo:
        chain, at = todo.pop()
        for index, output, slot in above[at]:
            if grown[index] is None or len(chain) > 30 or len(found) > 10_000:
                return None
            between = chain if not chain else (*chain[:-1], (*chain[-1][:1], output, chain[-1][2]))
            if grown[index] >= 0:
                found.append((between, index, slot))
            else:
                todo.append(((*between, (index, 0, slot)), index))
    return found


def _use(
    graph: Graph,
    parameter: nn.Parameter,
    dtype: torch.dtype,
    grown: list[int | None],
    chain: Chain,
    at: int,
    slot: int,
) -> Use | None:
    """What one way leads to, if there is a rule for it."""
    node, axis = graph.nodes[at], grown[at]
    rule = rule_of(node, slot)
    shape = parameter.shape
    if chain:
        last, output, _ = chain[-1]
        shape = torch.Size(graph.nodes[last]._input_metadata[output].shape)
    source = _source(graph.nodes, parameter, chain, shape) if chain else None
    if rule is None or (chain and source is None) or node._input_metadata[0].dtype != dtype:
        return None
    out = torch.Size(node._input_metadata[0].shape)
    if isinstance(rule, Product):
        shape, source, axis = _natural(rule, shape, source, axis, len(out))
    if axis is None or not _fits(rule, shape, out, axis):
        return None
    if source is not None and torch.equal(source, torch.arange(parameter.numel()).to(source)):
        source = None
    size = out.numel() // 3
    return Use(at, slot, axis, 1, out[axis] // 3, shape, source, type(rule), size, size)


def _fits(rule: Rule, shape: torch.Size, out: torch.Size, axis: int) -> bool:
    """Whether the examples lie in that axis of an output where the rule can tell them apart."""
    if isinstance(rule, Table):
        return axis < rule.numbers.dim()
    if isinstance(rule, Scaled):
        return _lies(shape, out, axis, rule.channels)
    return isinstance(rule, Product) or axis == 0


def _natural(
    rule: Product, shape: torch.Size, source: torch.Tensor | None, axis: int, dims: int
) -> tuple[torch.Size, torch.Tensor | None, int | None]:
    """Shape and entries of a matrix as (outputs, inputs), and the axis that holds the examples."""
    rows = dims - 1 if rule.left else dims - 2
    if axis != rows:
        return shape, source, None
    shape = shape[-2:]
    if rule.left:
        return shape, source, axis
    if source is None:
        source = torch.arange(shape.numel(), device=rule.a.device)
    return torch.Size((shape[1], shape[0])), source.view(shape).T.flatten(), axis


def room(shape: torch.Size, dims: int, channels: bool) -> torch.Size:
    """`shape` with as many axes as the output has."""
    if channels:
        shape = torch.Size((1, *shape, *[1] * (dims - 2)))
    return torch.Size((*[1] * (dims - len(shape)), *shape))


def _lies(shape: torch.Size, out: torch.Size, axis: int, channels: bool) -> bool:
    """Whether `shape` lies along the axes of the output."""
    shape = room(shape, len(out), channels)
    whole = [size // 3 if place == axis else size for place, size in enumerate(out)]
    return len(shape) == len(out) and all(
        own in (1, size) for own, size in zip(shape, whole, strict=True)
    )


def _source(
    nodes: list[Node], parameter: nn.Parameter, chain: Chain, shape: torch.Size
) -> torch.Tensor | None:
    """Which entry of `parameter` each entry of a view of it is, -1 for none; None if the nodes of
    `chain` do more than to choose.

    Autograd's own nodes are asked: they map gradients of the view to those of the parameter. The
    transpose of that map is applied to the entries' numbers, digit by digit.
    """

    def back(view: torch.Tensor) -> torch.Tensor:
        for index, output, slot in reversed(chain):
            gradients: list[Any] = [None] * len(nodes[index]._input_metadata)
            gradients[output] = view
            found = nodes[index](*gradients)
            view = found[slot] if isinstance(found, tuple) else found
        return view

    if all(nodes[index].name() == "TBackward0" for index, *_ in chain):
        turned = len(chain) % 2
        numbers = torch.arange(parameter.numel(), device=parameter.device).view(parameter.shape)
        return (numbers.T if turned else numbers).flatten()
    like = parameter.detach()
    view = torch.zeros(shape, dtype=like.dtype, device=like.device, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    try:
        mapped = back(view)

        def of(entries: torch.Tensor) -> torch.Tensor:
            entries = entries.to(like).view(like.shape)
            return torch.autograd.grad((mapped * entries).sum(), view, retain_graph=True)[0]

        numbers = torch.arange(like.numel(), device=like.device)
        chosen = of(torch.ones_like(numbers)).round().long()
        source, power = torch.zeros_like(chosen), 1
        while power < like.numel():
            source += of(numbers // power % 128).round().long() * power
            power *= 128
        source = source.masked_fill(chosen != 1, -1).flatten()
        trial = torch.randn(shape, generator=generator).to(like)
        expected = back(trial).detach()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever it is: the parameter goes the general way
        return None
    within = source.clamp(min=0)
    if not (within < like.numel()).all():
        return None
    weights = trial.flatten() * (source >= 0)
    again = torch.zeros_like(like).flatten().index_add(0, within, weights).view(like.shape)
    bound = 100 * torch.finfo(like.dtype).eps * max(1.0, float(trial.abs().sum()))
    return source if float((again - expected).abs().max()) <= bound else None


def _placed(
    found: dict[str, list[Use]], graph: Graph, logits: torch.Tensor
) -> dict[str, list[Use]]:
    """The uses with the places of their examples; without parameters for which none fits."""
    at = sorted({use.node for uses in found.values() for use in uses})
    if not at:
        return {}
    edges = [torch.autograd.graph.GradientEdge(graph.nodes[index], 0) for index in at]
    v = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(0)).to(logits)
    single = [
        dict(zip(at, gradients_of(logits[i] @ v, edges, again=True), strict=True)) for i in range(3)
    ]
    placed = {}
    for name, uses in found.items():
        fitting = [_fitting(use, [gradients[use.node] for gradients in single]) for use in uses]
        if all(fitting):
            placed[name] = fitting
    return placed


def _fitting(use: Use, single: list[torch.Tensor | None]) -> Use | None:
    """The use with a place for its examples at which each of three has its gradients, and no other.

    Examples come first, then last, then between other axes; the first that fits is taken.
    """
    each = use.inner
    seen = [None if g is None else (g != 0).movedim(use.axis, 0).flatten(1) for g in single]
    if all(g is None for g in seen):
        return use._replace(seen=0)
    for outer in (1, each, *(d for d in range(2, each) if each % d == 0)):
        inner = each // outer
        blocks = [None if g is None else g.unflatten(0, (outer, 3, inner)) for g in seen]
        if all(
            b is None or not b[:, [j for j in range(3) if j != i]].any()
            for i, b in enumerate(blocks)
        ):
            live = sum(b[:, i].any(-1) for i, b in enumerate(blocks) if b is not None)
            return use._replace(outer=outer, inner=inner, seen=int((live > 0).sum()))
    return None
