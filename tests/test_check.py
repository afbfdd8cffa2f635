"""The trial of all stages: each kind of fault is one line before any training."""

from pathlib import Path

import pytest
from conftest import SHOWN, edit, snakemake
from faulty import FAULTS, DifferentiableOnce, MoreOutputs, Net
from unusual import GOOD

from twophase import figures
from twophase.errors import RunError
from twophase.figures import pictures
from twophase.stages.check import check
from twophase.stages.data import data
from twophase.store.artifacts import read_table
from twophase.store.code import closure
from twophase.study import stages, studyfile
from twophase.study.run import runs
from twophase.training import loop


@pytest.fixture
def study(raw, write_study, in_tmp, monkeypatch):
    """Function of a network's class and sections to leave out: a study that trains it."""

    def study(kind, *without):
        build = loop.build

        def own(network, *sizes):
            return kind(*sizes) if network.architecture == "resnet8" else build(network, *sizes)

        monkeypatch.setattr(loop, "build", own)
        raw["models"] = {"mine": {"network": {"architecture": "resnet8"}}}
        raw["models"]["mine"] |= dict.fromkeys(without, False)
        found = studyfile.load(write_study(raw))
        data(found)
        monkeypatch.setattr(pictures, "tried", lambda *_: None)  # has a test of its own
        return found

    return study


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_a_fault_is_one_line_with_stage_layer_and_remedy(kind, study):
    stage, layer, rest = FAULTS[kind]
    with pytest.raises(RunError, match=rest) as caught:
        check(studied := study(kind))
    start = f"workflow/config/mine.yaml: models.mine: stage {stage}: {layer}"
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    assert not stages.check_mark(studied).path.exists()


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_odd_networks_that_are_right_pass(kind, study):
    check(studied := study(kind, *GOOD[kind]))
    tried = read_table(stages.check_mark(studied))
    asked = [s for s in stages.STAGES if stages.runs_of(studied, s)]
    own = [s for s in asked if stages.STAGES[s].scope == "run"]
    left_out = [s for s in own if stages.STAGES[s].section in GOOD[kind]]
    assert tried["stage"].tolist() == [s for s in own if s not in left_out]


def test_a_wrong_derivative_is_told_by_the_linearised_stage(study):
    with pytest.raises(RunError, match=r"stage linearized: layer between \(Twice\): .*`jvp`"):
        check(study(DifferentiableOnce, "curvature"))


def test_a_figure_that_fails_does_so_before_training(raw, write_study, in_tmp, monkeypatch):
    studied = studyfile.load(write_study(raw))
    data(studied)
    drawn = []

    def fails(study, tables):
        drawn.append(study)
        raise KeyError("a kind of one's own")

    monkeypatch.setattr(figures.load("fig1"), "draw", fails)
    expected = 'mine.yaml: figure fig1 cannot be drawn from two iterations: KeyError: "a kind of'
    with pytest.raises(RunError, match=expected):
        check(studied)
    assert drawn[0].models.keys() == studied.models.keys()
    assert not stages.check_mark(studied).path.exists()
    assert not list(Path().glob("**/training*.parquet"))


def test_check_draws_every_figure_of_a_study(raw, write_study, in_tmp, monkeypatch):
    raw["across_seeds"] = {}
    raw["sweep"] = {"chaos.perturbation.size": [1e-7, 1e-5]}
    studied = studyfile.load(write_study(raw))
    data(studied)
    shown, draw = [], pictures.tried

    def tried(few, figure):
        shown.append(figure)
        if figure not in SHOWN:  # the others, the smoke study draws
            draw(few, figure)

    monkeypatch.setattr(pictures, "tried", tried)
    check(studied)
    assert shown == figures.asked(studied) == list(figures.FIGURES)


def test_nothing_but_the_mark_is_left(study):
    studied = study(Net)
    before = {path for path in Path().rglob("*") if path.is_file()}
    check(studied)
    assert {path for path in Path().rglob("*") if path.is_file()} - before == {
        stages.check_mark(studied).path
    }


def test_each_network_that_fails_has_its_line(study, raw, write_study):
    study(MoreOutputs)
    raw["models"]["other"] = {**raw["models"]["mine"], "chaos": False}
    raw["models"]["vgg"] = {"network": {"architecture": "vgg_small"}}
    with pytest.raises(RunError) as caught:
        check(studyfile.load(write_study(raw)))
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["models.mine", "models.other"]


def test_a_network_has_as_many_classes_as_the_images_however_few_are_tried(study, raw, in_tmp):
    file = in_tmp / "workflow/config/many.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import numpy as np\n\n\ndef many():\n"
        "    x = np.random.default_rng(0).integers(0, 256, (600, 1, 8, 8), np.uint8)\n"
        "    y = np.arange(600) % 300\n"
        "    both = {'images': x, 'labels': y}\n"
        "    return {f'{s}_{k}': v for s in ('train', 'test') for k, v in both.items()}\n"
    )
    images = {"source": "function", "file": "many.py", "function": "many"}
    raw["data"]["images"] = {**images, "channels": 1, "image_size": 8}
    asked = []

    def net(channels, classes):
        asked.append(classes)
        return Net(channels, classes)

    check(study(net, "matching"))
    assert set(asked) == {300}


def _mark(raw, write_study):
    return stages.check_mark(studyfile.load(write_study(raw))).path


def test_the_mark_is_of_what_is_tried_and_nothing_else(raw, write_study):
    first = _mark(raw, write_study)
    raw["seeds"] = [1, 2]
    raw["title"] = "Another"
    raw["training"].update(iterations=500, batch_size=100, lr_drops=[3], drop_last=False)
    raw["training"]["schedule"] = {"kind": "steps", "warmup": 50}
    raw["chaos"].update(forks=[3, 7], compare=[9], control=[], directions=7, barrier_threshold=9)
    raw["models"]["resnet"]["chaos"] = {}
    raw["sizes"]["forks"] = [3]
    raw["kernel"].update(every=10, until=50, references=[10], intervals=[20])
    raw["linearized"]["switches"] = [3, 4]
    raw["curvature"].update(every=3, batches=3)
    assert _mark(raw, write_study) == first
    for change in (
        lambda: raw["training"].update(lr=0.03),
        lambda: raw["models"]["vgg"]["network"].update(batch_norm=True),
        lambda: raw["data"]["augmentation"].update(shift=2),
        lambda: raw["kernel"].update(kind="trace"),
        lambda: raw.pop("growth"),
        lambda: raw["compute"].update(threads=2),
        lambda: raw["data"]["images"].update(test_examples=300),
    ):
        before = _mark(raw, write_study)
        change()
        assert _mark(raw, write_study) != before


def test_the_mark_is_of_all_code_that_the_study_runs(smoke):
    (run,) = runs(smoke)[:1]
    counted = closure(*stages.STAGES["check"].code(run))
    own = {f"stages.{stage}" for stage in stages.STAGES if stages.runs_of(smoke, stage)}
    own |= {"stages.network_checks", "stages.network_starts"}
    assert own | {"networks.vgg", "networks.resnet", "optimizers.sgd", "entk"} <= counted
    assert "optimizers.adamw" not in counted


def test_a_fault_stops_the_workflow_before_any_training(copy_checkout, tmp_path):
    folder = copy_checkout(tmp_path / "checkout")
    edit(
        folder / "src/twophase/networks/resnet.py",
        "self.linear = nn.Linear(before, classes)",
        "self.linear = nn.Sequential(nn.Flatten(), nn.Linear(before, classes + 1))",
    )
    run = snakemake(folder, "--cores", "2", "figures/smoke/all")
    assert run.returncode == 1
    expected = (
        "    workflow/config/smoke.yaml: models.resnet: stage base: layer linear.1 (Linear): "
        "the output of 16 images is (16, 11), not (16, 10): give the last layer as many outputs as "
        "the builder's argument `classes` says, 10"
    )
    assert expected in run.stderr.splitlines()
    assert "Traceback" not in run.stderr
    made = {file.name.split("-")[0] for file in folder.glob("results/**/*-*.*")}
    assert made == {"data", "check"}  # the second only its log
    assert not list(folder.glob("results/smoke/check-*"))
