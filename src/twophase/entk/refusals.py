"""What has no tangent kernel, or none that could be computed: said before anything is."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from twophase.entk.network import BATCH_NORM, KernelError, gradients_of, logits_of, never_one
from twophase.entk.plan import Task


def checked(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """The inputs, if they and `model` are such as can be derived. Raises `KernelError`."""
    if not isinstance(model, nn.Module):
        raise KernelError(f"model is a {type(model).__name__}: must be a torch.nn.Module")
    if not isinstance(inputs, torch.Tensor):
        remedy = "give a tensor: torch.from_numpy(...) of an array, torch.stack(...) of a list"
        raise KernelError(f"inputs are a {type(inputs).__name__}; {remedy}")
    if inputs.is_nested or inputs.layout != torch.strided:
        kind = "nested" if inputs.is_nested else inputs.layout
        raise KernelError(f"inputs are {kind}: give a dense tensor (to_dense, to_padded_tensor)")
    if not inputs.dim() or not len(inputs):
        raise KernelError("the tangent kernel needs at least one example")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise KernelError(f"{name} has no size yet: run the network once before")
        if tensor.is_inference():
            raise KernelError(
                f"{name} was made within torch.inference_mode, so nothing can be derived by it: "
                "build the network outside of it (torch.no_grad will do)"
            )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.is_complex():
            raise KernelError(
                f"{name} is complex: keep its real and imaginary parts as real parameters, and "
                "join them with torch.complex"
            )
        if parameter.layout != torch.strided:
            raise KernelError(f"{name} is {parameter.layout}: keep it dense (to_dense)")
    return inputs.detach().clone() if inputs.is_inference() else inputs.detach()


def misplaced(model: nn.Module, inputs: torch.Tensor, error: RuntimeError) -> str | None:
    """What is said of inputs that are of another kind than all numbers of a network that fails."""
    own = [p for p in model.parameters() if p.is_floating_point()]
    if own and inputs.device not in {p.device for p in own}:
        return f"inputs are on {inputs.device}, the network on {own[0].device}"
    if own and "type" in str(error) and inputs.dtype not in {p.dtype for p in own}:
        return f"inputs are {inputs.dtype}, the network {own[0].dtype}: inputs.to({own[0].dtype})"
    return None


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raise `KernelError` if a batch norm uses those of the batch at hand in eval mode."""
    for name, module in model.named_modules():
        if isinstance(module, BATCH_NORM) and (module.running_mean is None or module.training):
            raise KernelError(
                f"{name or 'the model'}: {module} uses no running statistics: the logits of one "
                "example would depend on the others"
            )


def refuse_unreached(task: Task) -> None:
    """Raise `KernelError` if there are parameters to derive by, and no logits depend on any."""
    if task.trained and not task.shares:
        raise KernelError(
            "no gradient of the logits reaches a parameter that requires gradients: the network "
            "detaches them, computes them within torch.no_grad, or does not use these parameters"
        )


def refuse_infinite(
    kernel: torch.Tensor, model: nn.Module, inputs: torch.Tensor, task: Task
) -> None:
    """Raise `KernelError` if the kernel holds NaN or infinity, with the reason."""
    wrong = ~kernel.isfinite()
    if not wrong.any():
        return
    row = int(wrong.sum(1).argmax())
    example, logit = divmod(row, task.rows)
    at = example + task.first
    logits = logits_of(model, never_one(inputs[at : at + 1]))
    rows = task.functions(logits)[0]
    value = rows[logit] if task.kind != "trace" else rows.sum()
    names = {parameter: name for name, parameter in model.named_parameters()}
    for parameter, gradient in zip(task.trained, gradients_of(value, task.trained), strict=True):
        if gradient is not None and not gradient.isfinite().all():
            raise KernelError(
                f"the gradient of {names[parameter]} is not finite for example {example}: look for "
                "derivatives that do not exist, such as that of a root at 0, or for numbers above "
                f"{torch.finfo(task.dtype).max:.3g} within the network ({_wider(task.dtype)})"
            )
    raise KernelError(
        f"{int(wrong.sum()):,} of {kernel.numel():,} entries of the tangent kernel overflow: "
        f"{task.dtype} holds at most {torch.finfo(task.dtype).max:.3g}; {_wider(task.dtype)}"
    )


def _wider(dtype: torch.dtype) -> str:
    if dtype == torch.float16:
        return "use float32: model.float() and inputs.float()"
    return "use float64: model.double() and inputs.double()"
