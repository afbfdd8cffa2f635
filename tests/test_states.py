"""States, batches, examples and kernels from Python: those that the stages read and write."""

import pandas as pd
import pytest
import torch
from conftest import CONFIG

import twophase
from twophase.errors import RunError, StudyError
from twophase.measures.distance import disagreement, dissimilarity, parameter_vector
from twophase.stages.chaos import chaos
from twophase.store.artifacts import read_table
from twophase.study import stages, studyfile
from twophase.study.run import runs
from twophase.training.batches import load_data
from twophase.training.evaluation import logits
from twophase.training.loop import State, advance, initial_state

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def there(in_trained):
    (in_trained / "workflow").symlink_to(CONFIG.parent)
    return in_trained


def _run(name):
    return next(r for r in runs(studyfile.load(CONFIG / "smoke.yaml")) if r.name == name)


def test_networks_and_examples_give_the_numbers_of_the_table(there):
    run = _run("vgg")
    chaos(run)
    row = read_table(stages.run_table(run, "chaos")).query(
        "t0 == 4 and t1 == 12 and direction == '2'"
    )
    base, fork = (
        twophase.network("smoke", "vgg", seed=0, t=12, fork=each) for each in (None, ("2", 4))
    )
    assert not base.training
    images, labels = twophase.examples("smoke", "vgg")
    outs = [logits(each, images) for each in (base, fork)]
    loss = torch.nn.functional.cross_entropy(outs[1], labels).item()
    assert loss == pytest.approx(row.fork_test_loss.item(), rel=1e-6)
    assert disagreement(*outs) == row.disagreement.item()
    vectors = [parameter_vector(each) for each in (base, fork)]
    assert dissimilarity(*vectors) == pytest.approx(row.dissimilarity.item())
    control = twophase.network("smoke", "vgg", seed=0, t=12, fork=("control", 4))
    assert all(map(torch.equal, base.parameters(), control.parameters()))


def test_a_batch_is_the_one_that_was_trained_on(there, monkeypatch):
    run, seen = _run("vgg"), []
    data = load_data(stages.data_file(run.study), run.study.data.images, torch.device("cpu"))
    state = initial_state(run.model, data, 0)
    state.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    advance(State(state.model, state.optimizer, 0), run, data, 6)
    images, labels = twophase.batch("smoke", "vgg", seed=0, t=5)
    assert torch.equal(images, seen[5])
    assert labels.shape == (32,)
    assert not torch.equal(images, twophase.batch("smoke", "vgg", seed=0, t=4)[0])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "vgq"}, "model = 'vgq': must be one of vgg, resnet"),
        ({"seed": 3}, "seed = 3: must be one of 0"),
        ({"t": 5}, "t = 5: no state of vgg, seed 0 is kept there; kept are: 0, 4, 6, 8, 12"),
        (
            {"fork": ("3", 4)},
            r"fork = \('3', 4\): no such fork of vgg, seed 0; there are: \('1', 0",
        ),
        ({"fork": ("1", 4), "t": 4}, "t = 4: no state of its fork from 4 is kept.*: 6, 12$"),
    ],
)
def test_what_a_study_does_not_have_is_told_in_one_line(asked, said, there):
    given = {"model": "vgg", "seed": 0, "t": 12} | asked
    with pytest.raises(StudyError, match=said) as caught:
        twophase.network("smoke", **given)
    assert "\n" not in str(caught.value)


def test_what_is_not_made_yet_names_the_command(there):
    with pytest.raises(
        RunError, match="`twophase kernel workflow/config/smoke.yaml --model resnet"
    ):
        twophase.kernel("smoke", "resnet", seed=0, t=4)
    stages.base_state(_run("vgg"), 8).path.unlink()
    with pytest.raises(RunError, match="--model vgg --seed 0` makes it, as does `snakemake"):
        twophase.network("smoke", "vgg", seed=0, t=8)
    stages.data_file(_run("vgg").study).path.unlink()
    with pytest.raises(RunError, match="`twophase data workflow/config/smoke.yaml` makes it"):
        twophase.examples("smoke", "vgg")


def test_a_column_over_seeds_pools_directions_and_leaves_controls_out():
    rows = [
        ("a", 0, "1", 5, 1.0), ("a", 0, "2", 5, 3.0), ("a", 0, "control", 5, 99.0),
        ("a", 1, "1", 5, 4.0), ("a", 1, "2", 5, 4.0),
        ("b", 0, "1", 5, float("nan")), ("b", 1, "1", 5, 1.0),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["model", "seed", "direction", "t1", "x"])
    found = twophase.estimate(table, "x", by=["t1"]).set_index("model")
    half = 12.706204736 * 2**0.5 / 2**0.5  # Student's t of one degree of freedom; seeds: 2 and 4
    assert found.loc["a", ["mean", "low", "high"]].tolist() == pytest.approx(
        [3, 3 - half, 3 + half]
    )
    assert found.loc["a", ["least", "most", "seeds"]].tolist() == [1, 4, 2]
    assert found.loc["b", ["mean", "low", "high"]].isna().all()
    assert twophase.estimate(table, "x", by=["direction"])["mean"].max() == 99
    with pytest.raises(KeyError, match="no column 'y'"):
        twophase.estimate(table, "y")
