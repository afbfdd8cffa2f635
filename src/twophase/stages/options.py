"""What each stage's parts are made by, where that is more than a section of the study file.

What is excluded is named, so that a new option counts until somebody says that it does not.
"""

from __future__ import annotations

from twophase import networks, optimizers
from twophase.functions import Place
from twophase.study import Run

Code = tuple[str | Place, ...]  # modules of this package, and the user's own files
KERNEL_GRID = {"every", "until", "references", "intervals"}  # which kernels, not what they are


def data(run: Run) -> dict:
    """The images, but for what lies beside them, and their statistics where they are given."""
    images, statistics = run.study.data.images, run.study.data.statistics
    given = {"statistics": statistics.options()} if statistics else {}
    return images.options(exclude=set(images.beside)) | given


def base(run: Run) -> list:
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


def base_code(run: Run) -> Code:
    """Code of the base run: of its network and its optimizer among it."""
    network, training = run.model.network, run.model.training
    return "training", "compute", *networks.code(network), optimizers.module(training)


def comparison(run: Run) -> list:
    """How a fork is compared with its base run."""
    elsewhere = {"forks", "compare", "directions", "control", "perturbation", "barrier_threshold"}
    barrier = run.model.chaos.options(exclude=elsewhere)
    return [barrier, run.model.evaluation.options()]


def check(run: Run) -> list:
    """All models of the study, in brief."""
    study = run.study
    beside = {"network": networks.BESIDE}
    models = {name: m.brief().options(exclude=beside) for name, m in study.models.items()}
    return [study.data.augmentation.options(), study.compute.options(), models]


def matching(run: Run) -> list:
    """How units are matched, and the networks compared then."""
    return [run.model.matching.options(exclude={"compare"}), comparison(run)]


def linearized(run: Run) -> list:
    """The end of training, and what is evaluated there."""
    return [run.model.training.iterations, run.model.evaluation.options()]
