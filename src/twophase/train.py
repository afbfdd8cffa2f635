"""SGD from one state to the next: the loop that base runs and forks share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.sgd import sgd
from tqdm import tqdm

from twophase import paths
from twophase.artifacts import ORIGIN, Identity, check_origin, read_tensors, write_tensors
from twophase.data import Data, batch
from twophase.models import initialised
from twophase.study import Augmentation, Model, Study, Training


@dataclass
class State:
    """All that the next step depends on: parameters and buffers, momentum, step."""

    model: nn.Module
    momentum: dict[str, torch.Tensor]
    step: int


def initial_state(plan: Model, data: Data, seed: int) -> State:
    """The state before the first step, on the data's device."""
    channels = data.train.images.shape[1]
    model = initialised(plan.network.model_dump(), channels, data.classes, seed)
    model = model.to(data.train.images.device, memory_format=torch.channels_last)
    # Zeros and not "none yet", so that a state read from a file continues with the same bits.
    momentum = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    return State(model, momentum, 0)


def _tensors(state: State) -> dict[str, torch.Tensor]:
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    return tensors | {f"momentum.{name}": t for name, t in state.momentum.items()}


def save_state(path: Path, state: State, identity: Identity) -> None:
    """Write a state as safetensors: `model.<name>` and `momentum.<name>`."""
    write_tensors(path, _tensors(state), {"kind": "state", **identity, "step": state.step})


@torch.no_grad()
def load_state(path: Path, state: State, identity: Identity, step: int) -> None:
    """Read the state of iteration `step` from `path` into `state`.

    Raises `ArtifactError` if the file is missing, damaged or of another run.
    """
    own = _tensors(state)
    shapes = {name: tensor.shape for name, tensor in own.items()}
    for name, tensor in read_tensors(
        path, {"kind": "state", **identity, "step": step}, shapes
    ).items():
        own[name].copy_(tensor)
    state.step = step


def learning_rate(training: Training, step: int) -> float:
    """Learning rate of step `step`: divided by 10 at each of `lr_drops`."""
    return training.lr * 0.1 ** sum(step >= drop for drop in training.lr_drops)


@torch.no_grad()
def sgd_step(
    parameters: list[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    momentum: list[torch.Tensor],
    training: Training,
    step: int,
) -> None:
    """One step of `torch.optim.SGD`, in place on parameters and momentum.

    The functional form keeps all state in our hands; creating an optimizer object would also load
    PyTorch's compiler, 1.2 s in each job.
    """
    sgd(
        parameters,
        [_in_layout_of(p, g) for p, g in zip(parameters, gradients, strict=True)],
        momentum,
        fused=True,
        lr=learning_rate(training, step),
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        dampening=0.0,
        nesterov=False,
        maximize=False,
    )


def _in_layout_of(parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """`gradient` with the strides of `parameter`: the fused step pairs what lies at the same
    place in memory, whatever its index.
    """
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def advance(
    state: State,
    data: Data,
    augmentation: Augmentation,
    training: Training,
    seed: int,
    stop: int,
    bar: tqdm | None = None,
) -> None:
    """Train `state` in place until its step is `stop`: SGD on the mean cross-entropy of a batch."""
    parameters = list(state.model.parameters())
    momentum = list(state.momentum.values())
    state.model.train()
    while state.step < stop:
        images, labels = batch(data, augmentation, seed, state.step, training.batch_size)
        loss = F.cross_entropy(state.model(images), labels)
        gradients = torch.autograd.grad(loss, parameters)
        sgd_step(parameters, gradients, momentum, training, state.step)
        state.step += 1
        if bar is not None:
            bar.update()


def trajectory(
    state: State,
    steps: list[int],
    folder: Path,
    identity: Identity,
    study: Study,
    plan: Model,
    data: Data,
    seed: int,
    bar: tqdm,
) -> Iterator[State]:
    """Carry `state` through `steps`, keeping each in `folder`; yield it at each.

    What the folder already holds is read and not trained again, so a run that was stopped goes
    on from its last kept state, and a run with more `steps` trains only what is new. Raises
    `RunError` if what is there was made by other packages or on another kind of machine.
    """
    for step in steps:
        file = paths.checkpoint(folder, step)
        if file.exists():
            bar.update(step - state.step)
            load_state(file, state, identity, step)
            check_origin(file, ORIGIN, "this run")
        else:
            advance(state, data, study.data.augmentation, plan.training, seed, step, bar)
            save_state(file, state, identity)
        yield state
