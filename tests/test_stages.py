"""What the table of stages asks for: of whole studies, of studies without some sections."""

import re

import pytest
from conftest import CONFIG
from hypothesis import given, settings
from hypothesis import strategies as st
from staleness import with_own

from twophase import __main__, figures
from twophase.errors import StudyError
from twophase.jobs import fork_jobs
from twophase.stages.fork import fork
from twophase.store.artifacts import sha256
from twophase.study import stages, studyfile
from twophase.study.chaos import compare_points, fork_shares, forks
from twophase.study.model import Model
from twophase.study.run import Run
from twophase.study.studyfile import NEEDS, load

SECTIONS = ("chaos", "kernel", "linearized")
# The stages and figures that a study without the section does not have.
STAGES_OF = {
    "chaos": {"fork", "chaos", "sizes", "matching", "own_measures"},
    "kernel": {"kernel", "cone", "across_seeds"},
    "linearized": {"linearized"},
}
FIGURES_OF = {
    "chaos": {"fig1", "fig3"},
    "kernel": {"fig1", "fig4", "fig5"},
    "linearized": {"fig6"},
}
PAPER = {f"fig{number}" for number in range(1, 7)}


def _asked(study):
    """The stages whose parts, tables or summaries a study asks for, as their paths say."""
    found = set()
    for result in stages.every(study):
        names = [re.sub("-[0-9a-f]{8}$", "", part) for part in result.path.with_suffix("").parts]
        table = names[-1].removesuffix("_summary")
        of_study = len(names) == 3 and table in stages.STAGES
        found.add(table if of_study else stages.STAGE_OF.get(table) or names[4])
    return found


def test_a_study_asks_for_every_stage_that_it_has_the_section_of(smoke):
    asked = _asked(smoke)
    for name, row in stages.STAGES.items():
        models = smoke.models.values()
        has = row.section is None or any(getattr(model, row.section) for model in models)
        assert (name in asked) == has, name
    assert PAPER | {"findings"} <= set(figures.asked(smoke))
    paths = [result.path for result in stages.every(smoke)]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("how", ["left out", "false"])
def test_a_study_without_a_section_asks_for_nothing_of_it(section, how, raw, write_study, smoke):
    for name in (section, *(n for n, needed in NEEDS.items() if needed == section)):
        for asked in (raw, *raw["models"].values()):
            if how == "left out":
                asked.pop(name, None)
            else:
                asked[name] = False
    study = load(write_study(raw))
    assert all(getattr(model, section) is None for model in study.models.values())
    assert _asked(study) == _asked(smoke) - STAGES_OF[section]
    for stage in STAGES_OF[section]:
        assert stages.runs_of(study, stage) == []
    assert PAPER - set(figures.asked(study)) == FIGURES_OF[section]
    assert "findings" in figures.asked(study)


def test_a_study_of_base_runs_alone_is_a_study(raw, write_study):
    for name, field in Model.model_fields.items():
        if not field.is_required():
            for section in (raw, *raw["models"].values()):
                section.pop(name, None)
    study = load(write_study(raw))
    assert study.models["vgg"].checkpoints() == [0, 12]
    assert _asked(study) == {"data", "check", "base"}
    assert figures.asked(study) == ["fig2", "findings"]


def test_a_model_may_do_without_a_section_that_another_has(raw, write_study, tmp_path):
    raw |= {"across_seeds": {}} | with_own(tmp_path / "workflow/config")
    whole = load(write_study(raw, "whole"))
    raw["models"]["resnet"] |= {"chaos": False, "kernel": False}
    study = load(write_study(raw))
    for section in ("chaos", "kernel"):
        assert getattr(study.models["vgg"], section)
        assert getattr(study.models["resnet"], section) is None
    assert study.models["resnet"].checkpoints() == [0, 6, 12]
    for stage in stages.STAGES:
        needed = stage in STAGES_OF["chaos"] | STAGES_OF["kernel"]
        models = {run.name for run in stages.runs_of(study, stage)}
        assert models == ({"vgg"} if needed else {"vgg", "resnet"})
    compared = [r for r in stages.every(study) if r.identity.get("kind") == "comparison"]
    assert {r.identity["model"] for r in compared} == {"vgg"}
    assert figures.asked(study) == figures.asked(whole)


def test_a_figure_is_asked_for_only_if_one_model_has_all_that_it_shows(raw, write_study):
    # Figure 1 shows forks and kernels of one model.
    raw["models"]["resnet"]["chaos"] = False
    raw["models"]["vgg"]["kernel"] = False
    study = load(write_study(raw))
    assert PAPER - set(figures.asked(study)) == {"fig1"}


def test_sections_that_every_model_needs_cannot_be_left_out(raw, write_study):
    raw["models"]["vgg"]["evaluation"] = False
    with pytest.raises(StudyError, match=r"^\S+mine\.yaml: models\.vgg\.evaluation: is missing$"):
        load(write_study(raw))


def _arguments(*words):
    return __main__.parser().parse_args([str(word) for word in words])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fork", "--model", "resnet", "--seed", "0"], "--model resnet: must be one of vgg"),
        (["fork", "--model", "vgg", "--seed", "7"], "--seed 7: must be one of 0"),
        (["linearized", "--model", "vgg", "--seed", "0"], "no model has the section linearized"),
        (
            ["fork", "--model", "vgg", "--seed", "0", "--part", "3", "--parts", "2"],
            "--part 3: must be from 1 to --parts 2",
        ),
        (
            ["base", "--model", "vgg", "--seed", "0", "--fingerprint", "00000000"],
            "not for base-00000000: the study or the code changed",
        ),
    ],
)
def test_a_command_for_what_the_study_does_not_ask_is_one_clear_line(
    words, expected, raw, write_study, in_tmp
):
    raw["models"]["resnet"]["chaos"] = False
    del raw["linearized"]
    command, *options = words
    with pytest.raises(StudyError, match=expected) as caught:
        __main__.run(_arguments(command, write_study(raw), *options))
    assert "\n" not in str(caught.value)


SMOKE = studyfile.load(CONFIG / "smoke.yaml")


@st.composite
def _runs(draw):
    """Runs of any forks, with compare points after each of them."""
    forks = sorted(draw(st.sets(st.integers(0, 50), min_size=1, max_size=8)))
    compare = sorted(draw(st.sets(st.integers(1, 60), max_size=5)) | {forks[-1] + 1})
    chaos = {
        "forks": forks,
        "compare": compare,
        "directions": draw(st.integers(1, 4)),
        "control": sorted(draw(st.sets(st.sampled_from(forks)))),
    }
    model = SMOKE.models["vgg"]
    model = model.model_copy(update={"chaos": model.chaos.model_copy(update=chaos)})
    return Run(SMOKE.model_copy(update={"models": {"vgg": model}}), "vgg", 0)


@given(run=_runs(), jobs=st.integers(1, 60))
@settings(deadline=None)
def test_jobs_share_all_forks_in_order_whatever_their_number(run, jobs):
    shares = fork_shares(run, jobs)
    assert len(shares) == jobs
    assert [fork for share in shares for fork in share] == forks(run)
    lengths = {(t0, d): compare_points(run, t0)[-1] - t0 for t0, d in forks(run)}
    fair = sum(lengths.values()) / jobs
    assert all(sum(lengths[f] for f in share) < fair + max(lengths.values()) for share in shares)


def test_no_job_has_more_forks_than_asked_and_none_is_left_over(smoke):
    run = Run(smoke, "vgg", 0)
    assert len(forks(run)) == 6
    assert [fork_jobs(run, each, 1) for each in range(1, 8)] == [6, 3, 2, 2, 2, 1, 1]
    # Two jobs for each core, of the forks of two runs.
    assert [fork_jobs(run, "auto", cores) for cores in (1, 2, 3, 9)] == [1, 2, 3, 6]


def test_forks_that_several_jobs_did_have_the_same_bytes(smoke, in_trained):
    run = Run(smoke, "vgg", 0)
    parts = [part.path for part in stages.STAGES["fork"].parts(run)]
    whole = {path: sha256(path) for path in parts}
    for path in parts:
        path.unlink()
    for part, share in enumerate(fork_shares(run, 4), 1):
        fork(run, part, 4)
        there = {f for f in forks(run) if stages.perturbation(run, *f).path.exists()}
        assert set(share) <= there
        assert len(there) == sum(len(s) for s in fork_shares(run, 4)[:part])
    assert {path: sha256(path) for path in parts} == whole


PUBLISHED = sorted((CONFIG.parents[1] / "tests" / "published").glob("*.yaml"))


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_a_study_of_an_earlier_format_still_loads(file):
    # As they were when results had version 1: all sections, and only one optimizer.
    study = load(file)
    assert study.models
    for model in study.models.values():
        assert model.training.optimizer == "sgd"
        assert all(getattr(model, section) for section in SECTIONS)
    assert set(figures.asked(study)) >= PAPER | {"findings"}
