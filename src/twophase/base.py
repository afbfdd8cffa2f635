"""Stage `base`: train one model from one seed, keeping every state that a later stage reads."""

import math

import pandas as pd

from twophase import paths
from twophase.artifacts import write_table
from twophase.compute import prepare
from twophase.data import load_data
from twophase.errors import RunError
from twophase.metrics import accuracy, evaluation_sets, logits, mean_loss
from twophase.progress import progress
from twophase.study import Study
from twophase.train import initial_state, learning_rate, trajectory


def train_base(study: Study, model: str, seed: int) -> None:
    """Write the checkpoints of the base run and the table `training`.

    Table: study, model, seed, t, lr, then loss and accuracy on the training and test examples
    that `evaluation` names, with batch norm at its running statistics. Raises `RunError` if the
    training diverges.
    """
    plan = study.models[model]
    data = load_data(study, prepare(study.compute))
    sets = evaluation_sets(data, plan.evaluation)
    identity = {"study": study.name, "model": model, "seed": seed}
    state = initial_state(plan, data, seed)
    rows = []
    with progress(f"base run of {model}, seed {seed}", plan.training.iterations) as bar:
        folder, steps = paths.base(study, model, seed), plan.checkpoints()
        run = {**identity, "run": "base"}
        for at in trajectory(state, steps, folder, run, study, plan, data, seed, bar):
            row = {**identity, "t": at.step, "lr": learning_rate(plan.training, at.step)}
            for name, (images, labels) in sets.items():
                out = logits(at.model, images)
                row[f"{name}_loss"] = mean_loss(out, labels)
                row[f"{name}_accuracy"] = accuracy(out, labels)
                if not math.isfinite(row[f"{name}_loss"]):
                    raise RunError(
                        f"{model}, seed {seed}: training diverged; the {name} loss at iteration "
                        f"{at.step} is {row[f'{name}_loss']}; choose a smaller training.lr"
                    )
            rows.append(row)
    table = paths.training(study, model, seed)
    write_table(table, pd.DataFrame(rows), {"kind": "training", **identity})
