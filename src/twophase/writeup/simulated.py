"""Tables of made-up runs whose truth is known, on the grids of a study.

With a registration such tables are frozen, together with what its rules say of them: so it can be
seen later whether an estimator says something else. They are no model of training. A kernel is a
direction in a few dimensions; it has a home and wanders about it; how far it still is from home is
what differs. A fork ends behind a barrier if it comes before its run's chaos time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from twophase.study.base import checkpoints
from twophase.study.chaos import comparisons, forks
from twophase.study.kernel import kernel_steps
from twophase.study.model import Study
from twophase.study.run import Run


class Truth(NamedTuple):
    """Chaos time and kernel time over the middle of the model's forks; None: there is no such time.

    With `turns` kernels turn fast until they settle, as measured ones do. With `stays` the kernel's
    time is the same in all models, a twentieth of what it is followed for; with `vague` it differs
    so much from run to run that it says nothing; with `flips` there is chaos only where a gate or a
    winner can flip.
    """

    chaos: float | None
    kernel: float | None
    turns: bool = False
    stays: bool = False
    vague: bool = False
    flips: bool = False


TRUTHS = {
    "one": Truth(1.0, 1.0),
    "two": Truth(8**-0.5, 8**0.5),
    "none": Truth(None, None),
    "power": Truth(1.0, None),
    "follows": Truth(1.0, 1.0, turns=True),
    "stays": Truth(1.0, 1.0, turns=True, stays=True),
    "vague": Truth(1.0, 1.0, turns=True, vague=True),
    "flips": Truth(1.0, 1.0, turns=True, stays=True, flips=True),
}
OF_ONE = ("one", "two", "none", "power")  # of claims on each model by itself
DIMENSIONS, MOST_KERNELS = 40, 60
Tables = dict[str, pd.DataFrame]


def tables(study: Study, model: str, truth: str, seeds: list[int]) -> Tables:
    """The tables `chaos`, `kernel_distance` and `training` of all seeds, of the sections that the
    model has, with the columns that quantities read. Numbers are rounded, so that files are small.
    """
    each = [_run(Run(study, model, seed), truth) for seed in seeds]
    return {name: pd.concat([run[name] for run in each], ignore_index=True) for name in each[0]}


def _run(run: Run, truth: str) -> Tables:
    rng = np.random.default_rng([list(TRUTHS).index(truth), run.seed])
    model = run.model
    times = np.array(model.chaos.forks if model.chaos else [model.training.iterations / 20])
    middle = float(np.exp(np.log(times[times > 0]).mean()))
    own = middle * rng.lognormal(0, 0.25)
    chaos, kernel = _times(run, TRUTHS[truth], middle, own)
    found = {"training": _training(run, rng)}
    if model.chaos:
        found["chaos"] = _chaos(run, rng, chaos)
    if model.kernel:
        found["kernel_distance"] = _kernels(run, rng, kernel, truth)
    return {name: table.assign(seed=run.seed) for name, table in found.items()}


def _times(run: Run, truth: Truth, middle: float, own: float) -> list[float | None]:
    """The run's chaos time and kernel time; `own` is the middle of the forks times what the seed
    differs by.
    """
    chaos, kernel = (time and time * own for time in truth[:2])
    if truth.stays:
        kernel *= kernel_steps(run)[-1] / 20 / middle
    if truth.vague:
        kernel *= np.random.default_rng([run.seed, *run.name.encode()]).lognormal(0, 1.5)
    return [None if truth.flips and not _can_flip(run) else chaos, kernel]


def _can_flip(run: Run) -> bool:
    """Whether the network has gates that are open or shut, or winners."""
    network = run.model.network
    gates = getattr(network, "activation", "relu") == "relu"
    return gates or getattr(network, "pooling", "max") != "average"


def _training(run: Run, rng: np.random.Generator) -> pd.DataFrame:
    training, t = run.model.training, np.array(checkpoints(run))
    accuracy = 0.1 + 0.7 * t / (t + training.iterations / 10) + rng.normal(0, 0.01, len(t))
    values = {"train_loss": 1 - accuracy, "test_loss": 1.2 - accuracy}
    values |= {"train_accuracy": accuracy, "test_accuracy": accuracy}
    rounded = {name: np.round(value, 4) for name, value in values.items()}
    return pd.DataFrame({"t": t, "lr": training.lr, **rounded})


def _chaos(run: Run, rng: np.random.Generator, time: float | None) -> pd.DataFrame:
    """Forks before `time` end behind a barrier, which takes a tenth of training to grow."""
    table = pd.DataFrame(comparisons(run), columns=["t0", "direction", "t1"])
    ends_apart = np.zeros(len(table), bool)
    if time is not None:
        blur = {fork: rng.lognormal(0, 0.1) for fork in forks(run)}
        places = zip(table["t0"], table["direction"], strict=True)
        ends_apart = np.array([fork[0] < time * blur[fork] for fork in places])
    grown = -np.expm1(-(table["t1"] - table["t0"]) / (run.model.training.iterations / 10))
    barrier = np.where(ends_apart, 1.6 * grown, 0.01) * rng.lognormal(0, 0.1, len(table))
    disagreement = 0.1 + 0.05 * ends_apart + rng.normal(0, 0.005, len(table))
    l2 = np.where(ends_apart, 20.0, 5.0) * rng.lognormal(0, 0.1, len(table))
    control = table["direction"] == "control"
    measures = {
        "test_barrier": barrier,
        "train_barrier": barrier,
        "test_gap": np.where(barrier > 0.1, barrier, -barrier),
        "train_gap": np.where(barrier > 0.1, barrier, -barrier),
        "disagreement": disagreement,
        "l2": l2,
        "dissimilarity": l2 / 1000,
    }
    rounded = {name: np.where(control, 0, np.round(value, 4)) for name, value in measures.items()}
    return table.assign(**rounded, identical=control, perturbation_l2=np.where(control, 0, 5e-5))


def _kernels(run: Run, rng: np.random.Generator, time: float | None, truth: str) -> pd.DataFrame:
    """Distances of all pairs of kernels; with many in the study's grid, of evenly chosen ones."""
    steps = kernel_steps(run)
    t = np.array(steps[:: -(-len(steps) // MOST_KERNELS)], float)
    shape = len(t), DIMENSIONS
    gaps = np.diff(t, prepend=0)[:, None] / max(1.0, t[-1])
    free = np.cumsum(rng.normal(size=shape) * np.sqrt(gaps), 0)
    if time is not None:
        away = 2 / (1 + (t / time) ** 4)
    elif truth == "power":
        away = 2 * (1 + t / t[1]) ** -0.5
    else:
        away = np.zeros(len(t))
    noise = rng.normal(size=shape) * (0.05 if away.any() else 0.005)
    way = _unit(rng.normal(size=DIMENSIONS)) + 2 * free
    if TRUTHS[truth].turns:
        way = _turning(rng, 25 * t / max(1.0, t[-1]))
    place = away[:, None] * way + noise
    place[:, 0] += 1
    if not away.any():
        place += free
    place = _unit(place)
    distance = np.round(np.maximum(1 - place @ place.T, 0), 4)
    np.fill_diagonal(distance, 0)
    index = pd.MultiIndex.from_product([t.astype(int), t.astype(int)], names=["t", "u"])
    return pd.DataFrame({"distance": distance.ravel()}, index=index).reset_index()


def _turning(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Directions whose correlation falls as exp(-distance in x)."""
    found = rng.normal(size=(len(x), DIMENSIONS)) / DIMENSIONS**0.5
    for i, kept in enumerate(np.exp(-np.diff(x)), 1):
        found[i] = kept * found[i - 1] + (1 - kept**2) ** 0.5 * found[i]
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
