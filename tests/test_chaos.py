import shutil

import numpy as np
import pytest
import torch

from twophase.errors import RunError
from twophase.measures.barrier import barrier
from twophase.stages.chaos import chaos
from twophase.store.artifacts import read_table, read_tensors, write_tensors
from twophase.store.origin import ORIGIN
from twophase.study import stages
from twophase.study.chaos import comparisons
from twophase.study.run import Run
from twophase.training.batches import load_data
from twophase.training.loop import build
from twophase.training.machine import prepare


@pytest.fixture
def run(smoke, in_trained):
    """The run of the smoke study's ResNet, with its forks."""
    return Run(smoke, "resnet", 0)


@pytest.fixture
def compared(run):
    """Its table `chaos`."""
    chaos(run)
    return read_table(stages.run_table(run, "chaos"))


def _forget_comparisons(run):
    for point in comparisons(run):
        stages.comparison(run, *point).path.unlink()


def _weights(result):
    tensors = read_tensors(result)
    return {k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")}


def test_a_row_agrees_with_a_plain_second_implementation(run, compared):
    row = compared.query("direction == '1' and t1 == 12").iloc[0]
    ends = [
        _weights(result)
        for result in (stages.base_state(run, 12), stages.fork_state(run, 0, "1", 12))
    ]
    file = stages.data_file(run.study)
    read = load_data(file, run.study.data.images, prepare(run.study.compute))
    images, labels = read.normalised(read.test.images[:100]), read.test.labels[:100].numpy()
    network = build(run.model.network, 1, 10)

    def outputs(weights):
        network.load_state_dict(weights)
        return network.eval()(images).detach().numpy().astype(float)

    def loss(weights):
        out = outputs(weights)
        return (np.log(np.exp(out).sum(1)) - out[np.arange(100), labels]).mean()

    names = [name for name, _ in network.named_parameters()]
    one, other = (np.concatenate([w[n].numpy().ravel() for n in names]).astype(float) for w in ends)
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert row["dissimilarity"] == pytest.approx(1 - cosine, rel=1e-3, abs=1e-15)
    assert row["l2"] == pytest.approx(np.linalg.norm(one - other), rel=1e-9)
    predicted = [outputs(w).argmax(1) for w in ends]
    assert row["disagreement"] == (predicted[0] != predicted[1]).mean()
    assert row["base_test_loss"] == pytest.approx(loss(ends[0]), rel=1e-5)
    assert row["fork_test_accuracy"] == (predicted[1] == labels).mean()

    gaps = [0.0]
    for alpha in (0.25, 0.5, 0.75):
        mixed = {
            n: (alpha * a.double() + (1 - alpha) * b.double()).to(a.dtype)
            for n, a, b in ((n, a, ends[1][n]) for n, a in ends[0].items())
        }
        gaps.append(loss(mixed) - (alpha * loss(ends[0]) + (1 - alpha) * loss(ends[1])))
    assert row["test_barrier"] == pytest.approx(max(gaps), abs=1e-6)


def test_the_whole_path_is_kept(run, compared):
    path = read_table(stages.run_table(run, "barrier_path"))
    assert len(path) == len(compared) * 2 * run.model.chaos.barrier_points
    ends = path[(path["split"] == "test") & (path["alpha"] == 1)]
    assert (ends["loss"].to_numpy() == compared["base_test_loss"].to_numpy()).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_splits_barrier_is_that_of_its_own_path(split, run, compared):
    path = read_table(stages.run_table(run, "barrier_path"))
    path = path[path["split"] == split].sort_values("alpha")
    key = ["direction", "t0", "t1"]
    found = path.groupby(key).apply(lambda p: barrier(p["alpha"].tolist(), p["loss"].tolist()))
    assert compared.set_index(key)[f"{split}_barrier"].sort_index().equals(found.sort_index())
    assert found.nunique() > 1


def test_a_control_that_leaves_its_base_run_is_a_loud_failure(run):
    file = stages.fork_state(run, 0, "control", 12)
    tensors = read_tensors(file)
    weight = tensors["model.linear.bias"]
    weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    write_tensors(file, tensors)
    with pytest.raises(RunError, match="without perturbation is not the base run at 12"):
        chaos(run)


def test_a_fork_made_on_another_machine_is_not_compared(run, monkeypatch):
    file = stages.fork_state(run, 0, "1", 12)
    monkeypatch.setitem(ORIGIN, "machine", "another")
    write_tensors(file, read_tensors(file))
    with pytest.raises(RunError, match="was made with machine 'another'"):
        chaos(run)


def test_comparisons_that_are_there_are_kept(run, compared):
    table = stages.run_table(run, "chaos").path
    first = table.read_bytes()
    # Without the forks nothing can be compared again.
    shutil.rmtree(stages.perturbation(run, 0, "1").path.parents[1])
    table.unlink()
    chaos(run)
    assert table.read_bytes() == first


def test_comparisons_that_are_gone_are_made_again_with_the_same_bytes(run, compared):
    table = stages.run_table(run, "chaos").path
    first = table.read_bytes()
    _forget_comparisons(run)
    chaos(run)
    assert table.read_bytes() == first


def test_a_fork_that_diverged_has_no_barrier(run):
    fork = stages.fork_state(run, 0, "1", 12)
    tensors = read_tensors(fork)
    # The order of a file's tensors is random, and momentum makes no loss.
    named = (name for name in tensors if name.startswith("model."))
    weight = next(name for name in named if name.endswith("weight"))
    tensors[weight] = torch.full_like(tensors[weight], torch.nan)
    write_tensors(fork, tensors)
    chaos(run)
    table = read_table(stages.run_table(run, "chaos"))
    diverged = (table["direction"] == "1") & (table["t1"] == 12)
    for measure in ("test_barrier", "test_gap", "train_barrier", "train_gap"):
        assert table[measure].isna().tolist() == diverged.tolist()
