"""Stage `chaos`: compare every fork with its base run."""

import functools

import numpy as np
import pandas as pd
import torch
from torch import nn

from twophase.errors import RunError
from twophase.measures import barrier, distance
from twophase.store.artifacts import check_origin, read_header, read_table, write_table
from twophase.study import stages
from twophase.study.chaos import alone, comparisons
from twophase.study.run import Run
from twophase.training.batches import load_data
from twophase.training.evaluation import Examples, evaluation_sets, logits
from twophase.training.loop import State, initial_state, load_state
from twophase.training.machine import prepare
from twophase.training.progress import progress
from twophase.training.tasks import CLASSIFICATION, Task

SPLITS = ("train", "test")
RECALIBRATED = "test_recalibrated"  # the path whose batch norm is measured again
Sets = dict[str, Examples]


def chaos(run: Run) -> None:
    """Write the tables `chaos` and `barrier_path` of one base run and all its forks.

    `chaos`: study, model, seed, direction, t0, t1, perturbation_l2, dissimilarity, l2,
    train_barrier, test_barrier, disagreement (test, of what the task predicts), identical (all bits
    of the two networks), state_dissimilarity (with batch norm's buffers among the parameters), then
    loss, and accuracy where the task has one, of both ends, train_gap and test_gap (the largest gap
    within the path, with its sign). Where the study asks for it, test_barrier_recalibrated: the
    test barrier with batch norm's statistics measured again along the path. `barrier_path`: study,
    model, seed, direction, t0, t1, split, alpha (1 is the base run), loss. Losses and barriers are
    in the unit of the task's loss. Comparisons that are there already are kept.

    Raises `RunError` if a fork with perturbation zero is not the base run, bit for bit, or if
    fork and base run were made by other packages or on another kind of machine.
    """
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    sets = evaluation_sets(data, run.model.evaluation)
    # The base run, a fork, and the networks between them.
    networks = [initial_state(run.model, data, run.seed) for _ in range(3)]
    ends: dict[str, torch.Tensor] = {}
    points = comparisons(run)
    parts = []
    with progress(f"comparisons of {run}", len(points), "pair") as bar:
        for t0, direction, t1 in points:
            file = stages.comparison(run, t0, direction, t1)
            if not file.path.exists():
                base = networks[0]
                if base.step != t1 or not ends:  # read, and evaluated, once
                    load_state(stages.base_state(run, t1), base, t1)
                    ends = _ends(base, sets)
                row = compare(run, t0, direction, t1, networks, ends, sets, data.task)
                write_table(file, pd.DataFrame([row]))
            # A part has but the number of its direction: what it is called makes no result.
            parts.append(read_table(file).assign(direction=direction))
            bar.update()

    compared = pd.concat(parts, ignore_index=True)
    write_table(stages.run_table(run, "barrier_path"), _paths(compared))
    own = compared.drop(columns=[c for c in compared if c.endswith(("_path", "_alphas"))])
    write_table(stages.run_table(run, "chaos"), own.assign(**_gaps(compared)))


def compare(
    run: Run,
    t0: int,
    direction: str,
    t1: int,
    networks: list[State],
    base_ends: dict[str, torch.Tensor],
    sets: Sets,
    task: Task = CLASSIFICATION,
) -> dict:
    """The row of one comparison, with the losses along both paths.

    `networks` are the base run, in its state at t1 and with the logits `base_ends`, and two
    states that are overwritten: the fork's, and that between the two.
    """
    base, fork, between = networks
    base_file, fork_file = stages.base_state(run, t1), stages.fork_state(run, t0, direction, t1)
    load_state(fork_file, fork, t1)
    check_origin(fork_file.path, read_header(base_file.path)["origin"], str(base_file.path))
    fork_ends = _ends(fork, sets)
    identical = distance.identical(base.model, fork.model)
    if direction == "control" and not identical:
        raise RunError(
            f"{fork_file.path}: the fork of {run}, from {t0} without "
            f"perturbation is not the base run at {t1}; a kernel of this machine is "
            "not deterministic, the network draws random numbers (dropout), or "
            "threads, device or packages changed in between"
        )
    paths = _measured_paths(run, [state.model for state in (between, base, fork)], sets, task)
    vectors = [distance.parameter_vector(state.model) for state in (base, fork)]
    states = [distance.state_vector(state.model) for state in (base, fork)]
    perturbed = read_table(stages.perturbation(run, t0, direction))
    row = {
        **run.identity,
        "direction": alone(run, direction)[1],
        "t0": t0,
        "t1": t1,
        "perturbation_l2": perturbed["perturbation_l2"].item(),
        "dissimilarity": distance.dissimilarity(*vectors),
        "l2": distance.l2(*vectors),
        "train_barrier": barrier.barrier(*paths["train"]),
        "test_barrier": barrier.barrier(*paths["test"]),
        "disagreement": distance.disagreement(
            base_ends["test"], fork_ends["test"], task.prediction
        ),
        "identical": identical,
        "state_dissimilarity": distance.dissimilarity(*states),
    }
    for name, ends in (("base", base_ends), ("fork", fork_ends)):
        for split, (_, labels) in sets.items():
            row |= task.scores(ends[split], labels, f"{name}_{split}")
    if RECALIBRATED in paths:
        row["test_barrier_recalibrated"] = barrier.barrier(*paths[RECALIBRATED])
    for name, (alphas, losses) in paths.items():
        row[f"{name}_path"] = losses
        if run.model.chaos.barrier_refine:
            row[f"{name}_alphas"] = alphas
    return row


def _measured_paths(
    run: Run, networks: list[nn.Module], sets: Sets, task: Task
) -> dict[str, barrier.LossPath]:
    """The path's losses on each split, and on the test examples with other statistics if asked.

    `networks` are the one that is overwritten, the base run and the fork.
    """
    options = run.model.chaos
    images, test = sets["train"][0], {RECALIBRATED: sets["test"]}
    measured = functools.partial(
        barrier.path, *networks, options.barrier_points, losses=task.losses
    )
    again = images if options.barrier_batch_norm == "recalibrate" else None
    paths = measured(sets, again, options.barrier_refine)
    if options.recalibrated:
        paths |= measured(test, images, options.barrier_refine)
    return paths


def _ends(state: State, sets: Sets) -> dict[str, torch.Tensor]:
    return {split: logits(state.model, images) for split, (images, _) in sets.items()}


def _path(row: dict, name: str) -> barrier.LossPath:
    """A path of a comparison; without alphas it is evenly spaced. A table gives back a loss that is
    not a number as None.
    """
    losses = np.asarray(row[f"{name}_path"], float).tolist()
    even = [index / (len(losses) - 1) for index in range(len(losses))]
    return list(row.get(f"{name}_alphas", even)), losses


def _paths(compared: pd.DataFrame) -> pd.DataFrame:
    """The table `barrier_path`: a row for each point of each path."""
    key = ("study", "model", "seed", "direction", "t0", "t1")
    names = [c.removesuffix("_path") for c in compared if c.endswith("_path")]
    return pd.DataFrame(
        {**{name: row[name] for name in key}, "split": split, "alpha": alpha, "loss": loss}
        for row in compared.to_dict("records")
        for split in names
        for alpha, loss in zip(*_path(row, split), strict=True)
    )


def _gaps(compared: pd.DataFrame) -> dict[str, list[float]]:
    """The columns with the largest gaps."""
    rows = compared.to_dict("records")
    return {
        f"{split}_gap": [barrier.largest_gap(*_path(row, split)) for row in rows]
        for split in SPLITS
    }
