"""Why a result is made again: the option or module whose change makes it another one."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import edit, snakemake

from twophase.commands import status
from twophase.commands.provenance import describe
from twophase.commands.reasons import reasons
from twophase.store.artifacts import read_header, said_by, write_table, write_tensors
from twophase.store.why import reason
from twophase.study import stage as rows
from twophase.study import stages, studyfile
from twophase.study.run import runs

NET = """
import helpers
from torch import nn


def net(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""


@pytest.fixture
def asked(raw, write_study, in_tmp):
    """A function that reads the study, changed by a function, as it is asked for now."""
    raw["models"] = {"mine": {"network": {"file": "net.py", "builder": "net"}}}
    path = write_study(raw)
    (path.parent / "net.py").write_text(NET)
    (path.parent / "helpers.py").write_text("x = 1\n")

    def read(change=lambda raw: None):
        rows._part_maker.cache_clear()
        change(raw)
        study = studyfile.load(write_study(raw))
        return study, runs(study)[0]

    return read


def _fill(study):
    """Files for all that a study asks for; what they hold does not matter."""
    for result in stages.every(study):
        if result.path.suffix == ".parquet":
            write_table(result, pd.DataFrame({"x": [1]}))
        else:
            write_tensors(result, {"x": torch.zeros(1)})


def _table(run, name):
    return reason(stages.run_table(run, name))


def test_there_is_no_reason_where_all_is_there_or_nothing_ever_was(asked):
    study, run = asked()
    assert _table(run, "chaos") == reason(stages.base_state(run, 4)) == ""
    assert list(reasons(study)) == []
    _fill(study)
    assert _table(run, "chaos") == ""
    stages.run_table(run, "chaos").path.unlink()
    assert _table(run, "chaos") == ""  # deleted, and nothing else was made in its place
    assert list(reasons(study)) == []


CHANGES = {
    # what changes: (how, tables that have the reason, those that stay, the reason)
    "an option of training": (
        lambda raw: raw["training"].update(lr=0.4),
        ("training", "chaos", "cone", "linearized"),
        (),
        "training.lr = 0.4, was 0.02",
    ),
    "an option that had its default": (
        lambda raw: raw["training"].update(nesterov=True),
        ("training", "matching", "sizes"),
        (),
        "training.nesterov = True, was its default",
    ),
    "the perturbation": (
        lambda raw: raw["chaos"]["perturbation"].update(size=1e-3),
        ("chaos", "matching"),
        ("training", "cone"),
        "chaos.perturbation.size = 0.001, was 1e-07",
    ),
    "how forks are compared": (
        lambda raw: raw["chaos"].update(barrier_points=7),
        ("chaos", "matching"),
        ("training", "cone"),
        "chaos.barrier_points = 7, was 5",
    ),
    "one more point": (
        lambda raw: raw["chaos"].update(compare=[6, 8, 12]),
        ("chaos",),
        ("cone",),
        "points: 6 more, such as [0, '1', 8]",
    ),
    "threads": (
        lambda raw: raw["compute"].update(threads=3),
        ("training", "cone"),
        (),
        "compute.threads = 3, was 1",
    ),
    "the user's code": (
        lambda raw: Path("workflow/config/helpers.py").write_text("x = 2\n"),
        ("training", "cone", "linearized"),
        (),
        "code of helpers",
    ),
    "a variable of the environment": (
        lambda raw: Path("workflow/config/helpers.py").write_text(
            "import os\nx = os.environ.get('LAB')\n"
        ),
        ("training",),
        (),
        "variable $LAB, which is now used; code of helpers",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_option_or_module_that_changed_is_named(change, asked):
    how, affected, others, said = CHANGES[change]
    _fill(asked()[0])
    study, run = asked(how)
    assert {name: _table(run, name) for name in affected} == dict.fromkeys(affected, said)
    assert {name: _table(run, name) for name in others} == dict.fromkeys(others, "")
    assert all(said in line for line in reasons(study))
    assert any(said in line for line in status.lines(study))


def test_a_perturbation_more_is_new_and_had_no_default(asked):
    one, other = {"kind": "std", "size": 1e-7}, {"kind": "ulp", "only": ["*"]}

    def several(**kinds):
        def change(raw):
            raw["chaos"] = {k: v for k, v in raw["chaos"].items() if not k.startswith("perturb")}
            raw["chaos"]["perturbations"] = kinds

        return change

    _fill(asked()[0])
    _, run = asked(several(a=one))
    assert _table(run, "chaos").endswith("; chaos.perturbation is another")
    _fill(run.study)
    _, run = asked(several(a=one, b=other))
    told = _table(run, "chaos")
    assert "; chaos.perturbation.b is new; " in told
    assert "default" not in told
    _fill(run.study)
    _, run = asked(several(a={"kind": "std", "size": 1e-6}))
    assert "chaos.perturbation.a.size = 1e-06, was 1e-07" in _table(run, "chaos")


def test_a_table_knows_what_made_states_that_are_gone(asked):
    study, run = asked()
    _fill(study)
    shutil.rmtree(stages.base_state(run, 4).path.parent)
    study, run = asked(lambda raw: raw["training"].update(lr=0.4))
    assert _table(run, "chaos") == "training.lr = 0.4, was 0.02"
    # A part names what it was made from by a fingerprint alone.
    for table in Path("results/mine").rglob("*.parquet"):
        if table.parent.name == "seed0":
            table.unlink()
    assert reason(stages.comparison(run, 0, "1", 6)) == "another base, of which the old one is gone"


def test_a_part_at_a_new_point_is_compared_with_the_others(asked):
    _fill(asked()[0])

    def change(raw):
        raw["kernel"] |= {"kind": "trace", "every": 2}

    _, run = asked(change)
    assert reason(stages.kernel_file(run, 2)) == "kernel.kind = 'trace', was 'full'"


def test_of_several_the_nearest_is_told(asked):
    for lr, momentum in ((0.1, 0.9), (0.2, 0.8)):
        study, run = asked(
            lambda raw, o={"lr": lr, "momentum": momentum}: raw["training"].update(o)
        )
        _fill(study)
    _, run = asked(lambda raw: raw["training"].update(lr=0.2, momentum=0.7))
    assert _table(run, "training") == "training.momentum = 0.7, was 0.8"


def test_many_differences_are_counted(asked):
    _fill(asked()[0])

    def change(raw):
        raw["training"] |= {"lr": 0.2, "momentum": 0.8, "weight_decay": 0.5, "batch_size": 8}
        raw["compute"]["threads"] = 3
        raw["data"]["augmentation"]["shift"] = 0

    _, run = asked(change)
    said = _table(run, "training")
    assert said.count(";") == 4
    assert said.endswith("; and 2 more")


def test_files_of_before_recipes_say_what_they_can(asked):
    study, run = asked()
    for result in (stages.run_table(run, "training"), stages.run_table(run, "cone")):
        write_table(result, pd.DataFrame({"x": [1]}), recipe={})
    _, run = asked(lambda raw: raw["training"].update(lr=0.4))
    assert _table(run, "cone") == "other options (the old file does not say which)"
    _, run = asked(lambda raw: raw["training"].update(lr=0.02))
    Path("workflow/config/helpers.py").write_text("x = 2\n")
    _, run = asked()
    assert _table(run, "cone") == "other code (the old file does not say which)"


def test_provenance_says_why_a_file_is_not_current(asked):
    study, run = asked()
    _fill(study)
    state, table = stages.base_state(run, 4).path, stages.run_table(run, "cone").path
    assert "current: yes" in describe(state)
    asked(lambda raw: raw["training"].update(lr=0.4))
    for file in (state, table):
        assert "current: no: training.lr = 0.4, was 0.02" in describe(file)
    asked(lambda raw: raw["kernel"].update(until=8))
    assert "current: no: the study asks for no such result" in describe(
        stages.kernel_file(run, 12).path
    )


def test_what_a_part_says_is_small_and_the_same_each_time(asked):
    study, run = asked()
    _fill(study)
    for result in stages.every(study):
        header, before = read_header(result.path), result.path.read_bytes()
        assert said_by(result.path) == header
        size = len(str(header["recipe"]))
        assert size < (2500 if len(result.path.parts) > 5 else 12000), result.path
        assert ("behind" in header["recipe"]) == (
            len(result.path.parts) == 5 and bool(result.maker.before)
        )
    _fill(asked()[0])
    assert result.path.read_bytes() == before


def test_forks_of_other_sizes_are_no_older_forks(asked):
    study, run = asked()
    _fill(study)
    shutil.rmtree(stages.fork_state(run, 0, "1", 6).path.parents[2])
    assert list(reasons(study)) == []


def test_a_file_that_cannot_be_read_says_nothing(tmp_path):
    for name, content in {
        "a.parquet": b"x",
        "b.safetensors": b"\xff" * 9,
        "c.safetensors": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert said_by(tmp_path / name) == {}
    assert said_by(tmp_path / "none.parquet") == {}


def test_a_dry_run_says_why(tmp_path, copy_checkout, monkeypatch):
    folder = tmp_path / "checkout"
    copy_checkout(folder)
    monkeypatch.chdir(folder)
    file = folder / "workflow/config/smoke.yaml"
    table = stages.run_table(runs(studyfile.load(file))[0], "cone")
    write_table(table, pd.DataFrame({"x": [1]}))
    edit(file, "lr: 0.02", "lr: 0.04")
    dry = snakemake(folder, "--dry-run", "--cores", "1", "figures/smoke/all")
    assert "smoke: cone of vgg, seed 0: training.lr = 0.04, was 0.02\n" in dry.stderr
