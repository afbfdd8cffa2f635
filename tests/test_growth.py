"""Known answers for how two runs part."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

from twophase.errors import RunError
from twophase.measures.growth import branches, finite_size_rate, flip_free_factor, steps_to
from twophase.networks.resnet import resnet8
from twophase.stages.base import base
from twophase.stages.data import data
from twophase.stages.growth import growth
from twophase.study import stages, studyfile
from twophase.study.growth import growth_kind
from twophase.study.run import Run


def test_rates_of_a_distance_that_doubles():
    distances = [1e-7 * 2**step for step in range(40)]
    assert steps_to(distances, 0.1) == 20
    assert steps_to([0.0, 0.0], 0.1) == math.inf
    assert math.isnan(steps_to([0.0, math.nan, 0.3], 0.1))
    assert steps_to([0.0, 0.3, math.nan], 0.1) == 1
    rate = finite_size_rate(distances, 1e-6, 1e-6 * 2**10)
    assert rate == pytest.approx(math.log(2), rel=1e-12)
    assert math.isnan(finite_size_rate([0.0, 1.0], 0.03, 0.3))
    assert math.isnan(finite_size_rate([0.0, 0.1], 0.03, 0.3))


def test_steps_with_a_flip_do_not_count_for_the_flip_free_factor():
    assert flip_free_factor([1, 3, 90, 270, 810], [0, 0, 5, 0, 0]) == pytest.approx(3)
    assert math.isnan(flip_free_factor([1, 3], [0, 1]))


@pytest.mark.parametrize("growth", [(30, 3), (3, 30)])
def test_neither_the_step_to_a_flip_nor_that_from_it_counts(growth):
    to, back = growth
    distances = [1, 3, 3 * to, 3 * to * back, 9 * to * back]
    assert flip_free_factor(distances, [0, 0, 5, 0, 0]) == pytest.approx(3)


def test_gates_and_winners_are_those_of_the_layers():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    images = torch.randn(3, 1, 4, 4)
    out, gates, winners = branches(network, images)
    before = network[0](images)
    assert torch.equal(gates, (before > 0).flatten())
    pooled, places = nn.functional.max_pool2d(before.relu(), 2, return_indices=True)
    assert torch.equal(winners, places.flatten())
    assert torch.equal(out, pooled.flatten(1))


@pytest.fixture
def grown(raw, write_study, in_tmp):
    """The ResNet of the smoke study, side by side with its forks."""
    del raw["models"]["vgg"]
    raw["growth"] = {"forks": [4], "steps": 3, "examples": 20}
    run = Run(studyfile.load(write_study(raw)), "resnet", 0)
    data(run.study)
    base(run)
    growth(run)
    return run


def test_the_table_follows_the_base_run_and_repeats(grown):
    file = stages.run_table(grown, "growth").path
    table = pd.read_parquet(file)
    assert len(table) == 2 * 3 * 4
    start = table.query("step == 0").set_index(["precision", "perturbation"])["l2"]
    assert start["float64", "noise"] == start["float32", "noise"] == 0
    assert 0 < start["float64", "ulp"] < 1e-15 < start["float32", "ulp"] < 1e-7
    count = sum(p.numel() for p in resnet8().parameters())
    assert start["float64", "1e-7"] == pytest.approx(1e-7 * count**0.5, rel=0.05)
    apart = table.query("step == 1 and perturbation == 'noise'")["l2"]
    assert (apart > 1e-3).all()
    first = file.read_bytes()
    for part in stages.STAGES["growth"].parts(grown):
        part.path.unlink()
    growth(grown)
    assert file.read_bytes() == first


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1.23456789e-7, "1.23456789e-7"),
        (1e-7, "1e-7"),
        (1e-12, "1e-12"),
        (0.000123456789, "0.000123456789"),
        (2.0, "2"),
        (1, "1"),
    ],
)
def test_a_number_without_quotes_is_run_as_it_is(number, name, raw, write_study):
    raw["growth"] = {"forks": [4], "steps": 3, "examples": 20, "perturbations": [number]}
    run = Run(studyfile.load(write_study(raw)), "vgg", 0)
    assert run.model.growth.perturbations == [name]
    assert growth_kind(run, name).size == number


@pytest.fixture
def precise(raw, write_study, in_tmp):
    """So too, with noise below what float32 resolves, and none."""
    del raw["models"]["vgg"]
    perturbations = ["1e-12", "control", "noise"]
    raw["growth"] = {"forks": [4], "steps": 3, "examples": 20, "barrier_points": 3}
    raw["growth"]["perturbations"] = perturbations
    run = Run(studyfile.load(write_study(raw)), "resnet", 0)
    data(run.study)
    base(run)
    return run


def test_what_float32_swallows_lives_on_in_float64_and_nothing_parts_from_nothing(precise):
    growth(precise)
    table = pd.read_parquet(stages.run_table(precise, "growth").path)
    l2 = table.set_index(["precision", "perturbation", "step"])["l2"].sort_index()
    assert l2["float32", "1e-12", 0] < 0.1 * l2["float64", "1e-12", 0]  # entries near zero take it
    count = sum(p.numel() for p in resnet8().parameters())
    assert l2["float64", "1e-12", 0] == pytest.approx(1e-12 * count**0.5, rel=0.05)
    assert (l2["float64", "1e-12"] > 1e-13).all()
    for precision in ("float32", "float64"):
        assert (l2[precision, "control"] == 0).all()
    ends = pd.read_parquet(stages.run_table(precise, "growth_rate").path)
    ends = ends.set_index(["precision", "perturbation"])[["test_barrier", "disagreement"]]
    assert (ends.xs("control", level="perturbation") == 0).all(axis=None)
    assert ends.loc[("float64", "1e-12"), "disagreement"] == 0
    assert 0 <= ends.loc[("float64", "1e-12"), "test_barrier"] < 1e-9
    assert ends.loc[("float64", "noise"), "test_barrier"] >= 0
    assert not {*ends} & {*table}


def test_a_control_that_parts_is_an_error(precise, monkeypatch):
    def noisy(fork, name, run, data):
        with torch.no_grad():
            next(fork.model.parameters()).add_(1e-14)
        return fork

    monkeypatch.setattr("twophase.stages.growth._perturbed", noisy)
    with pytest.raises(RunError, match=r"from 4 in float\d\d, the fork without perturbation"):
        growth(precise)
