"""Random numbers that a network draws are SGD noise: a function of (seed, step)."""

import sys

import pytest
import torch
from torch import nn

from twophase.stages.base import base
from twophase.stages.chaos import chaos
from twophase.stages.curvature import curvature
from twophase.stages.data import data
from twophase.stages.fork import fork
from twophase.stages.growth import growth
from twophase.stages.kernel import kernel
from twophase.store.artifacts import read_table
from twophase.study import stages, studyfile
from twophase.study.curvature import curvature_steps
from twophase.study.kernel import kernel_steps
from twophase.study.run import runs
from twophase.training.batches import batch, load_data
from twophase.training.loop import advance, initial_state
from twophase.training.machine import prepare
from twophase.training.noise import network_noise
from twophase.training.tensors import bits

CPU = torch.device("cpu")


def test_the_numbers_are_those_of_seed_and_step_and_leave_no_trace():
    def draw(seed, step):
        with network_noise(seed, step, CPU):
            return nn.functional.dropout(torch.ones(1000), 0.5)

    before = torch.random.get_rng_state()
    first = draw(0, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(draw(0, 3), first)
    # Masks of other steps and seeds agree with it at half of the places.
    for seed, step in ((0, 4), (1, 3), (3, 0)):
        same = (draw(seed, step) == first).double().mean()
        assert 0.42 < float(same) < 0.58


@pytest.fixture
def run(raw, write_study, in_tmp):
    """A run of a network with dropout, with its data."""
    network = {"architecture": "mlp", "widths": [32], "dropout": 0.5}
    raw["models"] = {"mlp": {"network": network}}
    raw["growth"] = {"forks": [4], "steps": 3, "examples": 20}
    raw["curvature"] = {"every": 12, "examples": 20, "batches": 1, "lanczos_steps": 2}
    (run,) = runs(studyfile.load(write_study(raw)))
    data(run.study)
    return run


def _state(run):
    found = load_data(
        stages.data_file(run.study), run.study.data.images, prepare(run.study.compute)
    )
    return initial_state(run.model, found, run.seed), found


def _same(one, other):
    pairs = zip(one.tensors().values(), other.tensors().values(), strict=True)
    return all(torch.equal(bits(a), bits(b)) for a, b in pairs)


def test_a_control_and_a_run_that_resumes_equal_the_base_run_bit_for_bit(run):
    base(run)
    fork(run)
    chaos(run)  # refuses a control that differs
    table = read_table(stages.run_table(run, "chaos"))
    assert (table[table["direction"] == "control"]["l2"] == 0).all()
    assert (table[table["direction"] != "control"]["l2"] > 0).all()

    through, found = _state(run)
    advance(through, run, found, 5)
    stopped, _ = _state(run)
    for stop in range(1, 6):
        torch.rand(stop)  # whatever else is drawn meanwhile
        advance(stopped, run, found, stop)
    assert _same(through, stopped)


def test_training_has_dropout_and_measurements_do_not(run):
    base(run)
    kernel(run)
    first = read_table(stages.run_table(run, "kernel"))
    stages.run_table(run, "kernel").path.unlink()
    for t in kernel_steps(run):
        stages.kernel_file(run, t).path.unlink()
    torch.rand(1)
    kernel(run)
    assert read_table(stages.run_table(run, "kernel")).equals(first)

    one, found = _state(run)
    without, _ = _state(run)
    for module in without.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    one.model.eval(), without.model.eval()
    images = found.normalised(found.train.images[:3])
    assert torch.equal(one.model(images), without.model(images))
    advance(one, run, found, 1)
    advance(without, run, found, 1)
    assert not _same(one, without)


def test_other_noise_is_other_dropout_and_curvature_repeats(run, monkeypatch):
    # With the same batches whatever the seed, only dropout tells seeds apart.
    monkeypatch.setattr(
        sys.modules["twophase.stages.growth"],
        "batch",
        lambda data, how, _, *sizes: batch(data, how, 0, *sizes),
    )
    base(run)
    growth(run)
    steps = read_table(stages.run_table(run, "growth"))
    noise = steps[(steps["perturbation"] == "noise") & (steps["precision"] == "float32")]
    assert noise["l2"].iloc[0] == 0
    assert (noise["l2"].iloc[1:] > 1e-3).all()
    tables = []
    for _ in range(2):
        curvature(run)
        tables.append(read_table(stages.run_table(run, "curvature")))
        stages.run_table(run, "curvature").path.unlink()
        for t in curvature_steps(run):
            stages.curvature_at(run, t).path.unlink()
        torch.rand(3)
    assert tables[0].equals(tables[1])
