"""Stage `base`: train one model from one seed, keeping every state that a later stage reads."""

import math

import pandas as pd

from twophase.errors import RunError, in_a_line
from twophase.store.artifacts import write_table
from twophase.study import stages
from twophase.study.base import checkpoints
from twophase.study.model import check_sizes
from twophase.study.run import Run
from twophase.training.batches import Data, load_data
from twophase.training.evaluation import evaluation_sets, logits
from twophase.training.loop import KEEP_MINUTES, base_run, initial_state, learning_rate
from twophase.training.machine import prepare
from twophase.training.noise import network_noise
from twophase.training.progress import progress


def base(run: Run, keep_minutes: float = KEEP_MINUTES) -> None:
    """Write the checkpoints of the base run and the table `training`.

    Table: study, model, seed, t, lr, then loss, and accuracy where the task has one, on the
    training and test examples that `evaluation` names, with batch norm at its running statistics.
    Raises `RunError` if the training diverges.
    """
    model, training = run.model, run.model.training
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    train = data.train.labels
    check_sizes(run.study, [run.name], len(train), len(data.test.labels), data.rarest)
    full, left = divmod(len(train), training.batch_size)
    if left and not training.drop_last and training.iterations > full:
        _try_a_batch_of(left, run, data)
    sets = evaluation_sets(data, model.evaluation)
    files = {t: stages.base_state(run, t) for t in checkpoints(run)}
    unfinished = stages.unfinished(files[0])
    rows = []
    with progress(f"base run of {run}", training.iterations) as bar:
        for at in base_run(run, data, files, bar, unfinished, keep_minutes):
            row = {**run.identity, "t": at.step, "lr": learning_rate(training, at.step)}
            for name, (images, labels) in sets.items():
                out = logits(at.model, images)
                row |= data.task.scores(out, labels, name)
                if not math.isfinite(row[f"{name}_loss"]):
                    raise RunError(
                        f"{run}: training diverged; the {name} loss at iteration "
                        f"{at.step} is {row[f'{name}_loss']}; choose a smaller training.lr"
                    )
            rows.append(row)
    write_table(stages.run_table(run, "training"), pd.DataFrame(rows))


def _try_a_batch_of(left: int, run: Run, data: Data) -> None:
    """Raise `RunError` if the network fails on as many examples as the last, smaller batch of an
    epoch has (batch norm needs more than one value of a channel): now, and not after an epoch.
    """
    model = initial_state(run.model, data, run.seed).model.train()
    images = data.normalised(data.train.images[:left])
    try:
        with network_noise(run.seed, 0, images.device):
            model(images)
    except Exception as error:  # a network is any code
        raise RunError(
            f"{run}: training.drop_last = False: the last batch of each epoch has {left} of "
            f"{len(data.train.labels)} examples, and the network fails on as many "
            f"({in_a_line(error)}); choose another training.batch_size"
        ) from None
