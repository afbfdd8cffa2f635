import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from twophase import artifacts, paths
from twophase.artifacts import read_tensors, write_tensors
from twophase.base import train_base
from twophase.chaos import compare_forks
from twophase.compute import prepare
from twophase.data import load_data
from twophase.errors import RunError
from twophase.fork import train_forks
from twophase.models import initialised
from twophase.sources import prepare_data


@pytest.fixture
def compared(smoke, in_tmp):
    """The ResNet of the smoke study, with its forks compared."""
    prepare_data(smoke)
    train_base(smoke, "resnet", 0)
    train_forks(smoke, "resnet", 0, 0)
    compare_forks(smoke, "resnet", 0)
    return pd.read_parquet(paths.chaos(smoke, "resnet", 0))


def _forget_comparisons(smoke):
    shutil.rmtree(paths.comparison(smoke, "resnet", 0, 0, "1", 12).parents[1])


def _weights(file):
    tensors = read_tensors(file, {})
    return {k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")}


def test_a_row_agrees_with_a_plain_second_implementation(smoke, compared):
    row = compared.query("direction == '1' and t1 == 12").iloc[0]
    ends = [
        _weights(paths.checkpoint(folder, 12))
        for folder in (
            paths.base(smoke, "resnet", 0),
            paths.fork(smoke, "resnet", 0, 0, "1"),
        )
    ]
    data = load_data(smoke, prepare(smoke.compute))
    images, labels = data.normalised(data.test.images[:100]), data.test.labels[:100].numpy()

    def outputs(weights):
        network = initialised({"architecture": "resnet8"}, 1, 10, 5)
        network.load_state_dict(weights)
        return network.eval()(images).detach().numpy().astype(float)

    def loss(weights):
        out = outputs(weights)
        return (np.log(np.exp(out).sum(1)) - out[np.arange(100), labels]).mean()

    names = [
        name for name, _ in initialised({"architecture": "resnet8"}, 1, 10, 0).named_parameters()
    ]
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


def test_the_whole_path_is_kept(smoke, compared):
    path = pd.read_parquet(paths.barrier_path(smoke, "resnet", 0))
    assert len(path) == len(compared) * 2 * smoke.models["resnet"].chaos.barrier_points
    ends = path[(path["split"] == "test") & (path["alpha"] == 1)]
    assert (ends["loss"].to_numpy() == compared["base_test_loss"].to_numpy()).all()


def test_a_control_that_leaves_its_base_run_is_a_loud_failure(smoke, compared):
    file = paths.checkpoint(paths.fork(smoke, "resnet", 0, 0, "control"), 12)
    tensors = read_tensors(file, {})
    weight = tensors["model.linear.bias"]
    weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    identity = {"kind": "state", "study": "smoke", "model": "resnet", "seed": 0}
    write_tensors(file, tensors, {**identity, "run": "fork 0 control", "step": 12})
    _forget_comparisons(smoke)
    with pytest.raises(RunError, match="without perturbation is not the base run at 12"):
        compare_forks(smoke, "resnet", 0)


def test_a_fork_made_on_another_machine_is_not_compared(smoke, compared, monkeypatch):
    _forget_comparisons(smoke)
    file = paths.checkpoint(paths.fork(smoke, "resnet", 0, 0, "1"), 12)
    monkeypatch.setitem(artifacts.ORIGIN, "machine", "another")
    identity = {"kind": "state", "study": "smoke", "model": "resnet", "seed": 0}
    write_tensors(file, read_tensors(file, {}), {**identity, "run": "fork 0 1", "step": 12})
    with pytest.raises(RunError, match="was made with machine 'another'"):
        compare_forks(smoke, "resnet", 0)


def test_comparisons_that_are_there_are_kept(smoke, compared):
    chaos = paths.chaos(smoke, "resnet", 0)
    first = chaos.read_bytes()
    # Without the forks nothing can be compared anew.
    shutil.rmtree(paths.fork(smoke, "resnet", 0, 0, "1").parent)
    chaos.unlink()
    compare_forks(smoke, "resnet", 0)
    assert chaos.read_bytes() == first
