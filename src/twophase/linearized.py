"""Stage `linearized`: train normally to a switch, then the linearised network to the end."""

from __future__ import annotations

import pandas as pd
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.func import functional_call
from tqdm import tqdm

from twophase import paths
from twophase.artifacts import Identity, read_table, write_table
from twophase.compute import prepare
from twophase.data import Data, batch, load_data
from twophase.metrics import CHUNK, accuracy, evaluation_sets, mean_loss
from twophase.progress import progress
from twophase.study import Augmentation, Study, Training
from twophase.train import State, initial_state, load_state, sgd_step

Tensors = dict[str, torch.Tensor]


def linear_logits(state: State, offset: Tensors, images: torch.Tensor) -> tuple:
    """f(x; theta_t), with its graph where gradients are enabled, and J(x) offset, each
    (n, classes): their sum is the model.

    Batch norm is at its running statistics. One pass in forward mode gives both.
    """
    state.model.eval()
    parameters = dict(state.model.named_parameters())
    with forward_ad.dual_level():
        duals = {n: forward_ad.make_dual(p, offset[n]) for n, p in parameters.items()}
        out = forward_ad.unpack_dual(functional_call(state.model, duals, (images,)))
    return out.primal, out.tangent.detach()


def advance_linearized(
    state: State,
    data: Data,
    augmentation: Augmentation,
    training: Training,
    seed: int,
    stop: int,
    bar: tqdm | None = None,
) -> Tensors:
    """Train f(x; theta_t) + J(x) (theta - theta_t) from `state`, at step t, to step `stop`.

    The loss, batches, learning rates, weight decay and the momentum carried over are those of
    normal training. Returns theta - theta_t.
    """
    origin = dict(state.model.named_parameters())
    offset = {name: torch.zeros_like(p) for name, p in origin.items()}
    momentum = [buffer.clone() for buffer in state.momentum.values()]
    for step in range(state.step, stop):
        images, labels = batch(data, augmentation, seed, step, training.batch_size)
        primal, tangent = linear_logits(state, offset, images)
        out = (primal.detach() + tangent).requires_grad_()
        (pull,) = torch.autograd.grad(F.cross_entropy(out, labels), out)
        # The linear model's gradient is J(x)^T pull, whatever theta: a backward pass at theta_t.
        gradients = torch.autograd.grad(primal, list(origin.values()), pull)
        # The step decays the offset by itself; weight decay is of origin and offset.
        gradients = [
            gradient + training.weight_decay * parameter.detach()
            for gradient, parameter in zip(gradients, origin.values(), strict=True)
        ]
        sgd_step(list(offset.values()), gradients, momentum, training, step)
        if bar is not None:
            bar.update()
    return offset


def train_linearized(study: Study, model: str, seed: int) -> None:
    """Write the table `linearized` of one base run.

    Table: study, model, seed, switch, then loss and accuracy of the linearised network at the end
    of training on the training and test examples of `evaluation`, and `diverged`: whether its
    logits are no longer finite. A loss that is not a number is the mark of such a run.
    """
    plan = study.models[model]
    data = load_data(study, prepare(study.compute))
    sets = evaluation_sets(data, plan.evaluation)
    identity = {"study": study.name, "model": model, "seed": seed}
    state = initial_state(plan, data, seed)
    stop, switches = plan.training.iterations, plan.linearized.switches
    table = paths.linearized(study, model, seed)
    rows = []
    total = sum(stop - switch for switch in switches)
    with progress(f"linearised training of {model}, seed {seed}", total) as bar:
        for switch in switches:
            part = paths.switch(study, model, seed, switch)
            part_identity: Identity = {"kind": "switch", **identity, "switch": switch}
            if part.exists():
                bar.update(stop - switch)
            else:
                file = paths.checkpoint(paths.base(study, model, seed), switch)
                load_state(file, state, {**identity, "run": "base"}, switch)
                offset = advance_linearized(
                    state, data, study.data.augmentation, plan.training, seed, stop, bar
                )
                row = {**identity, "switch": switch, "diverged": False}
                for name, (images, labels) in sets.items():
                    with torch.no_grad():  # without the graph, which is larger than all else
                        chunks = [linear_logits(state, offset, x) for x in images.split(CHUNK)]
                    out = torch.cat([primal + tangent for primal, tangent in chunks])
                    row["diverged"] |= not bool(out.isfinite().all())
                    row[f"{name}_loss"] = mean_loss(out, labels)
                    row[f"{name}_accuracy"] = accuracy(out, labels)
                write_table(part, pd.DataFrame([row]), part_identity)
            rows.append(read_table(part, part_identity))
    write_table(table, pd.concat(rows, ignore_index=True), {"kind": "linearized", **identity})
