"""Stage `check`: try every stage on two batches of each network, before hours of training.

What would fail in a later stage fails here, in one line that names the stage, the layer where it is
known, and the remedy.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, suppress

import pandas as pd
import torch

from twophase.errors import Problem, RunError
from twophase.stages import network_checks, network_starts
from twophase.stages.linearized import linear_logits
from twophase.store.artifacts import write_table, write_tensors
from twophase.study import stages
from twophase.study.datasets import Source
from twophase.study.model import STUDIES, Study
from twophase.study.records import FEW
from twophase.study.run import Run
from twophase.training.batches import Data, Split, load_data
from twophase.training.layer_calls import described, raising
from twophase.training.loop import initial_state
from twophase.training.machine import prepare


class Few(Source):
    """The first images of a source, however many these are."""

    source: str
    channels: int
    image_size: int


def check(study: Study) -> None:
    """Write the table `check`: study, model, stage, a row for each stage that was tried.

    Raises `RunError` with a line for each network that a stage would fail with.
    """
    file = stages.data_file(study)
    data = _few(load_data(file, study.data.images, prepare(study.compute)))
    rows, faults = [], []
    for name in study.models:
        run = Run(study, name, study.seeds[0])
        tried = [s for s, row in stages.STAGES.items() if row.scope == "run" and _has(run, s)]
        try:
            _try(run, tried, data)
        except RunError as fault:
            faults.append(f"{STUDIES / study.name}.yaml: models.{name}: {fault}")
        else:
            rows += [{"study": study.name, "model": name, "stage": stage} for stage in tried]
            print(f"{name}: {', '.join(tried)} do their work", file=sys.stderr)
    if faults:
        raise RunError("\n".join(faults))
    write_table(stages.check_mark(study), pd.DataFrame(rows))


def _has(run: Run, stage: str) -> bool:
    section = stages.STAGES[stage].section
    return section is None or bool(getattr(run.model, section))


def _few(data: Data) -> Data:
    """The first examples of each split, and one of the last class: it says how many there are."""
    labels = data.train.labels
    chosen = torch.arange(min(4 * FEW, len(labels)), device=labels.device)
    chosen = torch.cat([chosen, labels.argmax()[None]]).unique()
    train = Split(data.train.images[chosen], labels[chosen])
    test = Split(data.test.images[:FEW], data.test.labels[:FEW])
    return Data(train, test, data.classes, data.mean, data.std)


def _try(run: Run, tried: list[str], data: Data) -> None:
    """Do the work of some stages of a run, in brief. Raises `RunError` if one fails."""
    brief = _brief(run)
    images, labels = data.normalised(data.train.images[:FEW]), data.train.labels[:FEW]
    with _told("base", brief, data):
        state = network_checks.two_steps(brief, data, images)
        network_starts.other_weights(run, data)
    own = {
        "kernel": lambda: network_checks.two_examples(state.model, images, brief.model.kernel.kind),
        "curvature": lambda: network_checks.second_derivatives(state.model, images, labels),
        "linearized": lambda: network_checks.tangents(state.model, images, linear_logits),
    }
    compute = run.study.compute
    for stage, attempt in own.items():
        if stage in tried:
            prepare(compute.of_kernels() if stage == "kernel" else compute)
            with _told(stage, brief, data):
                attempt()
    # Kernels are of an example of each class: minutes, where there are a hundred.
    there = [stage for stage in tried if stages.STAGES[stage].section != "kernel"]
    brief = _brief(run, without="kernel")
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stderr(io.StringIO()):
        _write(brief.study, data)
        for stage in there:
            with _told(stage, brief, data):
                stages.imported(stage)(brief)


def _brief(run: Run, without: str = "") -> Run:
    """The run in a study of two iterations that has one model, one seed and few images."""
    model, images = run.model.brief(), run.study.data.images
    if without:
        model = model.model_copy(update={without: None})
    few = Few(source=images.source, channels=images.channels, image_size=images.image_size)
    update = {
        "data": run.study.data.model_copy(update={"images": few}),
        "models": {run.name: model},
        "seeds": [run.seed],
    }
    return Run(run.study.model_copy(update=update), run.name, run.seed)


def _write(study: Study, data: Data) -> None:
    tensors = {"mean": data.mean, "std": data.std}
    for name, split in (("train", data.train), ("test", data.test)):
        tensors |= {f"{name}_images": split.images, f"{name}_labels": split.labels}
    write_tensors(stages.data_file(study), tensors)


@contextmanager
def _told(stage: str, run: Run, data: Data) -> Iterator[None]:
    """Tell whatever goes wrong within the block as a fault of this stage, in one line."""
    section = stages.STAGES[stage].section
    try:
        yield
    except Problem as error:  # says what to do
        raise RunError(f"stage {stage}: {'; '.join(str(error).splitlines())}") from None
    except Exception as error:  # a network is any code
        where = raising(error) or _underivable(run, data)
        said = re.split(r"\n|\. ", str(error).strip())[0][:200] or type(error).__name__
        remedy = f", or do without this stage: `{section}: false`" if section else ""
        raise RunError(f"stage {stage}: {where}: {said}; mend the network{remedy}") from error


def _underivable(run: Run, data: Data) -> str:
    """The layer that has no derivative, in words."""
    with suppress(Exception):
        model = initial_state(run.model, data, run.seed).model
        images = data.normalised(data.train.images[:FEW])
        return described(model, network_checks.underivable(model, images))
    return "layer unknown"
