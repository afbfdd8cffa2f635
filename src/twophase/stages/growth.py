"""Stage `growth`: base run and forks side by side from t0, step by step."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from twophase.errors import RunError
from twophase.measures.barrier import barrier, path
from twophase.measures.distance import disagreement, identical
from twophase.measures.growth import branches, finite_size_rate, flip_free_factor, steps_to
from twophase.store.artifacts import read_table, write_table
from twophase.study import stages
from twophase.study.growth import growth_kind, growth_points
from twophase.study.run import Run
from twophase.training.batches import Data, batch, load_data
from twophase.training.evaluation import evaluation_sets, logits
from twophase.training.loop import State, initial_state, load_state, optimizer_step
from twophase.training.machine import prepare
from twophase.training.noise import OtherNoise, network_noise
from twophase.training.perturbation import other_noise, perturb
from twophase.training.progress import progress
from twophase.training.tensors import in_precision, trained

NOISE = 5  # first number of the counters that seed other SGD noise; see batches.py for the others
ENDS = ["test_barrier", "disagreement"]  # after the last step
NEAR, FAR, APART = 0.03, 0.3, 0.1  # distances of the parameters


def growth(run: Run) -> None:
    """Write the tables `growth` and `growth_rate` of one base run.

    Forks from t0 differ from the base run by `perturbation`: Gaussian noise with a standard
    deviation in the parameters, `ulp` (one unit in the last place of one parameter), `noise`
    (no perturbation, but other batches and other dropout: Frankle et al. 2020), `control` (none at
    all), or one that the study names. Both are trained in `precision`.

    `growth`: study, model, seed, t0, precision, perturbation, step (since t0), l2 (distance of the
    parameters), layer and layer_share (the tensor of parameters that has most of its square, and
    how much), logit_distance (root mean square over the first training examples, in eval mode),
    gates and winners (numbers of ReLU gates and pooling winners that differ on these).
    `growth_rate`: the same keys without step, then first_flip (the first step with a gate or winner
    that differs), steps_apart (to distance 0.1), flip_free_factor, finite_size_rate (from 0.03 to
    0.3); infinite or not a number where there is none. With `growth.barrier_points` also
    test_barrier and disagreement after the last step, on the test examples of `evaluation`, with
    batch norm's statistics interpolated.

    Raises `RunError` if a fork without a perturbation is not the base run, bit for bit.
    """
    options = run.model.growth
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    images = data.normalised(data.train.first(options.examples, "growth.examples").images)
    parts = []
    points = growth_points(run)
    with progress(f"growth of {run}", len(points), "point") as bar:
        for t0, precision in points:
            file = stages.growth_part(run, t0, precision)
            if not file.path.exists():
                write_table(file, pd.DataFrame(_side_by_side(run, data, images, t0, precision)))
            parts.append(read_table(file))
            bar.update()
    every = pd.concat(parts, ignore_index=True)
    steps = every.drop(columns=ENDS, errors="ignore")
    keys = ["t0", "precision", "perturbation"]
    rates = [
        {**run.identity, **dict(zip(keys, point, strict=True)), **_rates(rows)}
        for point, rows in every.groupby(keys, sort=False)
    ]
    write_table(stages.run_table(run, "growth"), steps)
    write_table(stages.run_table(run, "growth_rate"), pd.DataFrame(rates))


def _side_by_side(
    run: Run, data: Data, images: torch.Tensor, t0: int, precision: str
) -> list[dict]:
    """The rows of all perturbations at one t0 and precision; the base run is trained once."""
    dtype = getattr(torch, precision)
    base = _in_precision(run, data, t0, dtype)
    names = run.model.growth.perturbations
    forks = {n: _perturbed(_in_precision(run, data, t0, dtype), n, run, data) for n in names}
    images, rows = in_precision(images, dtype), []
    noises = {name: _noise(name, run, t0) for name in names}
    for step in range(run.model.growth.steps + 1):
        seen = branches(base.model, images)
        for name, fork in forks.items():
            row = {**run.identity, "t0": t0, "precision": precision, "perturbation": name}
            row |= {"step": step} | _difference(base, seen, fork, images)
            if name == "control" and not identical(base.model, fork.model):
                raise RunError(
                    f"growth of {run}: from {t0} in {precision}, the fork without perturbation is "
                    f"not the base run after {step} steps; a computation of this machine is not "
                    "deterministic"
                )
            rows.append(row)
        if step == run.model.growth.steps:
            break
        for name, state in (("", base), *forks.items()):
            _train(run, data, state, dtype, *noises.get(name, (run.seed, None)))
    if run.model.growth.barrier_points:
        for row, fork in zip(rows[-len(forks) :], forks.values(), strict=True):
            row |= _end(run, data, base, fork, _in_precision(run, data, t0, dtype), dtype)
    return rows


def _end(
    run: Run, data: Data, base: State, fork: State, between: State, dtype: torch.dtype
) -> dict[str, float]:
    """Barrier and disagreement on the test examples; `between` is overwritten."""
    images, labels = evaluation_sets(data, run.model.evaluation)["test"]
    images = in_precision(images, dtype)
    networks = [state.model for state in (between, base, fork)]
    points, losses = run.model.growth.barrier_points, data.task.losses
    found = path(*networks, points, {"test": (images, labels)}, losses=losses)
    ends = [logits(network, images) for network in networks[1:]]
    apart = disagreement(*ends, data.task.prediction)
    return dict(zip(ENDS, (barrier(*found["test"]), apart), strict=True))


def _noise(name: str, run: Run, t0: int) -> tuple[int, OtherNoise | None]:
    """The seed of a fork's SGD noise, and what else it has of its own."""
    if name == "noise":
        return int(np.random.default_rng((NOISE, run.seed)).integers(2**32)), None
    kind = growth_kind(run, name)
    other = other_noise(kind, run.seed, "1", run, t0) if kind else None
    return (other.seed if other else run.seed), other


def _train(
    run: Run,
    data: Data,
    state: State,
    dtype: torch.dtype,
    seed: int,
    other: OtherNoise | None = None,
) -> None:
    training, augmentation = run.model.training, run.study.data.augmentation
    sizes = training.batch_size, training.drop_last
    images, labels = batch(data, augmentation, seed, state.step, *sizes, other)
    parameters = list(trained(state.model).values())
    state.model.train()
    with network_noise(seed, state.step, images.device):
        loss = data.task.loss(state.model(in_precision(images, dtype)), labels)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    optimizer_step(parameters, gradients, state.optimizer, training, state.step)
    state.step += 1


def _in_precision(run: Run, data: Data, t0: int, dtype: torch.dtype) -> State:
    """The base run's state at t0. Read for each fork: masked weights cannot be copied."""
    state = initial_state(run.model, data, run.seed)
    load_state(stages.base_state(run, t0), state, t0)
    state.model.to(dtype)
    optimizer = {kind: [t.to(dtype) for t in ts] for kind, ts in state.optimizer.items()}
    return State(state.model, optimizer, state.step)


def _perturbed(fork: State, name: str, run: Run, data: Data) -> State:
    if name == "ulp":
        # Of the first entry of the largest parameter tensor, in the precision of the run.
        weight = max(trained(fork.model).values(), key=torch.Tensor.numel)
        with torch.no_grad():
            entry = weight.view(-1)[:1] if weight.is_contiguous() else weight[(0,) * weight.dim()]
            entry.copy_(torch.nextafter(entry, torch.full_like(entry, math.inf)))
    elif kind := growth_kind(run, name):
        perturb(fork.model, kind, run.seed, "1", run, data, fork.step, fork.optimizer)
    return fork


def _difference(base: State, seen: tuple, fork: State, images: torch.Tensor) -> dict:
    ours, theirs = trained(base.model), trained(fork.model)
    squares = {n: float((p - theirs[n]).detach().double().square().sum()) for n, p in ours.items()}
    layer = max(squares, key=squares.get)
    out, gates, winners = branches(fork.model, images)
    total = sum(squares.values())
    return {
        "l2": math.sqrt(total),
        "layer": layer,
        "layer_share": squares[layer] / total if total else 0.0,
        "logit_distance": float((out - seen[0]).double().square().mean().sqrt()),
        "gates": int((gates != seen[1]).sum()),
        "winners": int((winners != seen[2]).sum()),
    }


def _rates(rows: pd.DataFrame) -> dict:
    distances = rows["l2"].tolist()
    flips = (rows["gates"] + rows["winners"]).tolist()
    return {
        "first_flip": steps_to(flips, 1),
        "steps_apart": steps_to(distances, APART),
        "flip_free_factor": flip_free_factor(distances, flips),
        "finite_size_rate": finite_size_rate(distances, NEAR, FAR),
        **{name: rows[name].iloc[-1] for name in ENDS if name in rows},
    }
