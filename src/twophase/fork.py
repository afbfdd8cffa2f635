"""Stage `fork`: perturb a base run at t0 and train on, with the same SGD noise."""

import numpy as np
import pandas as pd
import torch
from torch import nn

from twophase import paths
from twophase.artifacts import ORIGIN, check_origin, write_table
from twophase.compute import prepare
from twophase.data import load_data
from twophase.progress import progress
from twophase.study import Perturbation, Study
from twophase.train import initial_state, load_state, trajectory

DIRECTION = 3  # first number of the counters that seed directions; see data.py for the others


@torch.no_grad()
def perturb(
    model: nn.Module, perturbation: Perturbation, seed: int, direction: str
) -> tuple[float, float]:
    """Add the perturbation called `direction` to the parameters of `model`, in place.

    The noise is Gaussian and the same for every t0; it is added in float64 and rounded to the
    parameters' float32. Rounding swallows part of it, so the realised perturbation is measured.
    The direction `control` is the perturbation zero.

    Returns its L2 norm, and the share of parameters that it left unchanged.
    """
    if direction == "control":
        return 0.0, 1.0
    rng = np.random.default_rng((DIRECTION, seed, int(direction)))
    parameters = list(model.parameters())
    noise = [torch.from_numpy(rng.standard_normal(p.shape)).to(p.device) for p in parameters]
    scale = perturbation.size
    if perturbation.kind != "std":
        scale /= _norm(noise)
    if perturbation.kind == "relative":
        scale *= _norm(parameters)
    realised = []
    for parameter, direction_of_it in zip(parameters, noise, strict=True):
        before = parameter.double()
        parameter.copy_(before + scale * direction_of_it)
        realised.append(parameter.double() - before)
    unchanged = sum(int((d == 0).sum()) for d in realised)
    return _norm(realised), unchanged / sum(d.numel() for d in realised)


def _norm(tensors: list[torch.Tensor]) -> float:
    """L2 norm of all entries together, in float64."""
    return sum(float(t.double().square().sum()) for t in tensors) ** 0.5


def train_forks(study: Study, model: str, seed: int, t0: int) -> None:
    """Write the checkpoints of all forks from t0, and the table `perturbation`.

    Table: study, model, seed, direction, t0, perturbation_l2 (realised), unchanged (share of
    parameters that rounding left as they were).

    Raises `RunError` if the base run was made by other packages or on another kind of machine.
    """
    plan = study.models[model]
    data = load_data(study, prepare(study.compute))
    identity = {"study": study.name, "model": model, "seed": seed}
    state = initial_state(plan, data, seed)
    origin = paths.checkpoint(paths.base(study, model, seed), t0)
    steps, directions = plan.compare_points(t0), plan.directions(t0)
    rows = []
    total = len(directions) * (steps[-1] - t0)
    with progress(f"forks of {model}, seed {seed}, from {t0}", total) as bar:
        for direction in directions:
            load_state(origin, state, {**identity, "run": "base"}, t0)
            check_origin(origin, ORIGIN, "this fork")
            l2, unchanged = perturb(state.model, plan.chaos.perturbation, seed, direction)
            row = {**identity, "direction": direction, "t0": t0}
            rows.append({**row, "perturbation_l2": l2, "unchanged": unchanged})
            folder = paths.fork(study, model, seed, t0, direction)
            run = {**identity, "run": f"fork {t0} {direction}"}
            for _ in trajectory(state, steps, folder, run, study, plan, data, seed, bar):
                pass
    table = paths.perturbation(study, model, seed, t0)
    write_table(table, pd.DataFrame(rows), {"kind": "perturbation", **identity, "t0": t0})
