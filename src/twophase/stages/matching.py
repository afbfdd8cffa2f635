"""Stage `matching`: forks and base run modulo a permutation of their units."""

import math
import sys

import pandas as pd
import torch
from torch import nn

from twophase.measures.barrier import Losses, barrier, path
from twophase.measures.features import last_hidden, linear_cka, unbiased_cka
from twophase.measures.permutation import (
    Units,
    Unmatched,
    check_units,
    moved,
    permute,
    units,
    weight_matching,
)
from twophase.store.artifacts import check_origin, read_header, read_table, write_table
from twophase.study import stages
from twophase.study.chaos import alone
from twophase.study.matching import matching_points
from twophase.study.records import FEW
from twophase.study.run import Run
from twophase.training.batches import load_data
from twophase.training.evaluation import evaluation_sets
from twophase.training.loop import State, build, initial_state, load_state
from twophase.training.machine import prepare
from twophase.training.progress import progress


def matching(run: Run) -> None:
    """Write the table `matching` of one base run and its perturbed forks.

    Table: study, model, seed, direction, t0, t1, test_barrier (as in `chaos`),
    recalibrated_barrier (batch norm's statistics measured again at each point of the path, on the
    training examples), matched_barrier (so too, after the fork's units were matched with the base
    run's), moved (share of the hidden units that the match moves), cka and unbiased_cka (of the
    inputs of the last linear layer on the test examples; the match does not change them). Of a
    network whose units cannot be matched, matched_barrier and moved are not a number.

    Raises `RunError` if fork and base run were made by other packages or on another kind of
    machine.
    """
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    sets = evaluation_sets(data, run.model.evaluation)
    # The base run, a fork, and the networks between them.
    networks = [initial_state(run.model, data, run.seed) for _ in range(3)]
    found: Units | None = None
    try:
        found = _checked(networks[0].model, sets["test"][0][:FEW])
    except Unmatched as error:
        found = None
        print(f"{run}: {error}", file=sys.stderr)
    points, rows = matching_points(run), []
    with progress(f"matching of {run}", len(points), "pair") as bar:
        for point in points:
            file = stages.match(run, *point)
            if not file.path.exists():
                _load(run, point, networks)
                row = _matched(run, networks, found, sets, data.task.losses)
                t0, direction, t1 = point
                names = {"t0": t0, "direction": alone(run, direction)[1], "t1": t1}
                write_table(file, pd.DataFrame([{**run.identity, **names, **row}]))
            rows.append(read_table(file).assign(direction=point[1]))
            bar.update()
    write_table(stages.run_table(run, "matching"), pd.concat(rows, ignore_index=True))


def _load(run: Run, point: tuple[int, str, int], networks: list[State]) -> None:
    t1 = point[-1]
    files = stages.base_state(run, t1), stages.fork_state(run, *point)
    for file, state in zip(files, networks, strict=False):
        load_state(file, state, t1)
    base, fork = (file.path for file in files)
    check_origin(fork, read_header(base)["origin"], str(base))


def unmatched(run: Run, classes: int) -> str:
    """Why the units of a run's network cannot be matched; empty if they can."""
    source = run.study.data.images
    channels = source.channels or classes  # of a text: its tokens
    tokens = source.form == "tokens"
    try:
        with torch.random.fork_rng(devices=[]):
            few = FEW, *source.shape
            examples = torch.randint(channels, few) if tokens else torch.randn(few)
            _checked(build(run.model.network, channels, classes), examples)
    except Unmatched as error:
        return str(error)
    return ""


def _checked(model: nn.Module, examples: torch.Tensor) -> Units:
    """The units of a network, which is left permuted at random.

    Raises `Unmatched` if it then computes something else of the examples.
    """
    found = units(model, examples)
    check_units(model, found, examples)
    return found


def _matched(
    run: Run, networks: list[State], found: Units | None, sets: dict, losses: Losses
) -> dict[str, float]:
    """The measures of one pair; the fork's network is left permuted."""
    base, fork, between = (state.model for state in networks)
    images, test = sets["train"][0], {"test": sets["test"]}
    options = run.model.chaos
    points, refine = options.barrier_points, options.barrier_refine

    def highest(again: bool) -> float:
        recalibrate = images if again else None
        measured = path(between, base, fork, points, test, recalibrate, refine, losses)
        return barrier(*measured["test"])

    row = {
        "test_barrier": highest(options.barrier_batch_norm == "recalibrate"),
        "recalibrated_barrier": highest(True),
    }
    features = [last_hidden(network, sets["test"][0]) for network in (base, fork)]
    row |= {"cka": linear_cka(*features), "unbiased_cka": unbiased_cka(*features)}
    if found is None:
        return row | {"matched_barrier": math.nan, "moved": math.nan}
    places = weight_matching(base, fork, found, run.model.matching.sweeps)
    permute(fork, found, places)
    return row | {"matched_barrier": highest(True), "moved": moved(found, places)}
