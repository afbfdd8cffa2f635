"""A sweep: models with each of some values of their options, which share what is equal."""

from pathlib import Path

import pytest

from twophase import figures
from twophase.commands.adopt import adopt
from twophase.errors import StudyError
from twophase.figures import panels, style
from twophase.stages.base import base
from twophase.stages.chaos import chaos
from twophase.stages.cone import cone
from twophase.stages.data import data
from twophase.stages.kernel import kernel
from twophase.stages.summary import summary
from twophase.store.artifacts import read_table
from twophase.study import stage as rows
from twophase.study import stages, studyfile
from twophase.study.run import Run
from twophase.study.stages import before_in_sweep


def _only_vgg(raw, write_study, **sections):
    """The smoke study, which is in `trained`, with the VGG alone and other sections."""
    models = {"vgg": raw["models"]["vgg"]}
    return studyfile.load(write_study(raw | {"models": models} | sections, "smoke"))


def _tables(run, *stages_done):
    """A run's tables, but for the name of its model."""
    names = [name for stage in stages_done for name in stages.STAGES[stage].tables]
    found = {name: read_table(stages.run_table(run, name)) for name in names}
    assert all((table["model"] == run.name).all() for table in found.values())
    return {name: table.drop(columns="model") for name, table in found.items()}


def test_a_sweep_is_what_its_file_spelt_out_would_be(raw, write_study):
    raw["sweep"] = {"training.lr": ["1e-3", 0.02], "chaos.barrier_points": [5, 7]}
    swept = studyfile.load(write_study(raw))
    first = swept.models["vgg-barrier_points-5-lr-0.001"]
    assert len(swept.models) == 2 * 2 * 2
    assert (first.training.lr, first.chaos.barrier_points) == (0.001, 5)
    del raw["sweep"]
    raw["models"]["vgg"] |= {"training": {"lr": 0.001}, "chaos": {"barrier_points": 5}}
    assert studyfile.load(write_study(raw)).models["vgg"] == first


def test_each_model_of_a_sweep_has_sections_of_its_own(raw, write_study):
    raw["models"]["vgg"]["training"] = {"batch_size": 16}
    raw["sweep"] = {"training.lr": [0.01, 0.02]}
    swept = studyfile.load(write_study(raw)).models
    for lr in (0.01, 0.02):
        training = swept[f"vgg-lr-{lr}"].training
        assert (training.lr, training.batch_size) == (lr, 16)


def test_a_swept_key_of_a_schedule_keeps_the_others(raw, write_study):
    del raw["training"]["lr_drops"]
    raw["training"]["schedule"] = {"kind": "cosine", "warmup": 3, "end_factor": 0.1}
    raw["sweep"] = {"training.schedule.warmup": [2, 4]}
    schedule = studyfile.load(write_study(raw)).models["vgg-warmup-4"].training.schedule
    assert (schedule.kind, schedule.warmup, schedule.end_factor) == ("cosine", 4, 0.1)
    # Without a sweep, a model's own schedule takes the place of the shared one.
    del raw["sweep"]
    raw["models"]["vgg"]["training"] = {"schedule": {"warmup": 5}}
    with pytest.raises(StudyError, match=r"models\.vgg\.training\.schedule\.kind: is missing"):
        studyfile.load(write_study(raw))


@pytest.mark.parametrize(
    ("sweep", "names"),
    [
        ({"kernel.every": [2, 4]}, ["vgg-every-2", "vgg-every-4"]),
        ({"network.batch_norm": [True, False]}, ["vgg-batch_norm-true", "vgg-batch_norm-false"]),
        ({"training.lr_drops": [[], [4, 8]]}, ["vgg-lr_drops-none", "vgg-lr_drops-4_8"]),
        ({"linearized.switches": [[0]], "chaos.directions": [2]}, ["vgg-directions-2-switches-0"]),
        ({"growth.steps": [3], "growth.forks": [[0]]}, ["vgg-forks-0-steps-3"]),
        # Where the last part of two keys is one, more of them is shown.
        (
            {"chaos.forks": [[0, 4]], "growth.forks": [[0]]},
            ["vgg-chaos.forks-0_4-growth.forks-0"],
        ),
    ],
)
def test_names_are_short(sweep, names, raw, write_study):
    raw.pop("sizes")
    assert list(_only_vgg(raw, write_study, sweep=sweep).models) == names


def test_models_of_a_sweep_share_one_base_run(raw, write_study, in_trained):
    def states():
        files = in_trained.rglob("*.safetensors")
        return {f: f.stat().st_mtime_ns for f in files if not f.parent.name.startswith("kernel")}

    trained = states()
    kinds = {"full": None, "trace": None}
    swept = _only_vgg(raw, write_study, sweep={"kernel.kind": list(kinds)})
    for kind in kinds:
        run = Run(swept, f"vgg-kind-{kind}", 0)
        for stage in (base, chaos, kernel, cone):
            stage(run)
        kinds[kind] = _tables(run, "base", "chaos", "kernel", "cone")
    # No state was made or written again, and the kernels of both kinds lie side by side.
    assert states() == trained
    assert len(list(in_trained.glob("results/smoke/vgg/seed0/kernel-*/"))) == 2
    assert not kinds["full"]["kernel"].equals(kinds["trace"]["kernel"])

    for kind, found in kinds.items():
        run = Run(_only_vgg(raw, write_study, kernel=raw["kernel"] | {"kind": kind}), "vgg", 0)
        for part in stages.STAGES["chaos"].parts(run) + stages.STAGES["kernel"].parts(run):
            part.path.unlink(missing_ok=True)
        for stage in (base, chaos, kernel, cone):
            stage(run)
        theirs = _tables(run, "base", "chaos", "kernel", "cone")
        assert all(table.equals(theirs[name]) for name, table in found.items())


@pytest.fixture
def short(raw, write_study, in_tmp):
    """A function that loads a study of six iterations that measures nothing; its data are there."""
    few = {key: raw[key] for key in ("title", "data", "seeds", "evaluation", "compute")}
    few["training"] = raw["training"] | {"iterations": 6, "lr_drops": []}
    few["models"] = {"vgg": {"network": {"architecture": "vgg_small"}}}

    def load(training=None, **sections):
        training = few["training"] | (training or {})
        return studyfile.load(write_study(few | {"training": training} | sections))

    data(load())
    return load


def test_models_that_train_otherwise_share_no_run(short):
    rates = [0.01, 0.05]
    swept = short(sweep={"training.lr": rates})
    for rate in rates:
        ours, alone = Run(swept, f"vgg-lr-{rate}", 0), Run(short({"lr": rate}), "vgg", 0)
        base(ours)
        # The parts are those of the model alone, under its name.
        parts = [part.path for part in stages.STAGES["base"].parts(ours)]
        assert parts == [part.path for part in stages.STAGES["base"].parts(alone)]
        for path in parts:
            path.unlink()
        base(alone)
        assert _tables(ours, "base")["training"].equals(_tables(alone, "base")["training"])
    assert before_in_sweep("base", Run(swept, "vgg-lr-0.05", 0)) == []

    # The figure shows each model's mean at its place, and nothing of what was not measured.
    summary(swept, "training")
    tables = figures.tables(swept, "s7")
    with style.theme():
        (accuracy,) = panels.composed(figures.load("s7").draw(swept, tables)).axes
    assert [tick.get_text() for tick in accuracy.get_xticklabels()] == ["0.01", "0.05"]
    ends = read_table(tables["training_summary"]).query("measure == 'test_accuracy' and t == 6")
    assert accuracy.lines[0].get_ydata().tolist() == ends["mean"].tolist()
    assert "s7" in figures.asked(swept)
    assert "s7" not in figures.asked(short())


def test_what_models_share_is_adopted_once(short, monkeypatch):
    swept = short(sweep={"training.iterations": [4, 6]})
    one, other = (Run(swept, f"vgg-iterations-{last}", 0) for last in (4, 6))
    with monkeypatch.context() as patch:
        patch.setattr(rows, "code_digest", lambda *modules: "older")
        rows._part_maker.cache_clear()
        data(swept)
        for run in (one, other):
            base(run)
    rows._part_maker.cache_clear()
    assert stages.missing(one) == stages.missing(other) == ["base"]
    adopt(swept, 0.02)
    assert stages.missing(one) == stages.missing(other) == []
    states = {part.path for run in (one, other) for part in stages.STAGES["base"].parts(run)}
    assert {path.stem for path in states} == {"t-000000", "t-000004", "t-000006"}
    assert set(states) == set(Path().rglob("base-*/t-*"))


def test_jobs_that_may_make_the_same_parts_wait_for_each_other(raw, write_study):
    raw["sweep"] = {"kernel.kind": ["full", "trace"], "chaos.perturbation.size": [1e-7, 1e-3]}
    study = _only_vgg(raw, write_study)
    sizes, kinds = (1e-7, 1e-3), ("full", "trace")
    names = [f"vgg-size-{size}-kind-{kind}" for size in sizes for kind in kinds]
    first, other_kind, other_size, other_both = (Run(study, name, 0) for name in names)
    assert list(study.models) == names
    assert before_in_sweep("base", first) == []
    assert before_in_sweep("base", other_kind) == [("base", first)]
    # The forks of 1e-3 are those that `sizes` makes of a run whose own size is another.
    assert before_in_sweep("fork", other_size) == [("sizes", first), ("sizes", other_kind)]
    assert before_in_sweep("kernel", other_kind) == []
    assert before_in_sweep("kernel", other_both) == [("kernel", other_kind)]
    assert before_in_sweep("base", other_size) == [("base", first), ("base", other_kind)]
    # Models that are no sweep wait for nobody.
    del raw["sweep"]
    run = Run(studyfile.load(write_study(raw)), "vgg", 0)
    assert before_in_sweep("base", run) == []


def test_every_result_of_a_sweep_is_named_once(raw, write_study):
    study = _only_vgg(raw, write_study, sweep={"kernel.kind": ["full", "trace"]})
    every = [result.path for result in stages.every(study)]
    assert len(set(every)) == len(every)
    runs = [f"vgg-kind-{kind}" for kind in ("full", "trace")]
    tables = {p.parts[2] for p in every if p.suffix == ".parquet" and p.parent.name == "seed0"}
    assert tables == set(runs)


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        (3, "sweep = 3: must be keys with lists of values"),
        ({}, "sweep = {}: must be keys with lists of values"),
        ({"training.lr": []}, "sweep.training.lr = []: must be a list of values"),
        ({"training.lr": 0.1}, "sweep.training.lr = 0.1: must be a list of values"),
        ({"training.lr": [0.1, None]}, "sweep.training.lr = nothing: must be a number, a word"),
        ({"training.lr": ["1e-3", 0.001]}, r"[0.001, 0.001]: a value stands twice"),
        ({"training.lr": [0.1, "x"]}, "sweep.training.lr = 'x': must be a valid number"),
        ({"training.rate": [0.1]}, "sweep.training.rate: no such key; allowed here: iterations"),
        ({"training": {"lr": [0.1]}}, "sweep.training: must be an option of a model"),
        ({"data.augmentation.shift": [0]}, "sweep.data.augmentation.shift: must be an option of"),
        ({"network.activation": ["tanh"]}, "sweep.network.activation = 'tanh': must be 'relu'"),
        ({"training.optimizer": ["lbfgs"]}, "sweep.training.optimizer = 'lbfgs': must be one of"),
        ({"chaos.compare": [[0, "x"]]}, "sweep.chaos.compare.1 = 'x': must be a valid integer"),
        ({"kernel.until": [12, 24]}, "sweep.kernel.until = 24: lies after the end of training"),
        (
            {"chaos.forks": [[0], [4]]},
            "sweep.chaos.forks: models.resnet.chaos.forks = [0] is given, too",
        ),
        (
            {"training.batch_size": list(range(1, 102)), "kernel.every": list(range(1, 11))},
            "sweep = 1010 combinations of values: must be at most 1000",
        ),
    ],
)
def test_mistakes_are_told_at_the_key_of_the_sweep(sweep, expected, raw, write_study):
    raw["sweep"] = sweep
    with pytest.raises(StudyError) as caught:
        studyfile.load(write_study(raw))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1
    assert expected in lines[0]


def test_other_mistakes_are_told_where_the_file_has_them(raw, write_study):
    def told():
        with pytest.raises(StudyError) as caught:
            studyfile.load(write_study(raw))
        return [line.split(": ", 1)[1] for line in str(caught.value).splitlines()]

    raw["sweep"] = {"training.lr": [0.1, 0.2]}
    raw["models"]["vgg"]["network"]["widht"] = 2
    (line,) = told()
    assert line.startswith("models.vgg.network.widht: no such key")
    del raw["models"]["vgg"]["network"]["widht"]
    raw["kernel"]["until"] = 99
    after_the_end, off_the_grid = told()
    assert after_the_end.startswith("kernel.until = 99: lies after")
    assert off_the_grid.startswith("kernel.until = 99: is not")
    raw["kernel"]["until"] = 12
    raw["sweep"] = {"growth.steps": [1, 2]}
    raw["models"]["resnet"]["growth"] = False
    assert told() == ["sweep.growth.steps: the model 'resnet' has no section growth"]
