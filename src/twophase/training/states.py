"""What a study left, in Python: its networks at any iteration that is kept, the batches that they
saw, the examples that are measured on, and their kernels.

All of it is on the CPU, and nothing of PyTorch is switched: threads, determinism and precision are
the caller's own, so what is computed of a state may be rounded otherwise than the study's tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from twophase.errors import RunError, StudyError
from twophase.store.artifacts import read_tensors
from twophase.store.paths import Result
from twophase.study import stages, studyfile
from twophase.study.base import checkpoints
from twophase.study.chaos import compare_points, forks
from twophase.study.kernel import kernel_steps
from twophase.study.model import STUDIES
from twophase.study.run import Run
from twophase.study.tables import known_run
from twophase.training import batches
from twophase.training.batches import Data, kernel_inputs, load_data
from twophase.training.evaluation import Examples, evaluation_sets
from twophase.training.loop import initial_state, load_state


def network(
    study: str,
    model: str,
    *,
    seed: int,
    t: int,
    fork: tuple[str, int] | None = None,
    root: str | Path = ".",
) -> nn.Module:
    """The network of a run in its state at iteration `t`, in eval mode; with `fork`, a direction
    such as "1" or "control" and the iteration t0 of the perturbation, that of this fork.

    `study`, and the project's folder `root`, are those of `twophase.load`; `model` is its name in
    the study. Raises `StudyError` if the study keeps no such state, `RunError` if it is not there
    yet, with what makes it, `ArtifactError` if its file is damaged.

    >>> import torch, twophase
    >>> base = twophase.network("smoke", "vgg", seed=0, t=12)
    >>> fork = twophase.network("smoke", "vgg", seed=0, t=12, fork=("1", 4))
    >>> pairs = list(zip(base.parameters(), fork.parameters()))
    >>> 0 < max(float((a - b).detach().abs().max()) for a, b in pairs) < 1e-3
    True
    """
    run = _run(study, model, seed, root)
    if fork is None:
        _among(run, t, checkpoints(run), f"no state of {run}")
        file = stages.base_state(run, t)
    else:
        direction, t0 = fork
        there = [(d, at) for at, d in forks(run)] if run.model.chaos else []
        if fork not in there:
            listed = ", ".join(map(str, there)) or "none"
            raise StudyError(f"{study}: fork = {fork}: no such fork of {run}; there are: {listed}")
        _among(run, t, compare_points(run, t0), f"no state of its fork from {t0}")
        file = stages.fork_state(run, t0, direction, t)
    state = initial_state(run.model, _data(run, root), seed)
    load_state(_there(file, run, root), state, t)
    return state.model.eval()


def batch(
    study: str, model: str, *, seed: int, t: int, root: str | Path = "."
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of iteration `t`, which leads from the state at t to that at t + 1, as it was
    trained on: augmented and normalised images (batch_size, C, H, W), float32, and labels.

    Arguments and what is raised are those of `network`; a batch may be of any iteration.

    >>> import twophase
    >>> images, labels = twophase.batch("smoke", "vgg", seed=0, t=3)
    >>> images.shape, labels.shape
    (torch.Size([32, 1, 8, 8]), torch.Size([32]))
    """
    run = _run(study, model, seed, root)
    training, augmentation = run.model.training, run.study.data.augmentation
    if t < 0:
        raise StudyError(f"{study}: t = {t}: must be 0 or more")
    sizes = training.batch_size, training.drop_last
    return batches.batch(_data(run, root), augmentation, seed, t, *sizes)


def examples(study: str, model: str, of: str = "test", *, root: str | Path = ".") -> Examples:
    """The examples that a model is measured on, without augmentation: normalised images (n, C, H,
    W), float32, and labels (n,).

    `of` is `test` or `train`, on which losses, barriers and disagreement are measured, or `kernel`:
    the inputs of the tangent kernel, in its order. The rest is as in `network`.

    >>> import twophase
    >>> images, labels = twophase.examples("smoke", "vgg", "kernel")
    >>> images.shape, sorted(labels.tolist())
    (torch.Size([10, 1, 8, 8]), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    run = _run(study, model, None, root)
    allowed = ["test", "train"] + ["kernel"] * bool(run.model.kernel)
    if of not in allowed:
        raise StudyError(f"{study}: of = {of!r}: must be one of {', '.join(allowed)}")
    data = _data(run, root)
    if of == "kernel":
        chosen = kernel_inputs(data, run.model.kernel)
        return data.normalised(data.train.images[chosen]), data.train.labels[chosen]
    return evaluation_sets(data, run.model.evaluation)[of]


def kernel(study: str, model: str, *, seed: int, t: int, root: str | Path = ".") -> torch.Tensor:
    """The tangent kernel of a run at iteration `t`, as the stage `kernel` left it: (n C, n C) for
    n examples and C classes, or (n, n), as `kernel.kind` says.

    Arguments and what is raised are those of `network`; the examples are `examples(…, "kernel")`.

    >>> import twophase
    >>> twophase.kernel("smoke", "vgg", seed=0, t=4).shape
    torch.Size([100, 100])
    """
    run = _run(study, model, seed, root)
    if run.model.kernel is None:
        raise StudyError(f"{study}: {model} has no section kernel")
    _among(run, t, kernel_steps(run), f"no kernel of {run}")
    file = _there(stages.kernel_file(run, t), run, root)
    return read_tensors(file, {"kernel": (-1, -1)})["kernel"]


def _run(study: str, model: str, seed: int | None, root: str | Path) -> Run:
    """The run that is asked for; without a seed that of the first."""
    studyfile.forget()
    known = studyfile.load(Path(root) / STUDIES / f"{study}.yaml")
    known_run(known, model, seed)
    return Run(known, model, known.seeds[0] if seed is None else seed)


def _among(run: Run, t: int, kept: Iterable[int], what: str) -> None:
    """Raise `StudyError` if the study does not ask for iteration t."""
    if t not in kept:
        listed = ", ".join(map(str, kept))
        raise StudyError(f"{run.study.name}: t = {t}: {what} is kept there; kept are: {listed}")


def _data(run: Run, root: str | Path) -> Data:
    file = _there(stages.data_file(run.study), run, root)
    return load_data(file, run.study.data.images, torch.device("cpu"))


def _there(file: Result, run: Run, root: str | Path) -> Result:
    """The file in the project's folder. Raises `RunError` if it is not there."""
    path = Path(root) / file.path
    if not path.exists():
        command = f"twophase {file.command} {STUDIES / run.study.name}.yaml"
        if stages.STAGES[file.command].scope == "run":
            command += f" --model {run.name} --seed {run.seed}"
        raise RunError(
            f"{path}: is missing: not made with the options and the code as they are now, or "
            f"deleted since; `{command}` makes it, as does `snakemake --cores all "
            f"figures/{run.study.name}/all`"
        )
    return replace(file, path=path)
