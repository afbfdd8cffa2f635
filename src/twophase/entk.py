"""The empirical neural tangent kernel (eNTK) of a network, exactly, layer by layer.

One forward pass and one backward pass for each class give, for every layer, its inputs `a` and the
gradients `g` of the logits with respect to its outputs. A weight's gradient is a sum over output
positions s of outer products, dW_ic = sum_s g_ics (x) a_is, so its share of the kernel

    H[(i, c), (j, d)] = <dW_ic, dW_jd> = sum_ss' <a_is, a_js'> <g_ics, g_jds'>

can be contracted in several orders, all exact. Each layer takes the one estimated fastest:

- `gradients`: form dW for all rows (i, c), some output channels at a time, and multiply;
- `pairs`: for each pair of examples apply the position kernel <a_is, a_js'> to g_j, then multiply
  with g_i. Wide layers on small maps have more weights than positions: dW is never formed;
- `positions`: one product of g rows for each pair of positions, weighted by <a_is, a_js'>. For
  linear layers (one position) and maps of a few pixels.

Short forms below: n examples, C classes, `rows` of the kernel for each example (C, or 1 for `trace`
and `pseudo`), P output positions, O output channels, D inputs that one output sees.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NORMS = (*BATCH_NORMS, nn.GroupNorm, nn.LayerNorm)
LAYERS = (nn.Conv2d, nn.Linear, *NORMS)  # the others' parameters go through torch.func

MEMORY = 2 << 30  # bytes, where no limit is given
BLOCK = 192 << 20  # bytes of activations and gradients in one block of examples
CHUNK = 48 << 20  # bytes of weight gradients formed at once
CACHE = 1 << 20  # bytes of an intermediate that should stay in a core's cache
CUDA_CACHE = 256 << 20  # the same on CUDA, where few large calls matter more

# Estimated times, in multiply-adds at the speed of a large matrix product (one core, AVX-512).
ELEMENT = 40  # an element-wise multiply-add that goes through memory
CALL = 5e5  # a call of a few operations
NARROW = 16  # positions below which a product over positions is slow in proportion


def entk(
    model: nn.Module,
    inputs: torch.Tensor,
    *,
    kind: Literal["full", "trace", "pseudo"] = "full",
    memory_limit: int | None = None,
) -> torch.Tensor:
    """Tangent kernel of `model` on `inputs` (n, ...), the network in eval mode.

    `full`: H[(i, c), (j, d)] = <df_c(x_i)/dtheta, df_d(x_j)/dtheta> (arXiv 2505.13900, section 3),
    shape (n C, n C), rows ordered by example, then class. `trace`: (n, n), the mean over classes of
    the diagonal blocks' entries. `pseudo`: (n, n), with the gradient of the logits' sum over
    sqrt(C) (Mohamadi et al. 2023). theta are the parameters that require gradients.

    `model` maps (n, ...) to logits (n, C), each example by itself. Convolutions (Conv2d), linear
    layers and batch, group and layer norms are contracted layer by layer; parameters of other
    kinds go through `torch.func`, with one warning that names them. The result has the dtype and
    device of the inputs; it is exactly symmetric, and the same in every call for a fixed number of
    threads. The model stays as it was, but in eval mode.

    `memory_limit` bounds, in bytes, what the engine holds beside the model, the inputs and the
    kernel itself: activations, gradients and work space, 2 GiB by default (or the least that works,
    where that is more). Where not all layers fit at once they are taken in groups, each at the
    price of another forward pass and its backward passes. Raises `ValueError` with the least limit
    that works if a single layer does not fit.
    """
    if kind not in ("full", "trace", "pseudo"):
        raise ValueError(f"kind = {kind!r}: must be 'full', 'trace' or 'pseudo'")
    model.eval()
    inputs = inputs.detach()
    required = [(p, p.requires_grad) for p in model.parameters()]
    with torch.enable_grad():
        try:
            task = _survey(model, inputs, kind, memory_limit)
            for parameter in model.parameters():
                parameter.requires_grad_(False)  # backward passes then stop at the activations
            kernel = inputs.new_zeros(task.size, task.size, dtype=task.dtype)
            for shares, block in _passes(task, memory_limit):
                _add_shares(kernel, model, inputs, task, shares, block)
        finally:
            for parameter, flag in required:
                parameter.requires_grad_(flag)
    _mirror(kernel)
    return kernel


class _Call(NamedTuple):
    """One call of a layer: its input, and the place in the graph where its output arises."""

    module: nn.Module
    input: torch.Tensor
    version: int
    edge: torch.autograd.graph.GradientEdge
    shape: torch.Size  # of the output


class _Share(NamedTuple):
    """One parameter's share of the kernel. Sizes are numbers, not bytes."""

    name: str
    parameter: nn.Parameter
    uses: list[tuple[nn.Module, str]]  # the layers that hold it, and what they call it
    order: str  # an order above, or `formed` (gradients formed and g dropped), or `func`
    kept: int  # for each example, until the share is contracted
    held: int  # for each example of a block, during its backward passes
    brief: int  # the same, but only while this share's gradients are formed
    work: int  # while the share is contracted


@dataclass
class _Task:
    """What is asked for, and what a pass through the model showed."""

    kind: str
    n: int
    classes: int
    dtype: torch.dtype
    chunk: int  # numbers in a chunk of weight gradients
    cache: int  # numbers in an intermediate that should stay in cache
    graph: int  # numbers held for each example of a block by a pass through the model
    shares: list[_Share]

    @property
    def backwards(self) -> int:
        return 1 if self.kind == "pseudo" else self.classes

    @property
    def rows(self) -> int:
        return self.classes if self.kind == "full" else 1

    @property
    def size(self) -> int:
        return self.n * self.rows

    @property
    def scale(self) -> float:
        """Factor of the logits."""
        return 1.0 if self.kind == "full" else self.classes**-0.5


# What the network is made of.


@contextmanager
def _recorded(modules: Iterable[nn.Module]) -> Iterator[list[_Call]]:
    """The calls of `modules` within the block, in order."""
    calls: list[_Call] = []

    def record(module: nn.Module, args: tuple, kwargs: dict, output: torch.Tensor) -> torch.Tensor:
        if not output.requires_grad:
            # Gradients start here. The copy may be changed in place, a leaf may not.
            output = output.detach().requires_grad_().clone()
        a = (args[0] if args else kwargs["input"]).detach()
        edge = torch.autograd.graph.get_gradient_edge(output)
        calls.append(_Call(module, a, a._version, edge, output.shape))
        return output

    handles = [module.register_forward_hook(record, with_kwargs=True) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _survey(model: nn.Module, inputs: torch.Tensor, kind: str, limit: int | None) -> _Task:
    """Pass two examples through `model`: which layers are called, how often, on what shapes."""
    probe = inputs[:2]
    layers = [module for module in model.modules() if type(module) in LAYERS]
    for module in layers:
        if isinstance(module, BATCH_NORMS) and module.running_mean is None:
            raise ValueError(
                f"{module} keeps no running statistics: the logits of one example would depend on "
                "the others"
            )
    saved: dict[int, int] = {}

    def measure(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.data_ptr()] = tensor.numel()
        return tensor

    with _recorded(layers) as calls, torch.autograd.graph.saved_tensors_hooks(measure, lambda t: t):
        logits = model(probe)
    if logits.dim() != 2 or len(logits) != len(probe):
        raise ValueError(
            f"the model maps {tuple(probe.shape)} to {tuple(logits.shape)}; logits must be (n, C)"
        )
    for parameter in model.parameters():
        saved.pop(parameter.data_ptr(), None)
    outputs = sum(math.prod(call.shape) for call in calls)
    room = (MEMORY if limit is None else limit) // 8
    cache = CUDA_CACHE if logits.is_cuda else CACHE
    task = _Task(
        kind=kind,
        n=len(inputs),
        classes=logits.shape[1],
        dtype=logits.dtype,
        chunk=min(CHUNK, room) // logits.itemsize,
        cache=min(cache, room) // logits.itemsize,
        # What is saved for the backward passes, and the gradients that one of them makes.
        graph=(sum(saved.values()) + 2 * outputs) // len(probe),
        shares=[],
    )
    uses = defaultdict(list)
    for call in calls:
        for role, parameter in call.module.named_parameters(recurse=False):
            uses[parameter].append((call, role))
    references = _references(logits)
    others = []
    for name, parameter in model.named_parameters():
        known = uses[parameter]
        if not parameter.requires_grad or not references[parameter]:
            continue
        if references[parameter] <= len(known) and all(_understood(c, probe) for c, _ in known):
            task.shares.append(_share(task, name, parameter, known))
        else:
            others.append(name)
            numbers = task.backwards * parameter.numel()
            brief = 2 * numbers + task.backwards * task.graph
            task.shares.append(_Share(name, parameter, [], "func", numbers, 0, brief, 0))
    if others:
        warnings.warn(
            "torch.func computes the tangent kernel's share of parameters that no known layer "
            f"holds or not it alone: {', '.join(others)}",
            stacklevel=3,
        )
    return task


def _references(logits: torch.Tensor) -> Counter:
    """How often each parameter enters the graph behind `logits`."""
    count: Counter = Counter()
    seen, todo = set(), [logits.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for child, _ in node.next_functions:
            if hasattr(child, "variable"):
                count[child.variable] += 1
            else:
                todo.append(child)
    return count


def _understood(call: _Call, probe: torch.Tensor) -> bool:
    """Whether the layer's rule holds: examples come first, the input is still what it was."""
    module, a = call.module, call.input
    if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or a.dim() != 4):
        return False
    return len(a) == len(probe) and a.dim() > 1 and a._version == call.version


def _share(
    task: _Task, name: str, parameter: nn.Parameter, known: list[tuple[_Call, str]]
) -> _Share:
    """The share of a parameter of known layers, in the order with the least estimated time."""
    formed = task.backwards * parameter.numel()
    held, brief = 0, 0  # the normalised input or g of all classes; patches and what they form
    for call, role in known:
        if isinstance(call.module, NORMS):
            held += 2 * math.prod(call.shape[1:])
        elif role == "weight":
            sites, inner = _positions(call), parameter[0].numel() * _groups(call.module)
            g = sites * task.backwards * len(parameter)
            held += g
            brief = max(brief, sites * inner + formed + g * (_groups(call.module) > 1))
    uses = [(call.module, role) for call, role in known]
    share = _Share(name, parameter, uses, "formed", formed, held, brief, 0)
    (call, role), module = known[0], known[0][0].module
    if len(known) > 1 or role != "weight" or isinstance(module, NORMS) or _groups(module) > 1:
        return share  # gradients add up over uses, before any product

    n, rows, size = task.n, task.rows, task.size
    sites, inner, width = _positions(call), parameter[0].numel(), _width(task, len(parameter))
    pairs = n * n / 2
    g = rows * width * sites  # numbers for each example
    patches, pixels = n * sites * inner, call.input[0].numel()
    together = max(1, CACHE // task.dtype.itemsize // g)
    by_patches, by_pixels = _position_kernel_times(module, call.input.shape[1:], sites)
    padded = 0 if by_pixels == math.inf else _padded(module, call.input.shape)
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
    kept = g + pixels
    if order == "gradients" and formed <= kept:
        return share
    return share._replace(order=order, kept=kept, held=0, brief=0, work=costs[order][1])


def _cheapest(costs: dict[str, tuple[float, int]]) -> str:
    return min(costs, key=lambda order: costs[order][0])


def _position_kernel_times(module: nn.Module, shape: torch.Size, sites: int) -> tuple[float, float]:
    """Times of one pair's position kernel from patches and from products of single pixels."""
    by_patches = sites**2 * module.weight[0].numel()
    if isinstance(module, nn.Linear) or module.kernel_size == (1, 1):
        return by_patches, math.inf
    channels, pixels = shape[0], shape[1] * shape[2]
    padded = _padded(module, shape)
    return by_patches, pixels**2 * channels + 2 * padded**2 * ELEMENT


def _padded(module: nn.Conv2d, shape: torch.Size) -> int:
    """Pixels of an input (..., height, width) after padding."""
    left, right, above, below = _padding(module)
    return (shape[-2] + above + below) * (shape[-1] + left + right)


def _groups(module: nn.Module) -> int:
    return getattr(module, "groups", 1)


def _positions(call: _Call) -> int:
    """Output positions of a call of a convolution or a linear layer."""
    return math.prod(call.shape[2:] if isinstance(call.module, nn.Conv2d) else call.shape[1:-1])


def _width(task: _Task, channels: int) -> int:
    """Numbers in one row of the kernel's factors: channels, for `trace` those of all classes."""
    return channels * task.backwards // task.rows


def _passes(task: _Task, limit: int | None) -> Iterator[tuple[list[_Share], int]]:
    """Shares that fit into `limit` bytes together, and the examples in a block."""
    itemsize = task.dtype.itemsize

    def kept(shares: list[_Share]) -> int:
        return itemsize * task.n * sum(share.kept for share in shares)

    def held(shares: list[_Share]) -> int:
        numbers = sum(share.held for share in shares) + max(share.brief for share in shares)
        return itemsize * (task.graph + numbers)

    def needed(shares: list[_Share]) -> int:
        work = itemsize * max(share.work for share in shares)
        return kept(shares) + max(held(shares), work)

    if not task.shares:
        return
    worst = max(task.shares, key=lambda share: needed([share]))
    least = needed([worst])
    if limit is None:
        limit = max(MEMORY, least)
    if least > limit:
        least = math.ceil(least * 8 / 7)  # chunks grow with the limit, to an eighth of it
        raise ValueError(f"memory_limit = {limit}: {worst.name} alone takes {least} bytes")
    passes = [task.shares[:1]]
    for share in task.shares[1:]:
        if needed([*passes[-1], share]) <= limit:
            passes[-1].append(share)
        else:
            passes.append([share])
    for shares in passes:
        most = max(1, min(BLOCK, limit - kept(shares)) // held(shares))
        blocks = math.ceil(task.n / most)
        yield shares, math.ceil(task.n / blocks)  # blocks of like size


# Factors: layers' inputs and output gradients, and gradients formed from them.


def _add_shares(
    kernel: torch.Tensor,
    model: nn.Module,
    inputs: torch.Tensor,
    task: _Task,
    shares: list[_Share],
    block: int,
) -> None:
    """Add to `kernel` what `shares` contribute, `block` examples in a backward pass."""
    columns, end = {}, 0
    for share in shares:
        if share.order in ("formed", "func"):
            columns[share.name] = slice(end, end + share.parameter.numel())
            end += share.parameter.numel()
    formed = kernel.new_zeros(task.n, task.backwards, end)
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    by_func = {share.name: share.parameter for share in shares if share.order == "func"}
    for start in range(0, task.n, block):
        part = slice(start, min(start + block, task.n))
        if len(by_func) < len(shares):
            _backward(model, inputs, part, task, shares, columns, formed, kept)
        if by_func:
            for name, jacobian in _jacobians(model, inputs[part], task, by_func).items():
                formed[part, :, columns[name]] = jacobian.flatten(2)
    if end:
        _add_gram(kernel, formed.view(task.size, -1))
    del formed
    for share in shares:
        if share.name in kept:
            a, g = kept.pop(share.name)
            g = g.view(task.n, task.rows, -1, g.shape[-1])
            ORDERS[share.order](kernel, share.uses[0][0], a, g, task)


def _backward(
    model: nn.Module,
    inputs: torch.Tensor,
    part: slice,
    task: _Task,
    shares: list[_Share],
    columns: dict[str, slice],
    formed: torch.Tensor,
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]],
) -> None:
    """Fill in `formed` (n, C, columns) and `kept`, (a, g) by name, for the examples of `part`."""
    share_of = {use: share for share in shares for use in share.uses}
    with _recorded(dict.fromkeys(module for module, _ in share_of)) as calls:
        logits = model(inputs[part])
    count = len(logits)
    stacks, normal = {}, {}
    for index, (module, a, *_) in enumerate(calls):
        if (module, "weight") not in share_of:
            continue
        share = share_of[module, "weight"]
        if isinstance(module, NORMS):
            normal[index] = _normalised(module, a)
            continue
        stack = (task.backwards, len(module.weight), _positions(calls[index]))
        if share.order == "formed":
            stacks[index] = formed.new_zeros(count, *stack)
        else:
            if share.name not in kept:
                inputs_kept = a.new_empty(task.n, *a.shape[1:])
                kept[share.name] = (inputs_kept, formed.new_zeros(task.n, *stack))
            kept[share.name][0][part] = a
            stacks[index] = kept[share.name][1][part]
    for c in range(task.backwards):
        seed = torch.zeros_like(logits)
        seed[:, c if task.backwards > 1 else slice(None)] = task.scale
        gradients = torch.autograd.grad(
            logits,
            [call.edge for call in calls],
            seed,
            retain_graph=c + 1 < task.backwards,
            allow_unused=True,
        )
        for index, g in enumerate(gradients):
            if g is None:
                continue
            module = calls[index].module
            if index in stacks:
                stacks[index][:, c] = _channels_first(module, g)
            if index in normal:
                place = formed[part, c, columns[share_of[module, "weight"].name]]
                place += _over_positions(module, g * normal[index])
            if (module, "bias") in share_of:
                place = formed[part, c, columns[share_of[module, "bias"].name]]
                place += _over_positions(module, g)
    for index, (module, a, *_) in enumerate(calls):
        if index in stacks and share_of[module, "weight"].order == "formed":
            groups = _groups(module)
            # Groups are examples of their own: (n groups, C O / groups, P) with (n groups, D, P).
            g = stacks.pop(index).unflatten(2, (groups, -1)).transpose(1, 2)
            g = g.reshape(count * groups, -1, g.shape[-1])
            gradient = torch.bmm(g, _patches(module, a).transpose(1, 2))
            gradient = gradient.view(count, groups, task.backwards, -1).transpose(1, 2).flatten(2)
            place = formed[part, :, columns[share_of[module, "weight"].name]]
            place += gradient


def _jacobians(
    model: nn.Module, inputs: torch.Tensor, task: _Task, parameters: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Derivatives (n, C, ...) of the logits of `inputs` with respect to `parameters`."""
    from torch.func import functional_call, jacrev, vmap  # its first use takes a second

    # Left to find shared parameters itself, functional_call leaves a module that has two names
    # changed (torch 2.15). Each module is named once here, with all it holds.
    names = {parameter: name for name, parameter in parameters.items()}
    holders = {
        f"{prefix}.{role}".lstrip("."): names[parameter]
        for prefix, module in model.named_modules()
        for role, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if parameter in names
    }

    def logits(values: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        values = {holder: values[name] for holder, name in holders.items()}
        out = task.scale * functional_call(model, values, (x[None],), tie_weights=False)[0]
        return out.sum().view(1) if task.kind == "pseudo" else out

    parameters = {name: parameter.detach() for name, parameter in parameters.items()}
    return vmap(jacrev(logits), in_dims=(None, 0))(parameters, inputs)


def _channels_first(module: nn.Module, g: torch.Tensor) -> torch.Tensor:
    """Output gradients as (n, O, P)."""
    if isinstance(module, nn.Conv2d):
        return g.flatten(2)
    return g.reshape(len(g), -1, g.shape[-1]).transpose(1, 2)


def _over_positions(module: nn.Module, products: torch.Tensor) -> torch.Tensor:
    """Sum over all axes that a bias or scale of `module` does not have, as (n, numbers)."""
    if isinstance(module, nn.Linear):
        return products.flatten(1, -2).sum(1) if products.dim() > 2 else products
    if isinstance(module, nn.LayerNorm):
        inner = math.prod(module.normalized_shape)
        return products.reshape(len(products), -1, inner).sum(1)
    return products.flatten(2).sum(2) if products.dim() > 2 else products


def _normalised(module: nn.Module, a: torch.Tensor) -> torch.Tensor:
    """What a norm multiplies with its weight."""
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(a, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(a, module.num_groups, eps=module.eps)
    return F.batch_norm(a, module.running_mean, module.running_var, eps=module.eps)


def _patches(module: nn.Module, a: torch.Tensor) -> torch.Tensor:
    """The inputs that each output position sees, (n groups, D, P). A strided copy (im2col)."""
    if isinstance(module, nn.Linear):
        return a.reshape(len(a), -1, a.shape[-1]).transpose(1, 2)
    if module.kernel_size == (1, 1) == module.stride and not any(_padding(module)):
        return a.reshape(len(a) * module.groups, -1, a[0, 0].numel())
    a = F.pad(a, _padding(module)).contiguous()
    n, channels, height, width = a.shape
    sizes, strides = [], []
    for axis, length in ((0, height), (1, width)):
        step = a.stride(2 + axis)
        reach = module.dilation[axis] * (module.kernel_size[axis] - 1)
        sizes.append((module.kernel_size[axis], (length - reach - 1) // module.stride[axis] + 1))
        strides.append((module.dilation[axis] * step, module.stride[axis] * step))
    windows = a.as_strided(
        (n, channels, sizes[0][0], sizes[1][0], sizes[0][1], sizes[1][1]),
        (*a.stride()[:2], strides[0][0], strides[1][0], strides[0][1], strides[1][1]),
    )
    return windows.reshape(n * module.groups, -1, sizes[0][1] * sizes[1][1])


def _padding(module: nn.Conv2d) -> list[int]:
    """Zeros left, right, above and below."""
    if module.padding == "valid":
        return [0, 0, 0, 0]
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [side for t in reversed(total) for side in (t // 2, t - t // 2)]
    return [side for p in reversed(module.padding) for side in (p, p)]


# Contractions: each adds to the lower block triangle of the kernel (n rows, n rows), from a layer's
# inputs a and output gradients g (n, rows, width, P).


def _add_gram(kernel: torch.Tensor, matrix: torch.Tensor) -> None:
    """Add matrix @ matrix.T, in strips."""
    size = len(matrix)
    height = max(128, math.ceil(size / 8))
    for top in range(0, size, height):
        bottom = min(top + height, size)
        kernel[top:bottom, :bottom].addmm_(matrix[top:bottom], matrix[:bottom].T)


def _mirror(kernel: torch.Tensor, height: int = 512) -> None:
    """Copy what lies below the diagonal to above it."""
    for top in range(0, len(kernel), height):
        bottom = min(top + height, len(kernel))
        kernel[:top, top:bottom] = kernel[top:bottom, :top].T
        square = kernel[top:bottom, top:bottom]
        square.copy_(square.tril() + square.tril(-1).T)


def _by_gradients(
    kernel: torch.Tensor, module: nn.Module, a: torch.Tensor, g: torch.Tensor, task: _Task
) -> None:
    """Form the gradients of some output channels at a time, and multiply."""
    patches = _patches(module, a).transpose(1, 2)
    n, rows, width, sites = g.shape
    inner = patches.shape[2]
    step = max(1, task.chunk // (n * rows * (inner + sites)))
    buffer = g.new_empty(n * rows * min(step, width) * inner)
    for start in range(0, width, step):
        some = g[:, :, start : start + step].reshape(n, -1, sites)
        gradients = buffer[: n * some.shape[1] * inner].view(n, -1, inner)
        torch.bmm(some, patches, out=gradients)
        _add_gram(kernel, gradients.view(n * rows, -1))


def _by_pairs(
    kernel: torch.Tensor, module: nn.Module, a: torch.Tensor, g: torch.Tensor, task: _Task
) -> None:
    """Apply the position kernel of examples (j, i) to g_j, then multiply with g_i."""
    n, rows, width, sites = g.shape
    position_kernel = _position_kernel(module, a, sites)
    step = max(1, task.cache // g[0].numel())
    applied = g.new_empty(min(step, n), rows * width, sites)
    flat = g.view(n, rows * width, sites)
    for i in range(n):
        weights = position_kernel(i)
        for start in range(0, i + 1, step):
            stop = min(start + step, i + 1)
            out = applied[: stop - start]
            torch.bmm(flat[start:stop], weights[start:stop], out=out)
            kernel[i * rows : (i + 1) * rows, start * rows : stop * rows].addmm_(
                g[i].view(rows, -1), out.view((stop - start) * rows, -1).T
            )


def _position_kernel(
    module: nn.Module, a: torch.Tensor, sites: int
) -> Callable[[int], torch.Tensor]:
    """Function of i: <a_js', a_is> for all examples j <= i, (i + 1, P, P)."""
    by_patches, by_pixels = _position_kernel_times(module, a.shape[1:], sites)
    if by_patches <= by_pixels:
        patches = _patches(module, a).transpose(1, 2).contiguous()
        return lambda i: (patches[: i + 1].flatten(0, 1) @ patches[i].T).view(-1, sites, sites)

    # <a_js', a_is> is a sum over the taps of products of single pixels: over x, then over y.
    pixels = a.flatten(2).transpose(1, 2).contiguous()
    padding = _padding(module) * 2

    def summed(products: torch.Tensor, axis: int) -> torch.Tensor:
        length = products.shape[axis + 1]
        stride, dilation = module.stride[axis], module.dilation[axis]
        taps = module.kernel_size[axis]
        last = length - dilation * (taps - 1)
        parts = []
        for tap in range(taps):
            window = [slice(None)] * 5
            window[axis + 1] = window[axis + 3] = slice(
                tap * dilation, tap * dilation + last, stride
            )
            parts.append(products[tuple(window)])
        total = parts[0].clone(memory_format=torch.contiguous_format)
        for part in parts[1:]:
            total += part
        return total

    def kernels(i: int) -> torch.Tensor:
        products = pixels[: i + 1].flatten(0, 1) @ pixels[i].T
        products = products.view(i + 1, *a.shape[2:], *a.shape[2:])
        return summed(summed(F.pad(products, padding), 1), 0).view(i + 1, sites, sites)

    return kernels


def _by_positions(
    kernel: torch.Tensor, module: nn.Module, a: torch.Tensor, g: torch.Tensor, task: _Task
) -> None:
    """One product of g rows for each pair of positions, weighted by the positions' kernel."""
    n, rows, width, sites = g.shape
    patches = _patches(module, a).transpose(1, 2).reshape(n * sites, -1)
    g = g.permute(3, 0, 1, 2).reshape(sites, n * rows, width)
    step = max(1, task.chunk // (n * (2 * rows**2 + sites**2)))
    for start in range(0, n, step):
        stop = min(start + step, n)
        weights = patches[start * sites : stop * sites] @ patches[: stop * sites].T
        weights = weights.view(stop - start, 1, sites, stop, 1, sites)
        strip = kernel[start * rows : stop * rows, : stop * rows]
        strip = strip.view(stop - start, rows, stop, rows)
        for s in range(sites):
            for t in range(sites):
                products = g[s, start * rows : stop * rows] @ g[t, : stop * rows].T
                strip.addcmul_(products.view(strip.shape), weights[:, :, s, :, :, t])


ORDERS = {"gradients": _by_gradients, "pairs": _by_pairs, "positions": _by_positions}
