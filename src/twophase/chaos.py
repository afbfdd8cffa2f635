"""Stage `chaos`: compare every fork with its base run."""

import pandas as pd
import torch

from twophase import metrics, paths
from twophase.artifacts import read_table, write_table
from twophase.compute import prepare
from twophase.data import load_data
from twophase.errors import RunError
from twophase.progress import progress
from twophase.study import Study
from twophase.train import initial_state, load_state


def compare_forks(study: Study, model: str, seed: int) -> None:
    """Write the tables `chaos` and `barrier_path` of one base run and all its forks.

    `chaos`: study, model, seed, direction, t0, t1, perturbation_l2, dissimilarity, l2,
    train_barrier, test_barrier, disagreement (test), identical (all bits of the two networks),
    then loss and accuracy of both ends. `barrier_path`: study, model, seed, direction, t0, t1,
    split, alpha (1 is the base run), loss.

    Raises `RunError` if a fork with perturbation zero is not the base run, bit for bit.
    """
    plan = study.models[model]
    data = load_data(study, prepare(study.compute))
    sets = metrics.evaluation_sets(data, plan.evaluation)
    recalibrate = sets["train"][0] if plan.chaos.barrier_batch_norm == "recalibrate" else None
    points = plan.chaos.barrier_points
    alphas = [index / (points - 1) for index in range(points)]
    identity = {"study": study.name, "model": model, "seed": seed}
    base, fork, between = (initial_state(plan, data, seed) for _ in range(3))

    perturbation_l2 = {}
    for t0 in plan.chaos.forks:
        table = paths.perturbation(study, model, seed, t0)
        perturbations = read_table(table, {"kind": "perturbation", **identity, "t0": t0})
        for direction, norm in zip(
            perturbations["direction"], perturbations["perturbation_l2"], strict=True
        ):
            perturbation_l2[t0, direction] = norm

    rows, path_rows = [], []
    # Base run by base run state: each is read, and evaluated, once.
    pairs = [
        (t1, t0, direction)
        for t1 in plan.chaos.compare
        for t0 in plan.chaos.forks
        if t0 < t1
        for direction in plan.directions(t0)
    ]
    with progress(f"comparisons of {model}, seed {seed}", len(pairs), "pair") as bar:
        for t1, t0, direction in pairs:
            if base.step != t1:
                file = paths.checkpoint(paths.base(study, model, seed), t1)
                load_state(file, base, {**identity, "run": "base"}, t1)
                base_vector = metrics.parameter_vector(base.model)
                base_state = _state_vector(base.model)
                base_ends = _ends(base.model, sets)
            file = paths.checkpoint(paths.fork(study, model, seed, t0, direction), t1)
            load_state(file, fork, {**identity, "run": f"fork {t0} {direction}"}, t1)
            fork_vector = metrics.parameter_vector(fork.model)
            fork_ends = _ends(fork.model, sets)
            losses = metrics.path_losses(
                between.model, base.model, fork.model, alphas, sets, recalibrate
            )
            key = {**identity, "direction": direction, "t0": t0, "t1": t1}
            row = {
                **key,
                "perturbation_l2": perturbation_l2[t0, direction],
                "dissimilarity": metrics.dissimilarity(base_vector, fork_vector),
                "l2": metrics.l2(base_vector, fork_vector),
                "train_barrier": metrics.barrier(alphas, losses["train"]),
                "test_barrier": metrics.barrier(alphas, losses["test"]),
                "disagreement": metrics.disagreement(base_ends["test"], fork_ends["test"]),
                "identical": metrics.identical(base.model, fork.model),
                "state_dissimilarity": metrics.dissimilarity(
                    base_state, _state_vector(fork.model)
                ),
            }
            if direction == "control" and not row["identical"]:
                raise RunError(
                    f"{file}: the fork of {model}, seed {seed}, from {t0} without perturbation "
                    f"is not the base run at {t1}; a kernel of this machine is not deterministic, "
                    "or threads, device or packages changed in between"
                )
            for run, ends in (("base", base_ends), ("fork", fork_ends)):
                for name, (_, labels) in sets.items():
                    row[f"{run}_{name}_loss"] = metrics.mean_loss(ends[name], labels)
                    row[f"{run}_{name}_accuracy"] = metrics.accuracy(ends[name], labels)
            rows.append(row)
            path_rows += [
                {**key, "split": name, "alpha": alpha, "loss": loss}
                for name in sets
                for alpha, loss in zip(alphas, losses[name], strict=True)
            ]
            bar.update()
    table = paths.barrier_path(study, model, seed)
    write_table(table, pd.DataFrame(path_rows), {"kind": "barrier_path", **identity})
    table = paths.chaos(study, model, seed)
    write_table(table, pd.DataFrame(rows), {"kind": "chaos", **identity})


def _state_vector(model: torch.nn.Module) -> torch.Tensor:
    """All parameters and buffers, also batch norm's counters of batches, as one float64 vector."""
    return torch.cat([t.double().flatten() for t in model.state_dict().values()])


def _ends(model: torch.nn.Module, sets: dict[str, metrics.Examples]) -> dict[str, torch.Tensor]:
    return {name: metrics.logits(model, images) for name, (images, _) in sets.items()}
