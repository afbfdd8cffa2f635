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
from dataclasses import replace
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import nn

from twophase import figures
from twophase.errors import Problem, RunError, in_a_line
from twophase.figures import pictures
from twophase.stages import network_checks, network_starts, own_checks, perturbation_checks
from twophase.stages.linearized import linear_logits
from twophase.stages.summary import summary
from twophase.store.artifacts import write_table, write_tensors
from twophase.study import stages
from twophase.study.functions import at_its_line
from twophase.study.model import STUDIES, Model, Study
from twophase.study.records import FEW, Record
from twophase.study.run import Run, runs
from twophase.study.stages import missing
from twophase.study.tasks import own
from twophase.training.batches import Data, Split, load_data
from twophase.training.layer_calls import described, raising
from twophase.training.loop import initial_state
from twophase.training.machine import prepare
from twophase.training.tasks import CLASSIFICATION, of_outputs

OWN = ("own_measures", "own_stages")  # stages of the user's own functions


class Few(Record):
    """The first examples of a source, however many these are."""

    source: str
    channels: int | None
    image_size: int
    form: str
    shape: tuple[int, ...]
    task: Any
    beside: ClassVar[frozenset[str]] = frozenset()


def check(study: Study) -> None:
    """Write the table `check`: study, model, stage, a row for each stage that was tried.

    Raises `RunError` with a line for each network that a stage would fail with.
    """
    file = stages.data_file(study)
    data = _few(load_data(file, study.data.images, prepare(study.compute)))
    rows, faults = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in study.models:
            run = Run(study, name, study.seeds[0])
            tried = [s for s, row in stages.STAGES.items() if row.scope == "run" and _has(run, s)]
            try:
                _try(run, tried, data, folder)
            except RunError as fault:
                faults.append(f"{STUDIES / study.name}.yaml: models.{name}: {fault}")
            else:
                rows += [{"study": study.name, "model": name, "stage": stage} for stage in tried]
                print(f"{name}: {', '.join(tried)} do their work", file=sys.stderr)
        if faults:
            raise RunError("\n".join(faults))
        with chdir(folder), redirect_stderr(io.StringIO()):
            _draw(study, data)
    write_table(stages.check_mark(study), pd.DataFrame(rows))


def _has(run: Run, stage: str) -> bool:
    section = stages.STAGES[stage].section
    return section is None or bool(getattr(run.model, section))


def _few(data: Data) -> Data:
    """The first examples of each split, and one of the last class: it says how many there are."""
    labels = data.train.labels
    chosen = torch.arange(min(4 * FEW, len(labels)), device=labels.device)
    if labels.dim() == 1:
        chosen = torch.cat([chosen, labels.argmax()[None]]).unique()
    train = Split(data.train.images[chosen], labels[chosen])
    test = Split(data.test.images[:FEW], data.test.labels[:FEW])
    return replace(data, train=train, test=test)


def _try(run: Run, tried: list[str], data: Data, folder: str) -> None:
    """Do the work of some stages of a run, in brief, in a folder; `RunError` if one fails."""
    brief = _brief(run)
    images, labels = data.normalised(data.train.images[:FEW]), data.train.labels[:FEW]
    with _told("base", brief, data):
        if own(run.study.data.images.task):
            own_checks.task(brief, data, images, labels)
        state = network_checks.two_steps(brief, data, images)
        network_starts.other_weights(run, data)
    loss = data.task.loss
    trials = {
        "fork": lambda: perturbation_checks.same_again(brief, data, run.model, state),
        "kernel": lambda: network_checks.two_examples(
            state.model, images, brief.model.kernel.kind, _outputs(brief, state.model, data)
        ),
        "curvature": lambda: network_checks.second_derivatives(state.model, images, labels, loss),
        "linearized": lambda: network_checks.tangents(state.model, images, linear_logits),
    }
    compute = run.study.compute
    for stage, attempt in trials.items():
        if stage in tried:
            prepare(compute.of_kernels() if stage == "kernel" else compute)
            with _told(stage, brief, data):
                attempt()
    # Kernels are of an example of each class: minutes, where there are a hundred.
    there = [stage for stage in tried if stages.STAGES[stage].section != "kernel"]
    brief = _brief(run, without="kernel")
    with chdir(folder), redirect_stderr(io.StringIO()):
        _write(brief.study, data)
        for stage in there:
            with _told(stage, brief, data):
                stages.imported(stage)(brief)
                if stage in OWN:
                    own_checks.same_again(brief, stage)


def _outputs(run: Run, model: nn.Module, data: Data) -> nn.Module:
    """What the kernel of a network is of."""
    return of_outputs(model, data.task, data.classes, run.model.kernel.projection)


def _draw(study: Study, data: Data) -> None:
    """Draw all figures of the study once, from the runs of two iterations that lie in the working
    directory. Raises `RunError` if one fails.

    Kernels are made up, and labels too, so that there is an example of each class: figures ask what
    tables hold, and not what made them.
    """
    few = _few_of(study, {name: _short(model) for name, model in study.models.items()})
    if data.task is CLASSIFICATION:
        count = max(len(data.train.labels), data.classes)
        places = torch.arange(count, device=data.train.labels.device)
        images = data.train.images[places % len(data.train.labels)]
        data = replace(data, train=Split(images, places % data.classes))
    _write(few, data)
    for run in runs(few):
        if run.model.kernel:
            _made_up(run, run.model.kernel.examples or data.classes)
        for stage in missing(run):
            stages.imported(stage)(run)
    for stage, row in stages.STAGES.items():
        if row.scope == "study" and row.tables and stages.runs_of(few, stage):
            stages.imported(stage)(few)
    for table in stages.tables_of(few):
        summary(few, table)
    for figure in figures.asked(few):
        given = study.figures.get(figure)
        key = f"{STUDIES / study.name}.yaml"
        try:
            own_checks.drawn(study, few, figure) if given else pictures.tried(few, figure)
        except Problem as error:  # says what to do
            raise RunError(f"{key}: {error}") from None
        except Exception as error:
            module = figure if figure in figures.FIGURES else "own"
            place = given.function if given else f"figures/{module}.py"
            said = at_its_line(error) if given else in_a_line(error)
            line = f"figure {figure} cannot be drawn from two iterations: {said}; mend {place}"
            raise RunError(f"{key}: {line}") from error


def _made_up(run: Run, inputs: int) -> None:
    """Kernels (inputs, inputs) of a run, and the table of them."""
    noise, rows = torch.Generator().manual_seed(0), []
    for t in run.model.kernel.steps():
        factor = torch.randn(inputs, 4, generator=noise)
        write_tensors(stages.kernel_file(run, t), {"kernel": factor @ factor.T})
        rows.append({**run.identity, "t": t, "norm": 1.0})
    write_table(stages.run_table(run, "kernel"), pd.DataFrame(rows))


def _brief(run: Run, without: str = "") -> Run:
    """The run in a study of two iterations that has one model, one seed and few images."""
    model = _short(run.model) if without else run.model.brief()
    if without:
        model = model.model_copy(update={without: None})
    return Run(_few_of(run.study, {run.name: model}), run.name, run.seed)


def _short(model: Model) -> Model:
    """The model in brief; what the user perturbs by is tried by itself, at the study's own t0."""
    return perturbation_checks.without_own(model.brief())


def _few_of(study: Study, models: dict[str, Model]) -> Study:
    """The study with these models, one seed and few images."""
    images = study.data.images
    said = {name: getattr(images, name) for name in Few.model_fields}
    few = Few(**said)
    update = {
        "data": study.data.model_copy(update={"images": few}),
        "models": models,
        "seeds": study.seeds[:1],
    }
    return study.model_copy(update=update)


def _write(study: Study, data: Data) -> None:
    tensors = {"mean": data.mean, "std": data.std}
    if data.vocabulary:
        tensors = {"vocabulary": torch.arange(data.vocabulary)}
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
        task, place = run.study.data.images.task, at_its_line(error)
        if own(task) and place.startswith(f"{task.file}:"):
            raise RunError(f"stage {stage}: data.images.task: {place}") from error
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
