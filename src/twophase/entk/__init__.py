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

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from twophase.entk.action import entk_action
from twophase.entk.check import prove
from twophase.entk.contract import mirror
from twophase.entk.factors import add_shares
from twophase.entk.layers import is_known
from twophase.entk.network import KernelError, Misfit, evaluate, mended
from twophase.entk.plan import Task, passes
from twophase.entk.refusals import checked, refuse_infinite
from twophase.entk.survey import survey

__all__ = ["KernelError", "entk", "entk_action"]


def entk(
    model: nn.Module,
    inputs: torch.Tensor,
    others: torch.Tensor | None = None,
    *,
    kind: Literal["full", "trace", "pseudo"] = "full",
    memory_limit: int | None = None,
    check: bool = True,
    progress: Callable[[float], object] = lambda part: None,
) -> torch.Tensor:
    """Tangent kernel of `model` on `inputs` (n, ...), or between these and `others` (m, ...); the
    network is in eval mode.

    `full`: H[(i, c), (j, d)] = <df_c(x_i)/dtheta, df_d(x_j)/dtheta> (arXiv 2505.13900, section 3),
    shape (n C, n C), rows ordered by example, then class. `trace`: (n, n), the mean over classes of
    the diagonal blocks' entries. `pseudo`: (n, n), with the gradient of the logits' sum over
    sqrt(C) (Mohamadi et al. 2023). theta are the parameters that require gradients. Between two
    sets it is (n C, m C) or (n, m): rows are of `inputs`, columns of `others`.

    `model` maps (n, ...) to logits (n, C), each example by itself; logits may also be the entry
    `logits` of a dict, or the first of a tuple. Convolutions (of 1 to 3 axes), linear layers and
    batch, group and layer norms are contracted layer by layer, other parameters operation by
    operation: matrix products, embeddings, sums, products, norms and convolutions, wherever they
    stand. Functions of parameters go through `torch.func`, or where that fails through plain
    autograd, one backward pass for each example and logit. One warning names them. The result
    has the dtype of the logits and the device of the inputs; it is exactly symmetric, and the same
    in every call for a fixed number of threads. The model stays as it was, but in eval mode.

    With `check`, v' H v is compared with |d(v . f)/dtheta|^2 from ordinary forward and backward
    passes, for two v that are always the same random numbers. That takes a few per cent of the
    time, and memory for two gradients of all parameters.

    `memory_limit` bounds, in bytes, what the engine holds beside the model, the inputs and the
    kernel itself: activations, gradients and work space, 2 GiB by default (or the least that works,
    where that is more). Where not all layers fit at once they are taken in groups, each at the
    price of another forward pass and its backward passes.

    `progress` is called with the part of the steps that is done, up to 1, before the check.

    Layers that only some examples reach, such as experts, go through plain autograd.

    Raises `KernelError`, a `ValueError`: with the least limit that works if a single layer does not
    fit; if an example's logits depend on the other examples, on random numbers or on earlier calls;
    if logits are not finite or not (n, C); if no gradient reaches the parameters, or one is not
    finite; if the kernel overflows its dtype; if a parameter is complex or sparse, or was made in
    inference mode; if the check fails.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> entk(model, torch.tensor([[1.0, 2.0]]))  # <x, x'> for each class
    tensor([[5., 0.],
            [0., 5.]])
    >>> entk(model, torch.tensor([[1.0, 2.0], [0.0, 1.0]]), kind="trace").round()
    tensor([[5., 2.],
            [2., 1.]])
    """
    if kind not in ("full", "trace", "pseudo"):
        raise ValueError(f"kind = {kind!r}: must be 'full', 'trace' or 'pseudo'")
    with torch.inference_mode(False), torch.enable_grad():
        inputs, first = checked(model, inputs), 0
        if others is not None:
            others = checked(model, others)
            inputs, first = torch.cat([others, inputs]), len(others)
        evaluate(model)
        with mended(model):
            kernel, task = _kernel(model, inputs, first, kind, memory_limit, check, progress)
        evaluate(model)
    if task.shares and not kernel.any():
        warnings.warn(
            "the tangent kernel is zero: all derivatives are, as those of round and sign, or too "
            f"small for {task.dtype}",
            stacklevel=2,
        )
    return kernel


def _kernel(
    model: nn.Module,
    inputs: torch.Tensor,
    first: int,
    kind: str,
    limit: int | None,
    check: bool,
    progress: Callable[[float], object],
) -> tuple[torch.Tensor, Task]:
    """The kernel, tried again without the rules for layers that some examples do not obey."""
    required = [(p, p.requires_grad) for p in model.parameters()]
    known = [each for each in model.modules() if is_known(each)]
    layers = [each for each in known if any(p.requires_grad for p in each.parameters())]
    excluded: set[nn.Parameter] = set()
    while True:
        try:
            task = survey(model, inputs, layers, kind, limit, excluded)
            task.first = first
            hooked = any(m._backward_hooks or m._backward_pre_hooks for m in model.modules())
            if not hooked and not any(share.operations for share in task.shares):
                for parameter in model.parameters():
                    parameter.requires_grad_(False)  # backward passes then stop at activations
            columns = first * task.rows or task.size
            shape = (task.size - first * task.rows, columns)
            kernel = inputs.new_zeros(shape, dtype=task.dtype)
            groups = list(passes(task, limit))
            for index, (shares, block, together) in enumerate(groups):
                together = 1 if hooked else together
                for part in add_shares(kernel, model, inputs, task, shares, block, together):
                    progress((index + part) / len(groups))
            for parameter, flag in required:
                parameter.requires_grad_(flag)
            if not first:
                mirror(kernel)
            refuse_infinite(kernel, model, inputs, task)
            if check:
                prove(kernel, model, inputs, task, limit)
            return kernel, task
        except Misfit as found:
            if found.parameters <= excluded:
                raise KernelError(str(found)) from found
            excluded |= found.parameters
        finally:
            for parameter, flag in required:
                parameter.requires_grad_(flag)
