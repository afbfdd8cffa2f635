"""What is asked for, each parameter's share in the order with the least estimated time, and the
groups of shares and blocks of examples that fit into memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from twophase.entk.layers import NORMS, groups_of, padded_pixels, positions
from twophase.entk.network import Call, KernelError
from twophase.entk.operations import Use
from twophase.entk.rules import Product, Table

MEMORY = 2 << 30  # bytes, where no limit is given
BLOCK = 192 << 20  # bytes of activations and gradients in one block of examples
CHUNK = 48 << 20  # bytes of weight gradients formed at once: at most,
LEAST = 4 << 20  # at least, while they are no more than so many
COLUMNS = 2048  # columns: they are then multiplied while a processor's cache still holds them
CACHE = 1 << 20  # bytes of an intermediate that should stay in a core's cache
CUDA_CACHE = 256 << 20  # the same on CUDA, where few large calls matter more

# Estimated times, in multiply-adds at the speed of a large matrix product (one core, AVX-512).
ELEMENT = 40  # an element-wise multiply-add that goes through memory
CALL = 5e5  # a call of a few operations
WORTH = 4  # logits: one pass for fewer of them takes no less than one for each
NARROW = 16  # positions below which a product over positions is slow in proportion


class Share(NamedTuple):
    """One parameter's share of the kernel. Sizes are numbers, not bytes."""

    name: str
    parameter: nn.Parameter
    uses: list[tuple[nn.Module, str]]  # the layers that hold it, and what they call it
    operations: list[Use]  # or the operations that take it
    order: str  # an order above, `formed` (gradients formed and g dropped), `func` or `autograd`
    kept: int  # for each example, until the share is contracted
    held: int  # for each example of a block, during its backward passes
    brief: int  # the same, but only while this share's gradients are formed
    work: int  # while the share is contracted
    fewer: bool = False  # a gradient seems to arrive at some of the positions only


@dataclass
class Task:
    """What is asked for, and what a pass through the model showed."""

    count: Counter  # how often each parameter enters the graph of the first examples' logits
    kind: str
    n: int
    classes: int
    dtype: torch.dtype
    chunk: int  # numbers in a chunk of weight gradients
    cache: int  # numbers in an intermediate that should stay in cache
    graph: int  # numbers held for each example of a block by a pass through the model
    nodes: int  # of autograd's graph
    trained: list[nn.Parameter]  # those that require gradients
    shares: list[Share]
    first: int = 0  # examples of the columns, where these are not those of the rows
    names: tuple[str, ...] = ()  # of the graph's nodes, in which operations are found

    @property
    def backwards(self) -> int:
        """Functions of an example that are derived: its logits, or their sum."""
        return 1 if self.kind == "pseudo" else self.classes

    @property
    def rows(self) -> int:
        """Rows of the kernel for each example."""
        return self.classes if self.kind == "full" else 1

    @property
    def size(self) -> int:
        """Rows of the kernel of all examples."""
        return self.n * self.rows

    @property
    def scale(self) -> float:
        """Factor of the logits."""
        return 1.0 if self.kind == "full" else self.classes**-0.5

    def seeds(self, logits: torch.Tensor) -> torch.Tensor:
        """Gradients of what is derived with respect to `logits` (n, C), (backwards, n, C)."""
        rows = torch.eye(self.classes, dtype=logits.dtype, device=logits.device)
        rows = rows.sum(0, keepdim=True) if self.kind == "pseudo" else rows
        return (self.scale * rows)[:, None].expand(-1, *logits.shape)

    def functions(self, logits: torch.Tensor) -> torch.Tensor:
        """What is derived, (n, backwards): the logits (n, C), or their sum, in the kind's scale."""
        logits = self.scale * logits
        return logits.sum(1, keepdim=True) if self.kind == "pseudo" else logits


def share_of_layers(
    task: Task, name: str, parameter: nn.Parameter, known: list[tuple[Call, str]], seen: int | None
) -> Share:
    """The share of a parameter of known layers, in the order with the least estimated time. A
    gradient arrives at `seen` of a linear layer's positions, if that is known.
    """
    formed = task.backwards * parameter.numel()
    held, brief = 0, 0  # the normalised input or g of all classes; patches and what they form
    for call, role in known:
        if isinstance(call.module, NORMS):
            held += 2 * math.prod(call.shape[1:])
        elif role == "weight":
            sites, inner = positions(call), parameter[0].numel() * groups_of(call.module)
            g = sites * task.backwards * len(parameter)
            held += g
            brief = max(brief, sites * inner + formed + g * (groups_of(call.module) > 1))
    uses = [(call.module, role) for call, role in known]
    share = Share(name, parameter, uses, [], "formed", formed, held, brief, 0)
    (call, role), module = known[0], known[0][0].module
    if len(known) > 1 or role != "weight" or isinstance(module, NORMS) or groups_of(module) > 1:
        return share  # gradients add up over uses, before any product
    return _ordered(task, share, module, call.input.shape[1:], positions(call), seen)


def share_of_operations(task: Task, name: str, parameter: nn.Parameter, uses: list[Use]) -> Share:
    """The share of a parameter of known operations. Positions of several products are those of one,
    and rows taken from a table are products with zeros and a one.
    """
    formed = task.backwards * parameter.numel()
    held = sum(use.size for use in uses)
    share = Share(name, parameter, [], uses, "formed", formed, held, formed + 3 * held, 0)
    if not stacked(uses):
        return share
    width, inner = uses[0].shape[0], uses[0].shape[1:].numel()
    sites, seen = sum(use.outer * use.inner for use in uses), sum(use.seen for use in uses)
    if uses[0].rule is Table:
        sites = seen = uses[0].size // inner
        width, inner = inner, min(width, task.n * sites)
    held = sites * (task.backwards * width + inner)
    share = share._replace(held=held, brief=formed + held)
    return _ordered(task, share, linear(inner, width), torch.Size((sites, inner)), sites, seen)


def stacked(uses: list[Use]) -> bool:
    """Whether the uses of a parameter are as one product with more positions."""
    first = uses[0]
    if first.rule is Table:
        return len(uses) == 1 and first.source is None
    return all(
        use.rule is Product and use.shape == first.shape and same(use.source, first.source)
        for use in uses
    ) and (first.source is None or len(set(first.source.tolist()) - {-1}) == len(first.source))


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Whether both are None, or equal."""
    return one is other or (one is not None and other is not None and torch.equal(one, other))


def linear(inner: int, width: int) -> nn.Linear:
    """What says of a product how large it is."""
    return nn.Linear(inner, width, bias=False, device="meta")


def _ordered(
    task: Task, share: Share, module: nn.Module, shape: torch.Size, every: int, seen: int | None
) -> Share:
    """`share` in the order with the least estimated time. `module` has inputs of `shape` and
    `every` positions.
    """
    n, rows, size = task.n, task.rows, task.size
    inner, channels = module.weight[0].numel(), len(module.weight)
    width, sites = _width(task, channels), every if seen is None else max(1, seen)
    pairs = n * n / 2
    g = rows * width * sites  # numbers for each example
    patches, pixels = n * sites * inner, shape.numel()
    together = max(1, CACHE // task.dtype.itemsize // g)
    by_patches, by_pixels = position_kernel_times(module, shape, sites)
    padded = 0 if by_pixels == math.inf else padded_pixels(module, shape)
    costs = {  # estimated time, numbers held
        "gradients": (
            n * g * inner + size**2 / 2 * width * inner,
            patches + max(task.chunk, size * (inner + sites)),
        ),
        "pairs": (
            pairs * min(by_patches, by_pixels)
            + pairs * g * (sites + NARROW + 2 * rows)
            + n * math.ceil(n / 2 / together) * CALL,
            max(patches, n * pixels) + n * (4 * padded**2 + sites**2) + max(task.cache, g),
        ),
        "positions": (
            pairs * by_patches + size**2 / 2 * sites**2 * (width + ELEMENT) + sites**2 * CALL,
            patches + n * g + max(task.chunk, n * (2 * rows**2 + sites**2)),
        ),
    }
    order = _cheapest(costs)
    kept = rows * width * every + pixels
    if order == "gradients" and share.kept <= kept:
        return share
    work = costs[order][1] + (n * kept if sites < every else 0)
    fewer = sites < every
    return share._replace(order=order, kept=kept, held=0, brief=0, work=work, fewer=fewer)


def _cheapest(costs: dict[str, tuple[float, int]]) -> str:
    return min(costs, key=lambda order: costs[order][0])


def _width(task: Task, channels: int) -> int:
    """Numbers in one row of the kernel's factors: channels, for `trace` those of all classes."""
    return channels * task.backwards // task.rows


def passes(task: Task, limit: int | None) -> Iterator[tuple[list[Share], int, int]]:
    """Shares that fit into `limit` bytes together, the examples in a block, and the logits whose
    gradients are computed in one backward pass.
    """
    itemsize = task.dtype.itemsize

    def kept(shares: list[Share]) -> int:
        return itemsize * task.n * sum(share.kept for share in shares)

    def held(shares: list[Share]) -> int:  # for each example
        numbers = sum(share.held for share in shares) + max(share.brief for share in shares)
        return itemsize * (task.graph + numbers)

    def needed(shares: list[Share]) -> int:
        work = itemsize * max(share.work for share in shares)
        return kept(shares) + max(2 * held(shares), work)  # never one example alone

    if not task.shares:
        return
    worst = max(task.shares, key=lambda share: needed([share]))
    least = needed([worst])
    if limit is None:
        limit = max(MEMORY, least)
    if least > limit:
        least = math.ceil(least * 8 / 7)  # chunks grow with the limit, to an eighth of it
        raise KernelError(f"memory_limit = {limit}: {worst.name} alone takes {least} bytes")
    found = [task.shares[:1]]
    for share in task.shares[1:]:
        if needed([*found[-1], share]) <= limit:
            found[-1].append(share)
        else:
            found.append([share])
    for shares in found:
        most = max(2, min(BLOCK, limit - kept(shares)) // held(shares))
        block = math.ceil(task.n / math.ceil(task.n / most))  # blocks of like size
        spare = min(BLOCK, limit - kept(shares) - block * held(shares)) // itemsize
        yield shares, block, _logits_together(task, block, spare)


def _logits_together(task: Task, block: int, spare: int) -> int:
    """Logits in one backward pass over `block` examples: as many as fit into `spare` numbers, and
    into the cache node by node. With small layers it is the calls that take the time.
    """
    numbers = max(1, task.graph * block)
    together = min(1 + spare // numbers, task.cache * task.nodes // numbers, task.backwards)
    return together if together >= WORTH else 1


def position_kernel_times(module: nn.Module, shape: torch.Size, sites: int) -> tuple[float, float]:
    """Times of one pair's position kernel from patches and from products of single pixels."""
    by_patches = sites**2 * module.weight[0].numel()
    if isinstance(module, nn.Linear) or {*module.kernel_size} == {1}:
        return by_patches, math.inf
    channels, pixels = shape[0], math.prod(shape[1:])
    padded = padded_pixels(module, shape)
    return by_patches, pixels**2 * channels + 2 * padded**2 * ELEMENT
