"""Studies changed at random: each is refused in lines that name the file, or it plans and runs.

`pytest tests/test_fuzz.py --hypothesis-profile long` tries 3,000 of them, and runs 100.
"""

import os
import tempfile
from pathlib import Path

import pytest
import yaml
from conftest import CONFIG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twophase import base, chaos, cone, fork, kernel, linearized, paths, study, summary
from twophase.errors import Problem, StudyError
from twophase.sources import prepare_data

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
)


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
        return study.load(path)
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
        plan = _load(raw, folder)
    small = (
        plan
        and plan.models
        and all(
            m.training.iterations < 1000 and m.chaos.directions < 100 for m in plan.models.values()
        )
    )
    if small and len(plan.seeds) < 100:
        planned = list(paths.every(plan))
        assert len(set(planned)) == len(planned)


def _tiny(plan):
    """Whether a study is of the smoke study's scale."""
    images = plan.data.images
    return (
        images.source == "digits"
        and len(plan.seeds) < 4
        and plan.compute.device == "cpu"
        and all(
            m.training.iterations <= 20
            and m.training.batch_size <= 64
            and m.chaos.directions <= 3
            and m.chaos.barrier_points <= 20
            and m.kernel.examples_per_class <= 3
            and plan.compute.threads <= 2
            and m.network.architecture in ("vgg_small", "resnet8")
            for m in plan.models.values()
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
        plan = _load(raw, folder)
        os.chdir(folder)
        try:
            _run(plan)
        finally:
            os.chdir(before)


def _accepted(raw):
    with tempfile.TemporaryDirectory() as folder:
        plan = _load(raw, folder)
    return plan is not None and raw != RAW and _tiny(plan)


def _run(plan):
    """All stages of a study; a run whose numbers cannot be used may say so."""
    prepare_data(plan)
    for model in plan.models:
        for seed in plan.seeds:
            try:
                base.train_base(plan, model, seed)
                for t0 in plan.models[model].chaos.forks:
                    fork.train_forks(plan, model, seed, t0)
                chaos.compare_forks(plan, model, seed)
                kernel.compute_kernels(plan, model, seed)
                cone.measure_cone(plan, model, seed)
                linearized.train_linearized(plan, model, seed)
            except Problem:  # for example training that diverges
                return
    for table in paths.RUN_TABLES:
        summary.summarize(plan, table)
    missing = [path for path in paths.every(plan) if not path.exists()]
    assert missing == []


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
