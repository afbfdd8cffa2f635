"""Running a network: its logits, the calls of its layers, and what they depend on."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode

BATCH_NORM = nn.modules.batchnorm._BatchNorm


class KernelError(ValueError):
    """A network whose tangent kernel cannot be computed, or came out wrong."""


class Misfit(Exception):
    """Parameters whose use by some examples is not what the first ones showed."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__("other examples use these parameters in another way than the first ones")
        self.parameters = set(parameters)


class Call(NamedTuple):
    """One call of a layer: its input, and the place in the graph where its output arises."""

    module: nn.Module
    input: torch.Tensor
    version: int
    edge: torch.autograd.graph.GradientEdge
    shape: torch.Size  # of the output
    dtype: torch.dtype
    device: torch.device


def logits_of(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Logits (n, C) of the network in eval mode.

    Raises `KernelError` if the output is neither (n, C) nor a dict or tuple that holds it.
    """
    evaluate(model)
    with Contiguous():
        output = model(inputs)
    return as_logits(output, inputs)


def evaluate(model: nn.Module) -> None:
    """Eval mode. Modules that keep values from call to call in that mode make them again: they
    forget them in training mode, as LeViT's attention does.
    """
    if any(type(module).train is not nn.Module.train for module in model.modules()):
        model.train()
    model.eval()


def as_logits(output: object, inputs: torch.Tensor) -> torch.Tensor:
    """The logits of an output: itself, its entry or attribute `logits`, or the first of a tuple."""
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif not isinstance(output, torch.Tensor):
        first = output[0] if isinstance(output, tuple | list) and output else None
        found = getattr(output, "logits", first)
    if not isinstance(found, torch.Tensor):
        raise KernelError(
            f"the model returns a {type(output).__name__} without logits: it must return logits "
            "(n, C), a dict that holds `logits`, or a tuple whose first entry they are"
        )
    if found.dim() != 2 or len(found) != len(inputs):
        raise KernelError(
            f"the model maps {tuple(inputs.shape)} to {tuple(found.shape)}; logits must be (n, C)"
        )
    return found


def gradients_of(
    value: torch.Tensor,
    places: list[nn.Parameter] | list[torch.autograd.graph.GradientEdge],
    seed: torch.Tensor | None = None,
    *,
    again: bool = False,
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of `value`, or of its product with `seed`, in an ordinary backward pass; None where
    `value` does not depend on a place. `again` if another pass will follow.

    Raises `KernelError` if the network has no such pass.
    """
    try:
        with Contiguous():  # a checkpoint calls its layers again
            found = torch.autograd.grad(value, places, seed, retain_graph=again, allow_unused=True)
    except torch.OutOfMemoryError:  # a RuntimeError too, but none of the network's
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise KernelError(f"the network has no ordinary backward pass: {reason}") from error
    # Those of `Embedding(sparse=True)` are sparse.
    return tuple(g if g is None or g.layout == torch.strided else g.to_dense() for g in found)


def gradients_of_several(
    value: torch.Tensor,
    places: list[torch.autograd.graph.GradientEdge],
    seeds: torch.Tensor,
    *,
    again: bool = False,
) -> tuple[torch.Tensor | None, ...]:
    """`gradients_of` for each of `seeds` (k, n, C), the k of them first: in one pass if `vmap`
    can follow the network's operations, else one after another.
    """
    if len(seeds) == 1:
        found = gradients_of(value, places, seeds[0], again=again)
        return tuple(g if g is None else g[None] for g in found)
    try:
        with Contiguous(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            return torch.autograd.grad(
                value, places, seeds, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        found = [gradients_of(value, places, seed, again=True) for seed in seeds]
    return tuple(_together(several) for several in zip(*found, strict=True))


def _together(several: tuple[torch.Tensor | None, ...]) -> torch.Tensor | None:
    """Gradients in one tensor, with zeros for None where not all are."""
    there = [g for g in several if g is not None]
    if not there:
        return None
    return torch.stack([torch.zeros_like(there[0]) if g is None else g for g in several])


def never_one(inputs: torch.Tensor) -> torch.Tensor:
    """A batch of at least two examples: a single one is doubled.

    Networks that drop axes of length 1 then work, and so does PyTorch's backward pass of
    `batch_norm` (`Contiguous`).
    """
    return torch.cat([inputs, inputs]) if len(inputs) == 1 else inputs


class Contiguous(TorchFunctionMode):
    """Gives `batch_norm`, of a layer or called as a function, contiguous gradients: PyTorch 2.15's
    is wrong on the CPU where an axis has length 1, so that an input is contiguous in two memory
    formats, and the gradient is transposed.

    Only around forward and backward passes: it slows down each operation by microseconds.
    """

    def __torch_function__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        output = func(*args, **(kwargs or {}))
        # torch.func's tensors take no hooks; what it gets wrong is found out in the survey.
        plain = func is torch.batch_norm and not is_functorch_wrapped_tensor(output)
        if plain and output.requires_grad and 1 in output.shape:
            output.register_hook(lambda gradient: gradient.contiguous())
        return output


@contextmanager
def mended(model: nn.Module) -> Iterator[None]:
    """Within the block, recurrent layers have backward passes in eval mode that can be followed.

    cuDNN's recurrent layers have no backward pass in eval mode, and oneDNN's LSTM shows none of its
    steps: PyTorch's own are used.
    """

    kinds = {type(module) for module in model.modules()}
    recurrent = any(issubclass(kind, nn.RNNBase) for kind in kinds)
    lstm = any(issubclass(kind, nn.LSTM) for kind in kinds)
    cudnn, onednn = torch.backends.cudnn.enabled, torch.backends.mkldnn.enabled
    torch.backends.cudnn.enabled = cudnn and not recurrent
    torch.backends.mkldnn.enabled = onednn and not lstm
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = cudnn
        torch.backends.mkldnn.enabled = onednn


@contextmanager
def recorded(modules: Iterable[nn.Module]) -> Iterator[list[Call]]:
    """The calls of `modules` within the block, in order."""
    calls: list[Call] = []

    def record(module: nn.Module, args: tuple, kwargs: dict, output: torch.Tensor) -> torch.Tensor:
        # A layer within `torch.vmap` sees one example at a time: its rule does not hold.
        if not torch.is_grad_enabled() or is_functorch_wrapped_tensor(output):
            return output
        if not output.requires_grad:
            # Gradients start here. The copy may be changed in place, a leaf may not.
            output = output.detach().requires_grad_().clone()
        a = (args[0] if args else kwargs["input"]).detach()
        edge = torch.autograd.graph.get_gradient_edge(output)
        calls.append(Call(module, a, a._version, edge, output.shape, output.dtype, output.device))
        return output

    handles = [
        module.register_forward_hook(record, with_kwargs=True, prepend=True) for module in modules
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def references(logits: torch.Tensor) -> tuple[Counter, set]:
    """How often each parameter enters the graph behind `logits`, and the graph's nodes."""
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
    return count, seen


def probes(inputs: torch.Tensor) -> torch.Tensor:
    """Three examples. What is missing is the first, turned round in its last axis."""
    first, turned = inputs[:1], inputs[:1].flip(-1) if inputs.dim() > 1 else inputs[:1]
    return torch.cat([inputs[:3], turned, first])[:3]


def refuse_dependence(
    model: nn.Module, three: torch.Tensor, logits: torch.Tensor, first_two: torch.Tensor
) -> None:
    """Raise `KernelError` if an example's logits are not a function of this example.

    The `logits` of `three` examples and those of the `first_two` alone are compared with those of
    a second pass and of the other pairs. The same operations on the same numbers give the same
    bits; in a batch of another size, they agree to half the digits.
    """
    pairs = ([0, 1], [0, 2], [1, 2])
    logits, again = logits.detach(), logits_of(model, three).detach()
    in_pairs = [first_two, *(logits_of(model, three[pair]) for pair in pairs[1:])]
    in_pairs = [found.detach() for found in in_pairs]
    if not torch.isfinite(logits).all():
        raise KernelError("the network's logits are not finite")
    eps, size = torch.finfo(logits.dtype).eps, logits.abs().max()
    if not (again - logits).abs().max() <= 1e3 * eps * size:
        raise KernelError(
            "the same examples have other logits in a second forward pass: the network draws "
            "random numbers or changes its state in eval mode"
        )
    first, last = in_pairs[1][0] - in_pairs[0][0], in_pairs[2][1] - in_pairs[1][1]
    if not torch.stack([first, last]).abs().max() <= 1e3 * eps * size:
        raise KernelError(
            "an example's logits depend on the other examples of its batch (a batch norm without "
            "running statistics, or in training mode?): the tangent kernel is not defined"
        )
    for pair, found in zip(pairs, in_pairs, strict=True):
        if not (found - logits[pair]).abs().max() <= eps**0.5 * size:
            raise KernelError(
                "an example's logits depend on how many or which other examples are in its batch: "
                "the tangent kernel is not defined"
            )


def kept_values(model: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors computed from parameters that modules hold, by names of module and attribute."""
    found = {}
    for prefix, module in model.named_modules():
        for name, value in {**vars(module), **module._buffers}.items():
            entries = value.items() if isinstance(value, dict) else [("", value)]
            if isinstance(value, list | tuple):
                entries = enumerate(value)
            for key, entry in entries:
                if isinstance(entry, torch.Tensor) and entry.grad_fn is not None:
                    found[f"{prefix}.{name}[{key}]".removeprefix(".").replace("[]", "")] = entry
    return found
