"""Stage `curvature`: how sharply the training loss bends along a base run."""

import math

import pandas as pd

from twophase.measures.curvature import batch_sharpness, sharpness
from twophase.store.artifacts import read_table, write_table
from twophase.study import stages
from twophase.study.curvature import curvature_steps
from twophase.study.optimizers import SGD, Training
from twophase.study.run import Run
from twophase.training.batches import batch, load_data
from twophase.training.loop import initial_state, learning_rate, load_state
from twophase.training.machine import prepare
from twophase.training.noise import network_noise
from twophase.training.progress import progress


def curvature(run: Run) -> None:
    """Write the table `curvature` of one base run.

    Table: study, model, seed, t, sharpness (of the first training examples, without
    augmentation), batch_sharpness (of the batches that follow t), threshold = 2 / lr, and
    momentum_threshold = 2 (1 + momentum) / lr, beyond which a step along the sharpest direction
    of a quadratic loss grows (Cohen et al. 2021); with Nesterov's momentum the second is divided by
    1 + 2 momentum. Both are infinite at lr 0, and not a number for other optimizers than SGD.
    Dropout is on, drawn from (seed, t): both are of the loss that training descends.
    """
    options, training = run.model.curvature, run.model.training
    augmentation, sizes = run.study.data.augmentation, (training.batch_size, training.drop_last)
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    first = data.train.first(options.examples, "curvature.examples")
    images = data.normalised(first.images)
    loss = data.task.loss
    around = (images, first.labels), options.lanczos_steps, loss
    state = initial_state(run.model, data, run.seed)
    steps, rows = curvature_steps(run), []
    with progress(f"curvature of {run}", len(steps), "state") as bar:
        for t in steps:
            file = stages.curvature_at(run, t)
            if not file.path.exists():
                load_state(stages.base_state(run, t), state, t)
                batches = [
                    batch(data, augmentation, run.seed, t + i, *sizes)
                    for i in range(options.batches)
                ]
                row = {**run.identity, "t": t}
                with network_noise(run.seed, t, images.device):
                    row["sharpness"] = sharpness(state.model, *around)
                with network_noise(run.seed, t, images.device):
                    row["batch_sharpness"] = batch_sharpness(state.model, batches, loss)
                row |= _thresholds(training, learning_rate(training, t))
                write_table(file, pd.DataFrame([row]))
            rows.append(read_table(file))
            bar.update()
    table = pd.concat(rows, ignore_index=True)
    write_table(stages.run_table(run, "curvature"), table)


def _thresholds(training: Training, lr: float) -> dict[str, float]:
    """The sharpness beyond which SGD grows, without and with its momentum."""
    if not isinstance(training, SGD):
        return dict.fromkeys(("threshold", "momentum_threshold"), math.nan)
    if lr == 0:
        return dict.fromkeys(("threshold", "momentum_threshold"), math.inf)
    momentum = training.momentum
    ahead = 1 + 2 * momentum * training.nesterov
    return {"threshold": 2 / lr, "momentum_threshold": 2 * (1 + momentum) / (ahead * lr)}
