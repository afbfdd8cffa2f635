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
from twophase.stages import own_checks
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
    sections["measures"]["my-cka"] = sections["measures"].pop("seed")
    with pytest.raises(StudyError, match=r"smoke\.yaml: measures\.my-cka: must match \^\[A-Z"):
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
    "too many arguments": (
        {"function": "four"},
        "options.other: is missing; 'four' in mine.py needs it; given by their places are a, b, c",
    ),
    "an odd option": ({"options": {"power": 1}}, r"apart\.options\.power = 1: 'apart' in"),
    "an odd key": ({"functoin": "apart"}, r"measures\.apart\.functoin: .*file, function, options"),
    "no file": ({"file": "gone.py"}, r"measures\.apart\.file = 'gone\.py': no such file"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_with_its_key(name, study):
    changed, said = WRONG[name]
    Path("workflow/config/mine.py").write_text(f"{CODE}\n\ndef four(a, b, c, other): ...\n")
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


def test_what_a_function_changes_the_next_call_does_not_see(study):
    changing = """    base.layers[-1] = torch.nn.Identity()
    seen = float(data.test[1].double().mean())
    data.test[1].zero_()
    return seen


def after(base, fork, data, *, order):
    return {"seen": data.test[1].double().mean(), "classes": base.layers[-1].out_features}

"""
    text = CODE.replace("    images, labels = data.test\n", changing, 1)
    Path("workflow/config/mine.py").write_text(text)
    sections = yaml.safe_load(SECTIONS)
    sections["measures"]["later"] = sections["measures"]["apart"] | {"function": "after"}
    run = next(run for run in runs(study(**sections)) if run.name == "vgg")
    own_measures(run)
    table = read_table(stages.run_table(run, "own_measures"))
    labels = float(twophase.examples("smoke", "vgg")[1].double().mean())
    assert (table["apart"] == labels).all()
    assert (table["later_seen"] == labels).all()
    assert (table["later_classes"] == 10).all()


def _checked(known, code, capsys):
    """What `check` says of a study whose file of functions is this."""
    Path("workflow/config/mine.py").write_text(code)
    __main__._function("stages.check:check")(known)
    return capsys.readouterr().err


@pytest.fixture
def one_model(study):
    """The same with the VGG alone, and no more than what its own functions need."""
    raw = {"kernel": None, "linearized": None, "curvature": None, "growth": None}
    raw |= {"trajectory": None, "matching": None, "sizes": None}
    return lambda **changed: study(
        models={"vgg": {"network": {"architecture": "vgg_small"}}}, **raw, **changed
    )


def test_functions_may_ask_for_iterations_of_the_study_by_number(one_model, capsys):
    text = CODE.replace("for t, network in states.items()", "for t, network in [(12, states[12])]")
    text = text.replace(
        """query("direction != 'control'")""",
        """query("t0 == 4 and t1 == 12 and direction == '2' and seed == 0")
    perturbed["apart_mean"].iloc[0]""",
    )
    assert text.count("iloc") == 1
    assert text.count("states[12]") == 1
    assert "vgg: base" in _checked(one_model(), text, capsys)
    wrong = text.replace("t0 == 4", "t0 == 5")  # no fork is from there
    with pytest.raises(RunError, match=r"figure growing cannot .*mine\.py:\d+: IndexError") as told:
        _checked(one_model(), wrong, capsys)
    assert "\n" not in str(told.value)
    with pytest.raises(
        RunError, match=r"mine\.py:\d+: KeyError: 'no state at 5; there are 0, 6, 12"
    ):
        _checked(one_model(), text.replace("states[12]", "states[5]"), capsys)


def test_a_trial_s_table_has_the_rows_of_the_study(study):
    known = study(seeds=[0, 3])
    chaos = known.models["vgg"].chaos
    brief = {"model": "vgg", "seed": 0, "direction": ["1", "control"], "t0": 1, "t1": 2}
    found = own_checks.whole(known, pd.DataFrame(brief | {"x": [2.0, 0.0]}))
    numbers = {str(number) for number in range(1, chaos.directions + 1)} | {"control"}
    points = {(t0, t1) for t0 in chaos.forks for t1 in chaos.after(t0)}
    rows = [*found[["seed", "direction", "t0", "t1"]].itertuples(index=False, name=None)]
    assert len(rows) == len({*rows})
    assert {*rows} == {(s, d, *point) for s in (0, 3) for d in numbers for point in points}
    assert (found.groupby("direction")["x"].first() == [2.0] * chaos.directions + [0.0]).all()
    assert own_checks.whole(known, found[:0]).empty
    last, grown = {"model": "vgg", "seed": 0}, known.models["vgg"].growth
    for columns, there in (
        ({"t0": 1, "precision": "float32", "step": [0, 1]}, {"t0": grown.forks, "step": range(4)}),
        ({"switch": [1]}, {"switch": [0, 6]}),
        ({"size": [1e-3], "t0": 1, "t1": 2}, {"size": [1e-7, 1e-3], "t0": chaos.forks}),
        ({"stage": ["a", "b"], "t": [12, None]}, {"seed": [0, 3], "stage": ["a", "b"]}),
    ):
        found = own_checks.whole(known, pd.DataFrame(last | columns))
        assert {name: sorted({*found[name]}) for name in there} == {
            name: [*values] for name, values in there.items()
        }


def test_what_is_another_when_it_is_called_again_is_refused(one_model, capsys):
    number = "    import numpy\n    return numpy.random.rand()\n"
    text = CODE.replace("    images, labels = data.test\n", number, 1)
    with pytest.raises(RunError, match="stage own_measures: apart is another when the function"):
        _checked(one_model(), text, capsys)
    text = CODE.replace('"norm": float(', '"norm": __import__("numpy").random.rand() + float(')
    text = text.replace('__import__("numpy")', "pd.core.common.np")
    with pytest.raises(RunError, match="stage own_stages: norm is another when the function"):
        _checked(one_model(), text, capsys)


def test_a_measure_without_a_number_has_a_panel_that_says_so(one_model, capsys):
    text = CODE.replace("    images, labels = data.test\n", "    return float('nan')\n", 1)
    text = text.replace("apart_mean", "apart")
    known = one_model()
    assert "vgg: base" in _checked(known, text, capsys)


@pytest.mark.parametrize(
    "page", ["Page(panels, 'A.')", "Page([], 'A.')", "Page([panels], None)", "Page('x', 'A.')"]
)
def test_a_page_without_rows_of_panels_is_told_what_it_must_be(page, one_model, capsys):
    text = re.sub(r"return Page\(.*\)", f"return {page}", CODE)
    said = r"smoke\.yaml: figures\.growing: its Page must hold rows, which are lists of one Panel"
    with pytest.raises(RunError, match=said):
        _checked(one_model(), text, capsys)


def test_numbers_are_of_any_kind_that_is_one():
    import numpy as np

    said = {"a": torch.tensor(1.5), "b": np.float32(2), "c": True, "d": 3}
    assert numbers("k", "m", said) == {"m_a": 1.5, "m_b": 2.0, "m_c": 1.0, "m_d": 3.0}
    for value, kind in (([1, 2], "list"), ("1.5", "str"), (None, "NoneType")):
        with pytest.raises(RunError, match=f"k: returns a {kind} for m"):
            numbers("k", "m", value)


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
