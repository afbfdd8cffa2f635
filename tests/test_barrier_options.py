"""What a study may ask of a barrier: its sign, its top between the points, batch norm's part."""

import math

import pandas as pd
import pytest

from twophase.errors import StudyError
from twophase.measures import barrier
from twophase.stages.chaos import chaos
from twophase.stages.matching import matching
from twophase.store.artifacts import read_table
from twophase.study import stages
from twophase.study.chaos import comparisons
from twophase.study.run import Run
from twophase.study.studyfile import load

EVEN = [index / 10 for index in range(11)]


@pytest.mark.parametrize("height", [1.0, 5.0])
@pytest.mark.parametrize("center", [0.03, 0.35, 0.5, 0.951])
@pytest.mark.parametrize("width", [0.05, 0.2])
def test_refining_finds_the_top_of_a_smooth_path(height, center, width):
    def loss(alpha):
        bump = math.exp(-(((alpha - center) / width) ** 2))
        return 0.3 + 0.5 * alpha + height * bump * 4 * alpha * (1 - alpha)

    fine = [index / 10_000 for index in range(10_001)]
    true = barrier.barrier(fine, [loss(alpha) for alpha in fine])
    coarse = barrier.barrier(EVEN, [loss(alpha) for alpha in EVEN])
    alphas, losses = barrier.refined(EVEN, [loss(alpha) for alpha in EVEN], loss, 4)
    assert alphas == sorted(set(alphas))
    assert len(alphas) == 15
    found = barrier.barrier(alphas, losses)
    assert coarse <= found <= true + 1e-6  # itself on a grid
    assert found > 0.995 * true


def test_refining_a_flat_path_or_one_that_is_no_number_leaves_its_barrier():
    for flat in ([0.1] * 11, [(alpha - 0.5) ** 2 for alpha in EVEN]):
        assert barrier.refined(EVEN, flat, lambda alpha: 1 / 0, 3) == (EVEN, flat)
    broken = [0.1, math.nan, 0.1]
    alphas, losses = barrier.refined([0, 0.5, 1], broken, lambda alpha: 1.0, 3)
    assert len(alphas) == len(losses) == 3
    assert math.isnan(barrier.largest_gap(alphas, losses))


def test_no_more_points_is_the_path_as_it_was():
    losses = [0.1 * index**2 for index in range(11)]
    assert barrier.refined(EVEN, losses, lambda alpha: 1 / 0, 0) == (EVEN, losses)


def test_the_gap_has_the_sign_that_the_barrier_lacks():
    below, above = [1.0, 0.5, 0.25, 1.0], [1.0, 0.5, 2.0, 1.0]
    alphas = [0.0, 0.25, 0.5, 1.0]
    assert barrier.largest_gap(alphas, below) == -0.5
    assert barrier.barrier(alphas, below) == 0
    assert barrier.largest_gap(alphas, above) == barrier.barrier(alphas, above) == 1


@pytest.fixture
def compared(raw, write_study, in_trained):
    """The tables of the smoke study's ResNet with these options of chaos, forks far away."""

    def with_options(**options):
        raw["chaos"] |= {"perturbation": {"kind": "relative", "size": 1.0}, "compare": [12, 60]}
        raw["chaos"] |= options
        raw["training"] |= {"iterations": 60, "lr": 0.1, "lr_drops": []}
        raw["models"]["resnet"]["chaos"] = {"forks": [0], "control": [0]}
        study = load(write_study(raw, "smoke"))
        run = Run(study, "resnet", 0)
        for stage in ("base", "fork", "chaos"):
            stages.imported(stage)(run)
        tables = {n: read_table(stages.run_table(run, n)) for n in ("chaos", "barrier_path")}
        return run, tables["chaos"], tables["barrier_path"]

    return with_options


def test_gaps_are_those_of_the_path(compared):
    run, table, path = compared()
    points = run.model.chaos.barrier_points
    for _, row in table.iterrows():
        own = path[(path["t1"] == row["t1"]) & (path["direction"] == row["direction"])]
        for split in ("train", "test"):
            losses = own[own["split"] == split].sort_values("alpha")["loss"].tolist()
            line = [losses[0] + i / (points - 1) * (losses[-1] - losses[0]) for i in range(points)]
            gaps = [a - b for a, b in zip(losses, line, strict=True)][1:-1]
            assert row[f"{split}_gap"] == pytest.approx(max(gaps), abs=1e-12)
            assert row[f"{split}_barrier"] == max(0, row[f"{split}_gap"])
    assert "test_barrier_recalibrated" not in table
    assert (table[table["direction"] == "control"]["test_gap"] == 0).all()


def test_a_refined_path_holds_the_coarse_one(compared):
    _, coarse, even = compared()
    _, fine, path = compared(barrier_refine=3)
    keys = ["direction", "t0", "t1"]
    lengths = path[path["split"] == "test"].groupby(keys).size()
    parted = fine.set_index(keys)["test_gap"] > 0
    assert lengths[parted].tolist() == [5 + 3] * parted.sum()
    assert lengths[~parted].tolist() == [5] * (~parted).sum()
    assert parted.any()
    assert not parted.all()
    both = even.merge(path, on=[*keys, "split", "alpha"], suffixes=("", "_fine"))
    assert len(both) == len(even)
    assert (both["loss"] == both["loss_fine"]).all()
    both = coarse.merge(fine, on=keys, suffixes=("", "_fine"))
    assert (both["test_barrier_fine"] >= both["test_barrier"]).all()
    assert (both["test_gap_fine"] > both["test_gap"]).any()
    same = ["dissimilarity", "l2", "disagreement", "fork_test_loss"]
    pd.testing.assert_frame_equal(coarse[keys + same], fine[keys + same], check_exact=True)


def test_the_recalibrated_barrier_is_that_of_the_other_option(compared):
    run, beside, path = compared(recalibrated=True)
    _, other, others = compared(recalibrated=False, barrier_batch_norm="recalibrate")
    ours = beside["test_barrier_recalibrated"].tolist()
    assert ours == other["test_barrier"].tolist()
    assert beside["test_barrier"].tolist() != ours
    own = path[path["split"] == "test_recalibrated"]["loss"].tolist()
    assert own == others[others["split"] == "test"]["loss"].tolist()
    matching(run)
    matched = read_table(stages.run_table(run, "matching"))
    both = matched.merge(beside, on=["direction", "t0", "t1"])
    assert both["recalibrated_barrier"].tolist() == both["test_barrier_recalibrated"].tolist()


def test_a_second_recalibrated_barrier_is_a_mistake(compared):
    with pytest.raises(StudyError, match="chaos.recalibrated = True: is what chaos.barrier_batch"):
        compared(recalibrated=True, barrier_batch_norm="recalibrate")


def test_comparisons_made_before_there_were_gaps_are_kept(compared):
    run, table, _ = compared()
    parts = [stages.comparison(run, *point).path for point in comparisons(run)]
    assert not any("gap" in column for part in parts for column in pd.read_parquet(part))
    before = [part.stat().st_mtime_ns for part in parts]
    stages.run_table(run, "chaos").path.unlink()
    chaos(run)
    assert [part.stat().st_mtime_ns for part in parts] == before
    assert read_table(stages.run_table(run, "chaos")).equals(table)


def test_work_counts_every_point(compared):
    run, *_ = compared()
    row, before = stages.STAGES["chaos"], None
    for options, factor in (({}, 6), ({"barrier_refine": 3}, 9), ({"recalibrated": True}, 17)):
        own = run.model.chaos.model_copy(update={"barrier_refine": 0} | options)
        if "recalibrated" in options:
            own = own.model_copy(update={"barrier_refine": 3})
        model = run.model.model_copy(update={"chaos": own})
        other = Run(run.study.model_copy(update={"models": {"resnet": model}}), "resnet", 0)
        work = row.work(other, row.parts(other)[0]).rest
        before = before or work / factor
        assert work == pytest.approx(before * factor)
