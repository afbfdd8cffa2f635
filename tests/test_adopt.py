"""Results of older code are taken over only after the same bits came out of today's."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import CONFIG, edit

from twophase.commands.adopt import adopt
from twophase.commands.provenance import describe
from twophase.errors import RunError
from twophase.figures import pictures
from twophase.stages.base import base
from twophase.stages.data import data
from twophase.store.artifacts import (
    read_header,
    read_table,
    read_tensors,
    write_table,
    write_tensors,
)
from twophase.store.origin import ORIGIN
from twophase.study import stage as rows
from twophase.study import stages, studyfile
from twophase.study.run import Run
from twophase.training import loop

code_digest = stages.code_digest
# Those of the smoke study, which has no functions of its own.
STAGES = [
    stage
    for stage, row in stages.STAGES.items()
    if (row.scope == "run" or row.tables) and not stage.startswith("own_")
]
TABLES = [name for stage in STAGES for name in stages.STAGES[stage].tables]


def _do(stage, run):
    stages.imported(stage)(run if stages.STAGES[stage].scope == "run" else run.study)


def _version(patch, name):
    """Make the code's digests those of another version."""
    for module in (rows, stages):  # of parts, tables and summaries
        patch.setattr(module, "code_digest", lambda *modules: name + code_digest(*modules))
    rows._part_maker.cache_clear()


@pytest.fixture
def code(monkeypatch):
    """A function that makes the code another version."""
    yield lambda name: _version(monkeypatch, name)
    rows._part_maker.cache_clear()


@pytest.fixture(scope="module")
def finished_by_older_code(tmp_path_factory):
    """A folder with a study and its finished run. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("older")
    file = folder / "workflow/config/mine.yaml"
    file.parent.mkdir(parents=True)
    raw = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    del raw["models"]["vgg"]
    raw["across_seeds"] = {}
    file.write_text(yaml.safe_dump(raw))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _version(patch, "old")
        run = Run(studyfile.load(file), "resnet", 0)
        data(run.study)
        for stage in STAGES:
            _do(stage, run)
    return folder


@pytest.fixture
def run(finished_by_older_code, in_tmp, code):
    """The finished run, in a folder of the test's own; today's code asks for other names."""
    shutil.copytree(finished_by_older_code, in_tmp, dirs_exist_ok=True)
    code("new")
    return Run(studyfile.load(in_tmp / "workflow/config/mine.yaml"), "resnet", 0)


def _files():
    return {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}


def _asked(run):
    tables = [stages.run_table(run, name) for name in TABLES]
    return [p for stage in STAGES for p in stages.STAGES[stage].parts(run)] + tables


def test_the_same_code_by_another_name_is_adopted_with_what_was_proved(run, code, capsys):
    code("old")
    before = {name: pd.read_parquet(stages.run_table(run, name).path) for name in TABLES}
    count = len(_files())
    code("new")
    assert not any(result.path.exists() for result in _asked(run))
    adopt(run.study, 0.02)
    assert "every bit the same" in capsys.readouterr().out
    assert [r.path for r in _asked(run) if not r.path.exists()] == []
    assert len(_files()) == count  # the old names are gone, and nothing is left over
    for name, table in before.items():
        pd.testing.assert_frame_equal(pd.read_parquet(stages.run_table(run, name).path), table)
    file = stages.base_state(run, 12).path
    header = read_header(file)
    assert header["maker"]["code"] == stages.base_state(run, 12).maker.code
    assert header["adopted"]["sample"] == 0.02
    assert header["adopted"]["made_by_code"] != header["maker"]["code"]
    assert "0.02 of its stage's work was done again, bit for bit" in describe(file)
    adopt(run.study, 0.02)
    assert "nothing to adopt" in capsys.readouterr().out


def test_forks_of_each_family_of_perturbations_are_adopted(raw, write_study, in_tmp, code):
    del raw["models"]["vgg"], raw["chaos"]["perturbation"]
    raw["chaos"]["perturbations"] = {
        "gauss": {"kind": "std", "size": 1e-7},
        "ulp": {"kind": "ulp"},
        "order": {"kind": "order"},
    }
    raw |= {"kernel": False, "sizes": False, "seeds": [0]}
    code("old")
    run = Run(studyfile.load(write_study(raw)), "resnet", 0)
    data(run.study)
    for stage in ("base", "fork", "chaos"):
        _do(stage, run)
    code("new")
    adopt(run.study, 0.02)
    asked = [part for stage in ("fork", "chaos") for part in stages.STAGES[stage].parts(run)]
    assert [part.path for part in asked if not part.path.exists()] == []
    assert stages.run_table(run, "chaos").path.exists()


def test_the_mark_of_a_check_is_adopted_by_another_check(run, code, monkeypatch):
    monkeypatch.setattr(pictures, "tried", lambda *_: None)  # has a test of its own
    code("old")
    stages.imported("check")(run.study)
    code("new")
    assert not stages.check_mark(run.study).path.exists()
    adopt(run.study, 0.02)
    assert stages.check_mark(run.study).path.exists()


def test_images_are_adopted_whatever_computes_with_them(run, monkeypatch):
    shutil.rmtree("results/mine/resnet")
    monkeypatch.setitem(ORIGIN, "device", "cpu")  # as for all stages but `data`
    adopt(run.study, 0.02)
    assert stages.data_file(run.study).path.exists()


def test_adopted_results_are_read_as_results(run):
    adopt(run.study, 0.02)
    for name in TABLES:
        stages.run_table(run, name).path.unlink()
    for stage in STAGES:
        _do(stage, run)


def test_one_bit_in_a_state_and_nothing_is_adopted(run, code):
    code("old")
    file = stages.base_state(run, 0)
    tensors = read_tensors(file)
    tensors["model.linear.bias"].view(-1).view(
        dtype=tensors["model.norm.num_batches_tracked"].dtype
    )[0] ^= 1
    write_tensors(file, tensors)
    code("new")
    before = _files()
    with pytest.raises(
        RunError,
        match=r"t-000000\.safetensors.*model\.linear\.bias, entry 0: .* nothing was adopted",
    ):
        adopt(run.study, 0.02)
    assert _files() == before


def test_code_that_changes_numbers_is_found_out(run, monkeypatch):
    rate = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda *args: 1.001 * rate(*args))
    before = _files()
    with pytest.raises(RunError, match="nothing was adopted"):
        adopt(run.study, 0.02)
    assert _files() == before


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("twophase.stages.chaos.barrier", "barrier"),
        ("twophase.stages.kernel", "entk"),
        ("twophase.stages.fork", "perturb"),
        ("twophase.stages.linearized", "linear_logits"),
    ],
)
def test_each_stage_is_put_to_the_proof(run, monkeypatch, module, name):
    import importlib

    parent, _, leaf = module.rpartition(".")
    holder = getattr(importlib.import_module(parent), leaf)
    before = getattr(holder, name)

    def slightly_other(*args, **options):
        result = before(*args, **options)
        if isinstance(result, tuple):
            return (result[0] * 1.001, *result[1:])
        return result * 1.001 + 1e-6

    monkeypatch.setattr(holder, name, slightly_other)
    with pytest.raises(RunError, match="nothing was adopted"):
        adopt(run.study, 0.02)


def test_a_run_that_is_not_finished_keeps_what_it_has(run, code):
    code("old")
    for t in (8, 12):
        stages.base_state(run, t).path.unlink()
        stages.kernel_file(run, t).path.unlink()
    for stage in ("chaos", "linearized"):
        for part in stages.STAGES[stage].parts(run):
            part.path.unlink()
    for stage in STAGES:
        for name in stages.STAGES[stage].tables:
            stages.run_table(run, name).path.unlink()
    code("new")
    adopt(run.study, 0.02)
    assert [t for t in (0, 4, 6, 8, 12) if stages.base_state(run, t).path.exists()] == [0, 4, 6]
    assert stages.fork_state(run, 0, "1", 12).path.exists()
    base(run)
    assert stages.run_table(run, "training").path.exists()


def test_other_options_are_not_adopted(run, capsys):
    file = Path("workflow/config/mine.yaml")
    edit(file, "lr: 0.02", "lr: 0.03")
    other = studyfile.load(file)
    adopt(other, 0.02)
    # The images do not depend on it.
    assert "1 results adopted" in capsys.readouterr().out


def test_another_kind_of_machine_proves_nothing(run, monkeypatch):
    from twophase.store.origin import ORIGIN

    monkeypatch.setitem(ORIGIN, "machine", "another")
    with pytest.raises(RunError, match="machine"):
        adopt(run.study, 0.02)


def test_what_is_not_proved_is_not_believed(run, code, monkeypatch):
    code("old")
    for result in stages.STAGES["chaos"].parts(run):
        result.path.unlink()
    for name in ("chaos", "barrier_path"):
        stages.run_table(run, name).path.unlink()
    for direction in ("1", "2", "control"):
        stages.fork_state(run, 0, direction, 12).path.unlink()
        stages.perturbation(run, 0, direction).path.unlink()
    code("new")
    adopt(run.study, 0.02)
    # No fork has ended, so none was proved.
    assert not stages.fork_state(run, 0, "1", 6).path.exists()
    assert stages.base_state(run, 12).path.exists()


@pytest.mark.parametrize(
    "stage", ["chaos", "sizes", "linearized", "kernel", "growth", "curvature", "matching"]
)
def test_a_stage_that_was_stopped_in_its_middle_is_left_to_be_made_again(run, code, stage):
    code("old")
    parts = stages.STAGES[stage].parts(run)
    for part in parts[len(parts) // 3 :]:
        part.path.unlink()
    for name in stages.STAGES[stage].tables:
        stages.run_table(run, name).path.unlink()
    code("new")
    adopt(run.study, 0.02)
    assert stages.run_table(run, "training").path.exists()
    assert stages.fork_state(run, 0, "1", 12).path.exists()


def test_tables_whose_states_are_gone_are_not_believed(run, code, capsys):
    code("old")
    for part in stages.STAGES["base"].parts(run):
        part.path.unlink()
    code("new")
    adopt(run.study, 0.02)
    assert not stages.run_table(run, "training").path.exists()
    assert not stages.run_table(run, "chaos").path.exists()
    assert "kernel of resnet, seed 0: cannot be proved" in capsys.readouterr().out
    for stage in ("kernel", "cone", "across_seeds"):  # nor is what is made from such tables
        tables = [stages.run_table(run, table) for table in stages.STAGES[stage].tables]
        assert not any(table.path.exists() for table in tables), stage


def test_two_versions_of_the_code_do_not_make_one_run(run, code):
    code("old")
    tensors = {name: t + 1 for name, t in read_tensors(stages.base_state(run, 4)).items()}
    code("earlier, with other numbers, and stopped")
    begun = stages.base_state(run, 4)
    write_tensors(begun, tensors)
    code("new")
    adopt(run.study, 0.02)
    assert stages.run_table(run, "chaos").path.exists()
    assert begun.path.exists()


def _without(column, results):
    """Write tables as they were before there was this column."""
    for result in results:
        content, origin = read_table(result), read_header(result.path)["origin"]
        write_table(result, content.drop(columns=column), origin=origin)


def test_what_is_made_from_tables_with_other_columns_is_left_as_they_are(run, code, capsys):
    code("old")
    _without("disagreement", stages.STAGES["chaos"].parts(run))
    code("new")
    adopt(run.study, 0.02)
    assert "chaos of resnet, seed 0: its tables have disagreement now" in capsys.readouterr().out
    chaos = stages.STAGES["chaos"]
    tables = [stages.run_table(run, table) for table in chaos.tables]
    assert not any(result.path.exists() for result in [*chaos.parts(run), *tables])
    for stage in ("base", "fork", "kernel", "cone"):
        row = stages.STAGES[stage]
        tables = [stages.run_table(run, table) for table in row.tables]
        assert all(result.path.exists() for result in [*row.parts(run), *tables]), stage


def test_a_table_with_other_columns_leaves_the_parts_that_are_proved(run, code, capsys):
    code("old")
    _without("lr", [stages.run_table(run, "training")])
    code("new")
    adopt(run.study, 0.02)
    assert "base of resnet, seed 0: its tables have lr now" in capsys.readouterr().out
    left = [result for result in _asked(run) if not result.path.exists()]
    assert left == [stages.run_table(run, "training")]
