"""Stage `chaos`: compare every fork with its base run."""

import pandas as pd
import torch

from twophase import metrics, paths
from twophase.artifacts import Identity, check_origin, read_header, read_table, write_table
from twophase.compute import prepare
from twophase.data import load_data
from twophase.errors import RunError
from twophase.progress import progress
from twophase.study import Study
from twophase.train import initial_state, load_state

SPLITS = ("train", "test")


def compare_forks(study: Study, model: str, seed: int) -> None:
    """Write the tables `chaos` and `barrier_path` of one base run and all its forks.

    `chaos`: study, model, seed, direction, t0, t1, perturbation_l2, dissimilarity, l2,
    train_barrier, test_barrier, disagreement (test), identical (all bits of the two networks),
    state_dissimilarity (with batch norm's buffers among the parameters), then loss and accuracy of
    both ends. `barrier_path`: study, model, seed, direction, t0, t1, split, alpha (1 is the base
    run), loss. Comparisons that are there already are kept.

    Raises `RunError` if a fork with perturbation zero is not the base run, bit for bit, or if
    fork and base run were made by other packages or on another kind of machine.
    """
    plan = study.models[model]
    data = load_data(study, prepare(study.compute))
    sets = metrics.evaluation_sets(data, plan.evaluation)
    recalibrate = sets["train"][0] if plan.chaos.barrier_batch_norm == "recalibrate" else None
    points = plan.chaos.barrier_points
    alphas = [index / (points - 1) for index in range(points)]
    identity = {"study": study.name, "model": model, "seed": seed}
    base, fork, between = (initial_state(plan, data, seed) for _ in range(3))
    perturbation_l2 = _perturbations(study, model, seed)

    parts = []
    # Base run state by base run state: each is read, and evaluated, once.
    pairs = [
        (t1, t0, direction)
        for t1 in plan.chaos.compare
        for t0 in plan.chaos.forks
        if t0 < t1
        for direction in plan.directions(t0)
    ]
    with progress(f"comparisons of {model}, seed {seed}", len(pairs), "pair") as bar:
        for t1, t0, direction in pairs:
            key: Identity = {**identity, "direction": direction, "t0": t0, "t1": t1}
            part = paths.comparison(study, model, seed, t0, direction, t1)
            if not part.exists():
                base_file = paths.checkpoint(paths.base(study, model, seed), t1)
                if base.step != t1:
                    load_state(base_file, base, {**identity, "run": "base"}, t1)
                    base_vector = metrics.parameter_vector(base.model)
                    base_state = metrics.state_vector(base.model)
                    base_ends = _ends(base.model, sets)
                file = paths.checkpoint(paths.fork(study, model, seed, t0, direction), t1)
                load_state(file, fork, {**identity, "run": f"fork {t0} {direction}"}, t1)
                check_origin(file, read_header(base_file)["origin"], str(base_file))
                fork_vector = metrics.parameter_vector(fork.model)
                fork_ends = _ends(fork.model, sets)
                identical = metrics.identical(base.model, fork.model)
                if direction == "control" and not identical:
                    raise RunError(
                        f"{file}: the fork of {model}, seed {seed}, from {t0} without "
                        f"perturbation is not the base run at {t1}; a kernel of this machine is "
                        "not deterministic, the network draws random numbers (dropout), or "
                        "threads, device or packages changed in between"
                    )
                losses = metrics.path_losses(
                    between.model, base.model, fork.model, alphas, sets, recalibrate
                )
                row = {
                    **key,
                    "perturbation_l2": perturbation_l2[t0, direction],
                    "dissimilarity": metrics.dissimilarity(base_vector, fork_vector),
                    "l2": metrics.l2(base_vector, fork_vector),
                    "train_barrier": metrics.barrier(alphas, losses["train"]),
                    "test_barrier": metrics.barrier(alphas, losses["test"]),
                    "disagreement": metrics.disagreement(base_ends["test"], fork_ends["test"]),
                    "identical": identical,
                    "state_dissimilarity": metrics.dissimilarity(
                        base_state, metrics.state_vector(fork.model)
                    ),
                }
                for run, ends in (("base", base_ends), ("fork", fork_ends)):
                    for split, (_, labels) in sets.items():
                        row[f"{run}_{split}_loss"] = metrics.mean_loss(ends[split], labels)
                        row[f"{run}_{split}_accuracy"] = metrics.accuracy(ends[split], labels)
                row |= {f"{split}_path": losses[split] for split in SPLITS}
                write_table(part, pd.DataFrame([row]), {"kind": "comparison", **key})
            parts.append(read_table(part, {"kind": "comparison", **key}))
            bar.update()

    compared = pd.concat(parts, ignore_index=True)
    path_rows = [
        {**{name: row[name] for name in key}, "split": split, "alpha": alpha, "loss": loss}
        for row in compared.to_dict("records")
        for split in SPLITS
        for alpha, loss in zip(alphas, row[f"{split}_path"], strict=True)
    ]
    table = paths.barrier_path(study, model, seed)
    write_table(table, pd.DataFrame(path_rows), {"kind": "barrier_path", **identity})
    compared = compared.drop(columns=[f"{split}_path" for split in SPLITS])
    write_table(paths.chaos(study, model, seed), compared, {"kind": "chaos", **identity})


def _perturbations(study: Study, model: str, seed: int) -> dict[tuple[int, str], float]:
    """The realised L2 norm of each perturbation, by t0 and direction."""
    norms = {}
    for t0 in study.models[model].chaos.forks:
        table = paths.perturbation(study, model, seed, t0)
        expect = {"kind": "perturbation", "study": study.name, "model": model, "seed": seed}
        rows = read_table(table, {**expect, "t0": t0})
        for direction, norm in zip(rows["direction"], rows["perturbation_l2"], strict=True):
            norms[t0, direction] = norm
    return norms


def _ends(model: torch.nn.Module, sets: dict[str, metrics.Examples]) -> dict[str, torch.Tensor]:
    return {split: metrics.logits(model, images) for split, (images, _) in sets.items()}
