"""What the stages of a study cost on this machine, measured on a small piece of the study.

Each stage is done for real, in a scratch folder: a few iterations, one fork, two kernels. A network
that is slow gets fewer examples there. The table of stages says how much work that was (`work`);
so the price of a unit is known, and from it that of the whole. All times are of the processor: what
else the machine does counts little.
"""

from __future__ import annotations

import io
import math
import resource
import tempfile
import time
import warnings
from collections.abc import Iterable
from contextlib import chdir, redirect_stderr
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls

from twophase.errors import Problem, RunError
from twophase.jobs import lacking
from twophase.store.artifacts import write_tensors
from twophase.store.paths import Result
from twophase.study import stages
from twophase.study.chaos import Perturbation
from twophase.study.kernel import Kernel
from twophase.study.model import STUDIES, Study
from twophase.study.run import Run
from twophase.study.stage import Work
from twophase.training.batches import load_data
from twophase.training.loop import advance, initial_state
from twophase.training.machine import prepare

ITERATIONS = 2  # of the shorter trial
LONGER = 0.5  # seconds of training that the longer trial adds, as far as one iteration is shorter
QUICK = 1.0  # seconds; what takes fewer is done twice, and the faster one counts: the first is cold
SLOW = 8.0  # seconds; a stage that takes longer is tried with the fewest iterations only
EXAMPLES = 0.25  # seconds in which the examples of a trial pass through the network
DECODING = 80e-9  # seconds for each byte of an image, of those in CIFAR-10 as JPEG files


class Price(NamedTuple):
    """Seconds of processor time: to begin, for an iteration, and for a unit of other work."""

    start: float = 0.0
    iteration: float = 0.0
    rest: float = 0.0

    def of(self, works: Iterable[Work]) -> float:
        """The price of all these, done in one go."""
        each = (w.iterations * self.iteration + w.rest * self.rest for w in works)
        return self.start + sum(each)


class Measured(NamedTuple):
    """Prices by model and stage (the study's own stages have the model ""); bytes of a unit of a
    file's size, by model and kind of result; the most memory that this process held, in bytes.
    """

    prices: dict[tuple[str, str], Price]
    disk: dict[tuple[str, str], float]
    memory: int


def measure(study: Study) -> Measured:
    """Try the stages of each model, each in a folder of its own that is deleted then: models of a
    sweep share results, and what is there costs nothing.

    Raises `RunError` if a stage fails.
    """
    file = stages.data_file(study)
    source = file.path.absolute()
    prices, disk = {}, {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not source.exists():
            source = Path(folder).resolve() / file.path
            with chdir(folder):
                prices["", "data"] = _bring(study, file)
        disk["", "data"] = source.stat().st_size
        for name in study.models:
            with tempfile.TemporaryDirectory() as own, chdir(own):
                file.path.parent.mkdir(parents=True)
                file.path.symlink_to(source)
                _try(Run(study, name, study.seeds[0]), prices, disk)
    # As timed: 1.9 s for the two networks of digits, 4 s for ResNet-20, 20 s for VGG-16.
    tried = sum(1 + 10 * prices[name, "base"].iteration for name in study.models)
    prices["", "check"] = Price(rest=tried)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB, on Linux
    return Measured(prices, disk, 1024 * peak)


def _bring(study: Study, file: Result) -> Price:
    """Write the data file, of random images if the real ones are not at hand, and say what it costs
    to make.
    """
    images = study.data.images
    if images.source == "digits" or images.form != "images":  # which are at hand, and small
        started = time.process_time()
        _quietly("data", study)
        return Price(rest=time.process_time() - started)
    classes = getattr(images, "classes", None) or 10
    shape = images.channels, images.image_size, images.image_size
    tensors = {"mean": torch.full(shape[:1], 127.5), "std": torch.full(shape[:1], 74.0)}
    for split, otherwise in (("train", 5000), ("test", 1000)):
        count = getattr(images, f"{split}_examples", None) or otherwise
        tensors[f"{split}_images"] = torch.randint(256, (count, *shape), dtype=torch.uint8)
        tensors[f"{split}_labels"] = torch.arange(count) % classes
    write_tensors(file, tensors)
    return Price(rest=DECODING * sum(t.nbytes for t in tensors.values()))


def _try(run: Run, prices: dict, disk: dict) -> None:
    """Find the prices of all stages of a model, and the sizes of its files."""
    device = prepare(run.study.compute)
    for _ in range(2):  # the second time counts
        started = time.process_time()
        data = load_data(stages.data_file(run.study), run.study.data.images, device)
        loading = time.process_time() - started
    state = initial_state(run.model, data, run.seed)
    advance(state, run, data, 1)  # whose memory is new
    started = time.process_time()
    advance(state, run, data, 2)
    step = time.process_time() - started
    del data, state
    # A forward pass is a third of a step.
    examples = max(32, int(EXAMPLES * 3 * run.model.training.batch_size / step))
    short = _brief(run, ITERATIONS, examples)
    longer = _brief(run, ITERATIONS + min(30, max(1, int(LONGER / step))), examples)
    tried = [stage for stage in stages.STAGES if stage not in ("data", "check")]
    for stage in (stage for stage in tried if stages.runs_of(short.study, stage)):
        prices[run.name, stage] = _price(stage, short, longer, loading)
        for result, work in _results(stage, short):
            size = 512 * result.path.stat().st_blocks
            disk[run.name, str(result.identity["kind"])] = size / work.disk


def _brief(run: Run, iterations: int, examples: int) -> Run:
    """The run in a study with that model and seed only, of few iterations and examples."""
    model = run.model.brief()
    chosen = {
        "training": {"iterations": iterations, "batch_size": run.model.training.batch_size},
        "evaluation": {
            name: min(examples, getattr(run.model.evaluation, name))
            for name in ("train_examples", "test_examples")
        },
        # Forks that are far from the base run, as they are later: then units take long to match.
        "chaos": {
            "compare": [iterations],
            "control": [],
            "perturbation": Perturbation(kind="relative", size=1.0),
            "perturbations": {},
        },
        "kernel": {"every": iterations, "until": iterations, "intervals": [iterations]},
        "curvature": {"every": iterations},
        "growth": {"steps": iterations - 1},
        "matching": {"compare": [iterations]},
    }
    # A kernel's input costs some 20 to 70 forward passes, of ten classes.
    most = {
        "kernel": _kernel_inputs(model.kernel, examples),
        "curvature": ("examples", examples // 2),
        "growth": ("examples", examples),
    }
    for section, (option, value) in most.items():
        if own := getattr(run.model, section):
            chosen[section][option] = min(getattr(own, option), max(1, value))
    if model.growth:
        chosen["growth"]["perturbations"] = ["1e-7"]  # all cost about the same
    sections = {
        section: getattr(model, section).model_copy(update=options)
        for section, options in chosen.items()
        if getattr(model, section)
    }
    sections["sizes"] = None  # made of forks and comparisons
    models = {run.name: model.model_copy(update=sections)}
    study = run.study.model_copy(update={"models": models, "seeds": [run.seed]})
    return Run(study, run.name, run.seed)


def _kernel_inputs(kernel: Kernel | None, examples: int) -> tuple[str, int]:
    """The option that says how many inputs a kernel has, and as many as a trial can afford."""
    if kernel and kernel.examples:
        return "examples", examples // 15
    return "examples_per_class", examples // 150


def _price(stage: str, short: Run, longer: Run, loading: float) -> Price:
    """What a stage costs, by doing it; `loading` is what reading the data costs."""
    row = stages.STAGES[stage]
    seconds, work = _timed(stage, short)
    if not row.parts(short):
        start = loading if row.scope == "run" else 0
        return Price(start, rest=max(0, seconds - start) / work.rest)
    for table in row.tables:
        stages.run_table(short, table).path.unlink()
    start, _ = _timed(stage, short)  # with all parts there
    trials = [(max(0, seconds - start), work)]
    if work.iterations and seconds < SLOW:
        seconds, work = _timed(stage, longer)
        trials.append((max(0, seconds - start), work))
    if always := row.always(short):  # what is done then, too, is in `start`
        iteration = sum(s for s, _ in trials) / sum(w.iterations for _, w in trials)
        return Price(loading, iteration, max(0, start - loading) / always)
    if len(trials) == 1 and work.iterations:
        return Price(start, trials[0][0] / work.iterations)
    # The least squares of as many equations as unknowns, none of them negative.
    table = np.array([[w.iterations, w.rest] for _, w in trials])
    iteration, rest = nnls(table, [s for s, _ in trials])[0].tolist()
    return Price(start, iteration, rest)


def _timed(stage: str, run: Run) -> tuple[float, Work]:
    """Do a stage, and say how many seconds how much work took."""
    row, seconds = stages.STAGES[stage], math.inf
    works = [row.work(run, result) for result in lacking(stage, run)]
    missing = [result.path for result, _ in _results(stage, run) if not result.path.exists()]
    for again in (False, True):
        if again:
            for path in missing:
                path.unlink()
        started = time.process_time()
        _quietly(stage, run if row.scope == "run" else run.study)
        seconds = min(seconds, time.process_time() - started)
        if seconds > QUICK:
            break
    return seconds, Work(*map(sum, zip(*works, strict=True))) if works else Work(0, 0)


def _quietly(stage: str, subject: Run | Study) -> None:
    """Do a stage without its bars."""
    try:
        with redirect_stderr(io.StringIO()):
            stages.imported(stage)(subject)
    except Exception as error:  # a network is any code
        study = subject.study if isinstance(subject, Run) else subject
        file = STUDIES / f"{study.name}.yaml"
        why = error if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
        raise RunError(
            f"{file}: stage {stage} fails ({why}); `twophase check {file}` may say more"
        ) from error


def _results(stage: str, run: Run) -> Iterable[tuple[Result, Work]]:
    """A stage's parts with their work, and its tables."""
    row = stages.STAGES[stage]
    yield from ((part, row.work(run, part)) for part in row.parts(run))
    yield from ((stages.run_table(run, table), Work()) for table in row.tables)
