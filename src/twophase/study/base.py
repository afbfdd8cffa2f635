"""Base runs: section `evaluation`, the iterations whose state they keep, and the stage `base`.

How they are trained is the section `training`, in `optimizers.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from twophase.store.paths import Result
from twophase.study import networks, optimizers
from twophase.study.data import DATA
from twophase.study.records import FEW, Count, Section
from twophase.study.run import Run
from twophase.study.stage import Code, Stage, Work, part, since


class Evaluation(Section):
    """How many examples losses and accuracies are measured on (the first ones of each split)."""

    train_examples: Count
    test_examples: Count
    least: ClassVar[dict[str, Any]] = {"train_examples": FEW, "test_examples": FEW}


def checkpoints(run: Run) -> list[int]:
    """Iterations at which a base run keeps its state: every one that a later stage reads."""
    return run.among("base", run.model.checkpoints())


def base_state(run: Run, t: int) -> Result:
    """The base run's state at iteration t."""
    return part(BASE, "state", run, ".safetensors", t=t)


def images(run: Run) -> int:
    """The images that losses and accuracies are measured on."""
    return run.model.evaluation.train_examples + run.model.evaluation.test_examples


def _options(run: Run) -> list:
    """Network, batches and training."""
    # The length of training is not part of it, unless the learning rate falls to its end: a longer
    # run begins with the shorter one.
    model = run.model
    training = model.training.options(exclude={"iterations", "lr_drops"})
    if model.training.schedule_end:
        training["schedule"]["until"] = model.training.schedule_end
    drops = [drop for drop in model.training.lr_drops if drop < model.training.iterations]
    augmentation, compute = run.study.data.augmentation, run.study.compute
    network = model.network.options(exclude=networks.BESIDE)
    return [augmentation.options(), compute.options(), network, training, drops]


def _code(run: Run) -> Code:
    """Code of the training loop, the network and its optimizer."""
    network, training = run.model.network, run.model.training
    own = networks.code(network)
    return "training.loop", "training.machine", *own, optimizers.module(training)


BASE = Stage(
    "base",
    "Train one model from one seed.",
    scope="run",
    reads=(DATA,),
    tables={"training": ("t",)},
    options=_options,
    parts=lambda run: [base_state(run, t) for t in checkpoints(run)],
    grid=lambda run: [run.model.evaluation.options(), checkpoints(run)],
    # Train from the checkpoint before; all checkpoints are evaluated, old ones too.
    work=lambda run, part: Work(since(part.identity["t"], 0, checkpoints(run)), 0),
    always=lambda run: len(checkpoints(run)) * images(run),
    code=_code,
    named=("data.augmentation", "compute", "network", "training", "training.lr_drops"),
    points=("evaluation", "checkpoints"),
    summarised=("training",),
    keeps_time=True,
    minutes=1440,
)
