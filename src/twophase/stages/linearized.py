"""Stage `linearized`: train normally to a switch, then the linearised network to the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call

from twophase.store.artifacts import read_table, write_table
from twophase.study import stages
from twophase.study.linearized import linearized_steps, switches
from twophase.study.run import Run
from twophase.training.attention import plain_attention
from twophase.training.batches import Data, batch, load_data
from twophase.training.evaluation import CHUNK, Examples, evaluation_sets
from twophase.training.loop import (
    KEEP_MINUTES,
    State,
    initial_state,
    load_state,
    optimizer_step,
    trajectory,
)
from twophase.training.machine import prepare
from twophase.training.progress import progress
from twophase.training.tasks import CLASSIFICATION, Task
from twophase.training.tensors import trained

Tensors = dict[str, torch.Tensor]


@dataclass
class LinearState:
    """The linearised network: where it departs from, theta - theta_t, the optimizer's state."""

    origin: State
    offset: Tensors
    optimizer: dict[str, list[torch.Tensor]]
    step: int

    def tensors(self) -> Tensors:
        """All tensors by name: `offset.<name>`, and `momentum.<name>` or the like."""
        tensors = {f"offset.{name}": t for name, t in self.offset.items()}
        for kind, values in self.optimizer.items():
            tensors |= {f"{kind}.{n}": t for n, t in zip(self.offset, values, strict=True)}
        return tensors


def linearize(origin: State) -> LinearState:
    """The linearised network at `origin`, whose optimizer state it carries over."""
    offset = {name: torch.zeros_like(p) for name, p in trained(origin.model).items()}
    optimizer = {kind: [t.clone() for t in values] for kind, values in origin.optimizer.items()}
    return LinearState(origin, offset, optimizer, origin.step)


def linear_logits(
    model: nn.Module, offset: Tensors, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """f(x; theta_t), with its graph where gradients are enabled, and J(x) offset, each
    (n, classes): their sum is the linearised network.

    Batch norm is at its running statistics, and nothing is dropped out. One pass in forward mode
    gives both; where the network has an operation without that, two backward passes do
    (`by_double_backward`).
    """
    model.eval()
    with plain_attention():
        try:
            return by_forward_mode(model, offset, images)
        except NotImplementedError:
            pass  # and here, not within this block, which would keep that pass's memory
        return by_double_backward(model, offset, images)


def by_forward_mode(
    model: nn.Module, offset: Tensors, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`linear_logits` in one forward pass of dual numbers.

    For each convolution or linear layer it costs three products where a step of normal training
    costs one; the backward pass, two more in both, makes a linearised step 5/3 of a normal one.
    """
    parameters = trained(model)
    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(p, offset[name]) for name, p in parameters.items()}
        out = forward_ad.unpack_dual(_with(model, duals, images))
    if out.tangent is None:
        raise NotImplementedError("the network's output has no tangent")
    return out.primal, out.tangent.detach()


def by_double_backward(
    model: nn.Module, offset: Tensors, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`linear_logits` by derivatives of derivatives: J^T u is linear in u, and the derivative of
    <J^T u, offset> with respect to u is J offset.
    """
    parameters, graph = trained(model), torch.is_grad_enabled()
    with torch.enable_grad():
        out = _with(model, parameters, images)
        u = torch.zeros_like(out, requires_grad=True)
        pulled = torch.autograd.grad(
            out, list(parameters.values()), u, create_graph=True, allow_unused=True
        )
        pairs = zip(pulled, offset.values(), strict=True)
        product = sum((gradient * along).sum() for gradient, along in pairs if gradient is not None)
        (tangent,) = torch.autograd.grad(product, u, retain_graph=graph)
    return out if graph else out.detach(), tangent


def _with(model: nn.Module, values: Tensors, images: torch.Tensor) -> torch.Tensor:
    """The output of the network with `values` in the place of its trained parameters."""
    # Each module is named once; entk/jacobians.py does the same and says why. From there it is not
    # imported, because every edit of the kernel engine would then make this stage stale.
    names = {parameter: name for name, parameter in trained(model).items()}
    places = {
        f"{prefix}.{role}".lstrip("."): values[names[parameter]]
        for prefix, module in model.named_modules()
        for role, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if parameter in names
    }
    return functional_call(model, places, (images,), tie_weights=False)


def advance_linearized(
    state: LinearState,
    run: Run,
    data: Data,
    stop: int,
    after_step: Callable[[], object] | None = None,
) -> None:
    """Train f(x; theta_t) + J(x) (theta - theta_t) in place until its step is `stop`.

    The loss, batches, learning rates and weight decay are those of normal training. Dropout is
    not: the model is the expansion of the network that is evaluated, as its kernel is.
    """
    training, augmentation = run.model.training, run.study.data.augmentation
    model, offset = state.origin.model, list(state.offset.values())
    origin = list(trained(model).values())
    while state.step < stop:
        sizes = training.batch_size, training.drop_last
        images, labels = batch(data, augmentation, run.seed, state.step, *sizes)
        primal, tangent = linear_logits(model, state.offset, images)
        out = (primal.detach() + tangent).requires_grad_()
        (pull,) = torch.autograd.grad(data.task.loss(out, labels), out)
        # The linear model's gradient is J(x)^T pull, whatever theta: a backward pass at theta_t.
        gradients = torch.autograd.grad(primal, origin, pull, allow_unused=True)
        optimizer_step(offset, gradients, state.optimizer, training, state.step, origin)
        state.step += 1
        if after_step:
            after_step()


def evaluate(
    run: Run, state: LinearState, sets: dict[str, Examples], task: Task = CLASSIFICATION
) -> dict:
    """The row of the end of linearised training."""
    row = {**run.identity, "switch": state.origin.step, "diverged": False}
    for name, (images, labels) in sets.items():
        with torch.no_grad():  # without the graph, which is larger than all else
            chunks = [
                linear_logits(state.origin.model, state.offset, chunk)
                for chunk in images.split(CHUNK)
            ]
        out = torch.cat([primal + tangent for primal, tangent in chunks])
        row["diverged"] |= not bool(out.isfinite().all())
        row |= task.scores(out, labels, name)
    return row


def linearized(run: Run, keep_minutes: float = KEEP_MINUTES) -> None:
    """Write the table `linearized` of one base run.

    Table: study, model, seed, switch, then loss, and accuracy where the task has one, of the
    linearised network at the end of training on the training and test examples of `evaluation`, and
    `diverged`: whether its logits are no longer finite. A loss that is not a number is the mark of
    such a run.
    """
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    sets = evaluation_sets(data, run.model.evaluation)
    origin = initial_state(run.model, data, run.seed)
    stop, chosen = run.model.training.iterations, switches(run)
    rows = []
    total = sum(stop - switch for switch in chosen)
    with progress(f"linearised training of {run}", total) as bar:
        for switch in chosen:
            end = stages.linearized_end(run, switch)
            steps = linearized_steps(run, switch)
            files = {t: stages.linearized_state(run, switch, t) for t in steps}
            if all(file.path.exists() for file in [end, *files.values()]):
                bar.update(stop - switch)
            else:
                load_state(stages.base_state(run, switch), origin, switch)
                state = linearize(origin)
                kept = stages.unfinished(files[stop])
                for _ in trajectory(
                    state, files, run, data, bar, kept, keep_minutes, advance_linearized
                ):
                    pass
                write_table(end, pd.DataFrame([evaluate(run, state, sets, data.task)]))
            rows.append(read_table(end))
    write_table(stages.run_table(run, "linearized"), pd.concat(rows, ignore_index=True))
