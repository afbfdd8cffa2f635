"""Measures, stages and figures of the user's own: the worked example of docs/extending.md."""

import re
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT

import twophase
from twophase import __main__, figures, jobs
from twophase.commands import provenance
from twophase.errors import RunError, StudyError
from twophase.figures import drawing, manifest
from twophase.stages.own_measures import own_measures
from twophase.stages.own_stages import numbers, own_stages
from twophase.stages.summary import summary
from twophase.store.artifacts import read_table
from twophase.study import stage as rows
from twophase.study import stages, studyfile
from twophase.study.beginning import own_files
from twophase.study.own import FIGURE
from twophase.study.run import runs
from twophase.training.evaluation import logits

pytestmark = pytest.mark.usefixtures("one_thread")

_, PAGE = (
    (ROOT / "docs/extending.md").read_text().split("## A measure, stage or figure of your own")
)


def _block(head):
    """The code below a comment of the page, up to the next, or to its end."""
    found = re.search(rf"^    # {head}\n(.*?)(?=^\S|^    # in the study)", PAGE, re.M | re.S)
    return textwrap.dedent(found[1])


CODE, SECTIONS = _block(r"workflow/config/mine\.py"), _block("in the study")


@pytest.fixture
def study(in_trained, write_study, raw):
    """The smoke study with the page's functions, where base runs and forks are there already."""
    (in_trained / "workflow/config").mkdir(parents=True)
    (in_trained / "workflow/config/mine.py").write_text(CODE)

    def load(**changed):
        studyfile.forget()
        rows._part_maker.cache_clear()
        said = raw | yaml.safe_load(SECTIONS) | changed
        said = {key: value for key, value in said.items() if value is not None}
        return studyfile.load(write_study(said, "smoke"))

    return load


def _made(study):
    for run in runs(study):
        own_measures(run)
        own_stages(run)
    summary(study, "own_measures")


def test_the_worked_example_gives_columns_tables_and_figures(study, in_trained):
    known = study()
    _made(known)
    table = twophase.load("smoke", "own_measures")
    assert {"apart_mean", "apart_largest"} < {*table}
    control = table[table.direction == "control"]
    assert len(control)
    assert not control[["apart_mean", "apart_largest"]].to_numpy().any()
    row = table[(table.model == "vgg") & (table.t0 == 0) & (table.t1 == 12)].iloc[0]
    images, _ = twophase.examples("smoke", "vgg")
    ends = [
        twophase.network("smoke", "vgg", seed=0, t=12, fork=fork)
        for fork in (None, (row.direction, 0))
    ]
    apart = (logits(ends[0], images) - logits(ends[1], images)).norm(dim=1)
    assert row.apart_mean == pytest.approx(float(apart.mean()), rel=1e-5)
    assert row.apart_largest == pytest.approx(float(apart.max()), rel=1e-5)
    pooled = twophase.load("smoke", "own_measures_summary")
    assert {*pooled.measure} == {"apart_mean", "apart_largest"}
    norms = twophase.load("smoke", "own_stages")
    assert {*norms.t} == {0, 6, 12}
    first = next(iter(twophase.network("smoke", "vgg", seed=0, t=6).named_parameters()))
    at = norms[(norms.model == "vgg") & (norms.t == 6) & (norms.parameter == first[0])]
    assert at["norm"].item() == pytest.approx(float(first[1].detach().norm()), rel=1e-6)
    assert {"measures", "growing"} < {*figures.asked(known)}
    for figure in ("measures", "growing"):
        drawing.draw(known, figure, Path("drawn"))
        maker = figures.made_by(known, figure)
        assert figures.current(Path("drawn"), figure, maker)
    said = Path("drawn/growing.txt").read_text()
    assert "Left: how far logits are apart." in " ".join(said.split())
    twophase.draw("smoke", "growing", width=3.25, panel="b", caption=True)
    assert {path.name for path in own_files(known)} == {"mine.py"}


def _cells(study):
    found = {path.path.as_posix() for path in stages.every(study)}
    return found | {f"{n} {figures.made_by(study, n)}" for n in figures.asked(study)}


def _kinds(names):
    """The figures, or the kinds of results, among these."""
    own = ("own_measure", "own_stages")
    return {
        name.split()[0] if " " in name else next((k for k in own if k in name), name)
        for name in names
    }


def test_an_edit_counts_for_what_the_function_makes_and_for_nothing_else(study, in_trained):
    # Each in a file of its own.
    sections = yaml.safe_load(SECTIONS)
    for name, kind in (("apart", "measures"), ("norms", "stages"), ("growing", "figures")):
        Path(f"workflow/config/{name}.py").write_text(CODE)
        sections[kind][name]["file"] = f"{name}.py"
    before = _cells(study(**sections))
    for name, stale in (
        ("apart", {"own_measure", "measures", "growing"}),
        ("norms", {"own_stages", "growing"}),
        ("growing", {"growing"}),
    ):
        file = Path(f"workflow/config/{name}.py")
        file.write_text(CODE + "\nx = 1\n")
        changed = {each for each in _cells(study(**sections)) ^ before if "/check-" not in each}
        assert _kinds(changed) == stale, name
        file.write_text("# A comment.\n" + CODE)
        assert _cells(study(**sections)) == before
    # A study without them has no other results than one with them, but for these.
    without = _cells(study(measures=None, stages=None, figures=None))
    assert _kinds(e for e in without - before if "/check-" not in e) == set()
    assert _kinds(e for e in before - without if "/check-" not in e) == {
        "own_measure", "measures", "own_stages", "growing",
    }  # fmt: skip
    # Where they lie does not matter, options do.
    Path("workflow/config/inner").mkdir()
    for name, kind in (("apart", "measures"), ("norms", "stages"), ("growing", "figures")):
        Path(f"workflow/config/{name}.py").rename(f"workflow/config/inner/{name}.py")
        sections[kind][name]["file"] = f"inner/{name}.py"
    assert _cells(study(**sections)) == before
    sections["measures"]["apart"]["options"] = {"order": 1}
    assert "own_measure" in _kinds(_cells(study(**sections)) ^ before)


def test_provenance_names_the_edit_of_a_figures_function(study, in_trained, monkeypatch):
    known = study()
    _made(known)
    monkeypatch.setattr(figures, "asked", lambda study: ["growing"])
    drawn = Path("figures/smoke")
    drawing.draw(known, "growing", drawn)
    manifest.manifest(known, Path("workflow/config/smoke.yaml"), drawn)
    assert provenance.describe(drawn / "growing.pdf").endswith("current: yes")
    file = Path("workflow/config/mine.py")
    sections = yaml.safe_load(SECTIONS)
    Path("workflow/config/other.py").write_text(CODE)  # an edit of which makes the figure alone
    sections["figures"]["growing"]["file"] = "other.py"
    assert file.read_text() == CODE
    study(**sections)
    assert provenance.describe(drawn / "growing.pdf").endswith("current: yes")
    Path("workflow/config/other.py").write_text(CODE.replace("logits apart", "logits"))
    study(**sections)
    assert provenance.describe(drawn / "growing.pdf").endswith("current: no: code that draws it")


def test_jobs_are_one_for_each_run_and_figure(study):
    known = study()
    found = [job for job in jobs.jobs(known, {}, 2) if job.left]
    assert sum(job.rule == "own_measures" for job in found) == len(runs(known))
    assert sum(job.rule == "own_stages" for job in found) == len(runs(known))
    by_name = jobs.jobs(known, {}, 2, ["figures/smoke/growing.svg"])
    does = {job.rule for job in by_name if job.left}
    assert {"own_measures", "own_stages", "growing"} <= does
    assert not does & {"kernel", "chaos", "base"}


def test_what_is_there_is_kept(study):
    known = study()
    run = runs(known)[0]
    own_measures(run)
    parts = stages.STAGES["own_measures"].parts(run)
    table = read_table(stages.run_table(run, "own_measures"))
    parts[0].path.unlink()
    kept = [part.path.stat().st_mtime_ns for part in parts[1:]]
    own_measures(run)
    assert kept == [part.path.stat().st_mtime_ns for part in parts[1:]]
    pd.testing.assert_frame_equal(read_table(stages.run_table(run, "own_measures")), table)


def test_a_measure_is_called_as_no_column_is(study):
    sections = yaml.safe_load(SECTIONS)
    sections["measures"]["seed"] = sections["measures"].pop("apart")
    with pytest.raises(StudyError, match=r"measures\.seed: is a column of tables; must be none"):
        study(**sections)


def test_two_measures_do_not_give_one_column(study, in_trained):
    sections = yaml.safe_load(SECTIONS)
    sections["measures"]["apart_mean"] = sections["measures"]["apart"] | {"function": "one"}
    text = CODE + "\n\ndef one(base, fork, data, **options):\n    return 1.0\n"
    Path("workflow/config/mine.py").write_text(text)
    with pytest.raises(RunError, match="measures.apart_mean: gives apart_mean, which another"):
        own_measures(runs(study(**sections))[0])


def test_states_that_no_other_section_asks_for_are_kept(study):
    sections = yaml.safe_load(SECTIONS)
    sections["stages"]["norms"]["at"] = [0, 5]
    assert 5 in runs(study(**sections))[0].model.checkpoints()
    assert 5 not in runs(study())[0].model.checkpoints()


WRONG = {
    "no such function": ({"function": "gone"}, r"apart\.function = 'gone': is not in mine"),
    "too few arguments": ({"function": "norms"}, "'norms' takes 2 by their places, and gets 3"),
    "an odd option": ({"options": {"power": 1}}, r"apart\.options\.power = 1: 'apart' in"),
    "an odd key": ({"functoin": "apart"}, r"measures\.apart\.functoin: .*file, function, options"),
    "no file": ({"file": "gone.py"}, r"measures\.apart\.file = 'gone\.py': no such file"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_with_its_key(name, study):
    changed, said = WRONG[name]
    sections = yaml.safe_load(SECTIONS)
    sections["measures"]["apart"] |= changed
    with pytest.raises(StudyError, match=said):
        study(**sections)


@pytest.mark.parametrize(
    ("name", "own", "said"),
    [
        ("growing", {"tables": ["choas"]}, r"figures\.growing\.tables = 'choas': the study has no"),
        ("fig3", {}, r"figures\.fig3: is the name of a figure or stage"),
        ("a-b", {}, r"figures\.a-b.*must match|figures\.a-b"),
    ],
)
def test_a_wrong_figure_is_one_line(name, own, said, study):
    figure = yaml.safe_load(SECTIONS)["figures"]["growing"] | own
    with pytest.raises(StudyError, match=said) as caught:
        study(figures={name: figure})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "    return base",
            "measures.apart: returns a (ResNet|VGG) for apart; must return a number",
        ),
        ("    return {}", "measures.apart: returns no number"),
        ("    return 1 / 0", r"measures\.apart: apart: \S+mine\.py:\d+: ZeroDivisionError"),
    ],
)
def test_a_function_that_fails_is_told_before_training_and_when_it_runs(body, said, study, capsys):
    text = CODE.replace("    images, labels = data.test\n", body + "\n", 1)
    Path("workflow/config/mine.py").write_text(text)
    known = study()
    with pytest.raises(RunError, match=said) as caught:
        own_measures(runs(known)[0])
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=f"models.vgg: stage own_measures: {said}"):
        __main__._function("stages.check:check")(known)


def test_a_function_may_change_what_it_gets_and_draw_random_numbers(study):
    body = "    fork.train()\n    [p.data.zero_() for p in fork.parameters()]\n"
    body += "    return torch.rand(1)\n"
    text = CODE.replace("    images, labels = data.test\n", body, 1)
    Path("workflow/config/mine.py").write_text(text)
    torch.manual_seed(7)
    run = runs(study())[0]
    own_measures(run)
    drawn = read_table(stages.run_table(run, "own_measures"))["apart"]
    assert drawn.nunique() == 1
    assert 0 < drawn[0] < 1


def test_numbers_are_of_any_kind_that_is_one():
    import numpy as np

    said = {"a": torch.tensor(1.5), "b": np.float32(2), "c": True, "d": 3}
    assert numbers("k", "m", said) == {"m_a": 1.5, "m_b": 2.0, "m_c": 1.0, "m_d": 3.0}
    with pytest.raises(RunError, match="k: returns a list for m"):
        numbers("k", "m", [1, 2])


def test_tables_that_cannot_be_kept_are_refused(study):
    for body, said in (
        ("    return 3", "stages.norms: returns a int; must return a pandas DataFrame"),
        ("    return pd.DataFrame({'seed': [1]})", "has a column 'seed', which is put in for it"),
        ("    return pd.DataFrame({'x': [[1]]})", "column 'x' of its table must hold numbers"),
        ("    return pd.DataFrame({'x': [1, 'a']})", "column 'x' of its table must hold numbers"),
        ("    return pd.DataFrame([[1, 2]], columns=['x', 'x'])", "two columns of one name"),
    ):
        text = CODE.replace(
            '    """The norm of each layer', body + '\n    """The norm of each layer'
        )
        Path("workflow/config/mine.py").write_text(text)
        with pytest.raises(RunError, match=said):
            own_stages(runs(study())[0])


def test_what_rows_are_called_is_a_column_and_kinds_must_agree(study):
    Path("workflow/config/mine.py").write_text(
        "import pandas as pd\n\n\n"
        "def norms(states, data, x=1.0):\n"
        "    return pd.DataFrame({'layer': ['a', 'a', 'b'], 'x': x}).groupby('layer').count()\n\n\n"
        "def words(states, data):\n"
        "    return pd.DataFrame({'x': ['a']})\n"
    )
    mine = {"file": "mine.py", "function": "norms"}
    run = runs(study(measures=None, figures=None, stages={"norms": mine}))[0]
    own_stages(run)
    found = read_table(stages.run_table(run, "own_stages"))
    assert found[["layer", "x"]].to_numpy().tolist() == [["a", 2], ["b", 1]]
    both = {"norms": mine, "words": {"file": "mine.py", "function": "words"}}
    with pytest.raises(RunError, match="stages: column 'x' is of another kind in two"):
        own_stages(runs(study(measures=None, figures=None, stages=both))[0])


def test_no_figure_of_ones_own_can_be_named_as_one_of_the_package():
    assert all(re.fullmatch(FIGURE, name) for name in figures.FIGURES | figures.PANELS)
