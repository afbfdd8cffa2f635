"""Studies changed at random: each is refused in lines that name the file, or it plans and runs.

`pytest tests/test_fuzz.py --hypothesis-profile long` tries 3,000 of them, and runs 100.
"""

import copy
import os
import tempfile
from pathlib import Path

import pytest
import yaml
from conftest import CONFIG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twophase import figures
from twophase.errors import Problem, StudyError
from twophase.figures import drawing, pictures
from twophase.stages.summary import summary
from twophase.study import stages, studyfile

RAW = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
SCALE = settings.get_current_profile_name() == "long"
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]


def _places(value, keys=()):
    """The keys to every section and value of a study."""
    if keys:
        yield keys
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*keys, key))


ODD = st.one_of(
    st.sampled_from(
        [None, "", "fast", "1e-3", "0", True, False, [], {}, [[]], [None], {"a": 1}, float("nan")]
    ),
    st.sampled_from([-1, 0, 1, 2, 3, 5, 7, 8, 13, 10**12, 0.5, -0.5, 1e-30, 1e30, float("inf")]),
    st.lists(st.integers(-1, 14), max_size=4),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["std", "l2", "relative", "trace", "pseudo", "recalibrate", "cuda", "tf32"]),
    st.sampled_from(["vgg_small", "resnet8", "resnet20", "vgg16", "digits", "cifar10", "folder"]),
).map(copy.deepcopy)  # a later change may go into a list or a section drawn before


@st.composite
def changed(draw):
    """The smoke study with one to three keys changed, removed or added."""
    raw = yaml.safe_load(yaml.safe_dump(RAW))
    for _ in range(draw(st.integers(1, 3))):
        keys = draw(st.sampled_from(sorted(_places(raw), key=str)))
        section = raw
        for key in keys[:-1]:
            section = section[key]
        what = draw(st.sampled_from(["change", "change", "change", "remove", "add"]))
        if what == "remove":
            del section[keys[-1]]
        elif what == "add":
            section[draw(st.one_of(st.text(max_size=8), st.integers()))] = draw(ODD)
        else:
            section[keys[-1]] = draw(ODD)
        if not raw:
            break
    return raw


def _load(raw, folder):
    path = Path(folder) / "mine.yaml"
    path.write_text(yaml.safe_dump(raw))
    try:
        return studyfile.load(path)
    except StudyError as error:
        for line in str(error).splitlines():
            assert line.startswith(f"{path}: "), line
            assert len(line) > len(f"{path}: ") + 5
        return None


@settings(
    max_examples=3000 if SCALE else 300,
    derandomize=not SCALE,
    deadline=None,
    suppress_health_check=QUIET,
)
@given(changed())
def test_a_changed_study_is_refused_by_key_or_plans(raw):
    with tempfile.TemporaryDirectory() as folder:
        study = _load(raw, folder)
    if study and len(study.seeds) < 100 and all(_short(m) for m in study.models.values()):
        planned = [result.path for result in stages.every(study)]
        assert len(set(planned)) == len(planned)
        for figure in figures.asked(study):
            assert {t.path for t in figures.tables(study, figure).values()} <= set(planned)


def _short(model):
    return model.training.iterations < 1000 and not (model.chaos and model.chaos.directions >= 100)


def _tiny(study):
    """Whether a study is of the smoke study's scale."""
    images = study.data.images
    return (
        images.source == "digits"
        and len(study.seeds) < 4
        and study.compute.device == "cpu"
        and all(
            m.training.iterations <= 20
            and m.training.batch_size <= 64
            and not (m.chaos and (m.chaos.directions > 3 or m.chaos.barrier_points > 20))
            and not (m.kernel and m.kernel.examples_per_class > 3)
            and study.compute.threads <= 2
            and m.network.architecture in ("vgg_small", "resnet8")
            and m.network.width <= 2
            for m in study.models.values()
        )
    )


@settings(
    max_examples=100 if SCALE else 6,
    derandomize=not SCALE,
    deadline=None,
    suppress_health_check=QUIET,
)
@given(changed().filter(lambda raw: _accepted(raw)))
def test_a_study_that_is_accepted_runs(raw):
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        study = _load(raw, folder)
        os.chdir(folder)
        try:
            _run(study)
        finally:
            os.chdir(before)


def _accepted(raw):
    with tempfile.TemporaryDirectory() as folder:
        study = _load(raw, folder)
    return study is not None and raw != RAW and _tiny(study)


def _run(study):
    """All stages of a study; a run whose numbers cannot be used may say so."""
    for stage, row in stages.STAGES.items():
        try:
            for each in [study] if row.scope == "study" else stages.runs_of(study, stage):
                stages.imported(stage)(each)
        except Problem:  # for example training that diverges
            return
    for table in stages.tables_of(study):
        summary(study, table)
    assert [result.path for result in stages.every(study) if not result.path.exists()] == []
    for figure in figures.asked(study) if SCALE else ["findings"]:
        drawing.draw(study, figure, Path("figures"))


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not SCALE:  # nor does the stage `check` draw
        monkeypatch.setattr(pictures, "tried", lambda *given: None)
