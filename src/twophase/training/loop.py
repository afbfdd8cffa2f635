"""Training from one state to the next: the loop that base runs and forks share."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm

from twophase.store.artifacts import check_origin, read_tensors, write_tensors
from twophase.store.origin import ORIGIN
from twophase.store.paths import Result
from twophase.study import networks, optimizers
from twophase.study.model import Model
from twophase.study.networks import Network
from twophase.study.optimizers import Training
from twophase.study.run import Run
from twophase.training.batches import Data, assemble, draw
from twophase.training.machine import captured
from twophase.training.noise import OtherNoise, network_noise
from twophase.training.tensors import named_state, place, trained

KEEP_MINUTES = 5.0  # of work between two states that are kept by time


@dataclass
class State:
    """All that the next step depends on: parameters and buffers, the optimizer's state, step.

    `optimizer` holds, by name, a tensor for each parameter that is trained, in their order.
    """

    model: nn.Module
    optimizer: dict[str, list[torch.Tensor]]
    step: int

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name: `model.<name>`, and `momentum.<name>` or the like."""
        tensors = {f"model.{name}": t for name, t in named_state(self.model).items()}
        names = trained(self.model)
        for kind, values in self.optimizer.items():
            tensors |= {f"{kind}.{name}": t for name, t in zip(names, values, strict=True)}
        return tensors


def build(network: Network, channels: int, classes: int) -> nn.Module:
    """The network that a study's `network` section describes, as its constructor initialises it."""
    options = network.model_dump(exclude={"architecture"})
    return getattr(networks.imported(network), network.architecture)(channels, classes, **options)


def initial_state(model: Model, data: Data, seed: int) -> State:
    """The state before the first step, on the data's device.

    How a network is initialised is its own business: its constructor draws from PyTorch's
    generator on the CPU, seeded with `seed` and afterwards left as it was.
    """
    channels, device = data.channels, data.train.images.device
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = build(model.network, channels, data.classes)
    network = place(network, device)
    # Zeros and not "none yet", so that a state read from a file continues with the same bits.
    optimizer = {
        name: [torch.zeros_like(p) for p in trained(network).values()]
        for name in optimizers.imported(model.training).STATE
    }
    return State(network, optimizer, 0)


def save_state(result: Result, state: State) -> None:
    """Write a state as safetensors."""
    write_tensors(result, state.tensors())


@torch.no_grad()
def load_state(result: Result, state: State, step: int) -> None:
    """Read the state of iteration `step` into `state`.

    Raises `ArtifactError` if the file is missing, damaged or of another run.
    """
    own = state.tensors()
    shapes = {name: tensor.shape for name, tensor in own.items()}
    for name, tensor in read_tensors(result, shapes).items():
        own[name].copy_(tensor)
    state.step = step


def learning_rate(training: Training, step: int) -> float:
    """Learning rate of step `step`: divided by 10 at each of `lr_drops`, or as `schedule` says."""
    lr = training.lr * 0.1 ** sum(step >= drop for drop in training.lr_drops)
    schedule = training.schedule
    if schedule is None:
        return lr
    if step < schedule.warmup:
        return lr * (step + 1) / schedule.warmup
    if schedule.falls:
        done = min(1.0, (step - schedule.warmup) / (training.schedule_end - schedule.warmup))
        left = 1 - done if schedule.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
        lr *= schedule.end_factor + (1 - schedule.end_factor) * left
    return lr


@torch.no_grad()
def optimizer_step(
    parameters: list[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    state: dict[str, list[torch.Tensor]],
    training: Training,
    step: int,
    origin: list[torch.Tensor] | None = None,
) -> None:
    """One step of the study's optimizer, in place; `origin` as in `optimizers/sgd.py`.

    A parameter that the network did not use has the gradient None. It stays as it is, without
    weight decay, and so does its state, as in `torch.optim`. But Adam's steps are those of training
    for it too, where `torch.optim` counts those that used it.
    """

    def used(values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [v for v, g in zip(values, gradients, strict=True) if g is not None]

    parameters, origin = used(parameters), origin and used(origin)
    state = {name: used(values) for name, values in state.items()}
    gradients = [_in_layout_of(p, g) for p, g in zip(parameters, used(gradients), strict=True)]
    lr = learning_rate(training, step)
    optimizers.imported(training).update(parameters, gradients, state, training, lr, step, origin)


def _in_layout_of(parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """`gradient` with the strides of `parameter`: a fused step pairs what lies at the same place
    in memory, whatever its index.
    """
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def advance(
    state: State,
    run: Run,
    data: Data,
    stop: int,
    after_step: Callable[[], object] | None = None,
    noise: OtherNoise | None = None,
) -> None:
    """Train `state` in place until its step is `stop`, on the mean loss of a batch; with
    other SGD `noise` than the run's own, if that is given.
    """
    if state.step == stop:
        return
    training, augmentation = run.model.training, run.study.data.augmentation
    examples, device = len(data.train.labels), data.train.images.device
    parameters = list(trained(state.model).values())
    state.model.train()

    sizes = examples, training.batch_size, training.drop_last

    def of_step() -> torch.Tensor:
        return draw(augmentation, run.seed, state.step, *sizes, noise)

    def gradients(drawn: torch.Tensor) -> Sequence[torch.Tensor | None]:
        images, labels = assemble(data, augmentation, drawn)
        loss = data.task.loss(state.model(images), labels)
        return torch.autograd.grad(loss, parameters, allow_unused=True)

    # Not for networks of others: their code may do in each step what a graph does not repeat. Nor
    # where some batches are smaller: a graph is of one size.
    own = not isinstance(run.model.network, networks.OF_OTHERS)
    if device.type == "cuda" and own and training.drop_last:
        gradients = captured(gradients, of_step().to(device), state.model.buffers())
    while state.step < stop:
        with network_noise(noise.seed if noise else run.seed, state.step, device):
            found = gradients(of_step().to(device, non_blocking=True))
        optimizer_step(parameters, found, state.optimizer, training, state.step)
        state.step += 1
        if after_step:
            after_step()


def trajectory(
    state: State,
    files: dict[int, Result],
    run: Run,
    data: Data,
    bar: tqdm,
    unfinished: Result,
    keep_minutes: float = KEEP_MINUTES,
    advance: Callable = advance,
) -> Iterator[State]:
    """Carry `state` through the iterations of `files`, keeping each; yield it at each.

    `advance` trains it; other kinds of state have other loops, but also `tensors` and `step`.
    What is there already is read and not trained again, so a run that was stopped resumes from
    its last kept state, and a run with more `files` trains only what is new. Between them the
    state is kept in `unfinished` every `keep_minutes`. Raises `RunError` if what is there was made
    by other packages or on another kind of machine.
    """
    for step, file in files.items():
        if file.path.exists():
            bar.update(step - state.step)
            load_state(file, state, step)
            check_origin(file.path, ORIGIN, "this run")
        else:
            resume(unfinished, state, step, bar)
            keep = _keeper(unfinished, state, keep_minutes)

            def after_step(keep: Callable = keep) -> None:
                bar.update()
                keep()

            advance(state, run, data, step, after_step)
            save_state(file, state)
        yield state
    # Only now: a run that was killed before it came here does so again.
    unfinished.path.unlink(missing_ok=True)


def _keeper(unfinished: Result, state: State, minutes: float) -> Callable[[], None]:
    """A function to call after each step: it writes `state` once `minutes` have passed."""
    last = time.monotonic()

    def keep() -> None:
        nonlocal last
        if time.monotonic() - last >= 60 * minutes:
            tensors = state.tensors() | {"step": torch.tensor(state.step)}
            write_tensors(unfinished, tensors)
            last = time.monotonic()

    return keep


def base_run(
    run: Run,
    data: Data,
    files: dict[int, Result],
    bar: tqdm,
    unfinished: Result,
    keep_minutes: float = KEEP_MINUTES,
) -> Iterator[State]:
    """Train the run from its initial state, as `trajectory` does."""
    state = initial_state(run.model, data, run.seed)
    yield from trajectory(state, files, run, data, bar, unfinished, keep_minutes)


@torch.no_grad()
def resume(unfinished: Result, state: State, stop: int, bar: tqdm) -> None:
    """Carry `state` to the one that was kept by time, if that lies between it and `stop`."""
    if not unfinished.path.exists():
        return
    own = state.tensors() | {"step": torch.tensor(0)}
    shapes = {name: tensor.shape for name, tensor in own.items()}
    kept = read_tensors(unfinished, shapes)
    step = int(kept["step"])
    if state.step < step < stop:
        check_origin(unfinished.path, ORIGIN, "this run")
        for name, tensor in own.items():
            tensor.copy_(kept[name])
        bar.update(step - state.step)
        state.step = step
        print(f"{bar.desc}: resumes at iteration {step}", file=sys.stderr)
