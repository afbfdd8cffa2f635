import shutil

import pytest

from twophase import fingerprint as module
from twophase import paths
from twophase.study import load


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A copy of the package's source that may be edited."""
    copy = tmp_path / "twophase"
    shutil.copytree(module.SOURCE, copy)
    monkeypatch.setattr(module, "SOURCE", copy)
    _forget()
    yield copy
    _forget()


def _forget():
    for cached in (module.code_digest, module._tree, module._normalised):
        cached.cache_clear()


def _edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    _forget()


def _digests():
    return {name: module.code_digest(name) for name in ("data", "base", "fork", "chaos", "kernel")}


def test_comments_docstrings_and_layout_do_not_count(source):
    before = _digests()
    _edit(source / "train.py", '"""SGD from one', '"""Plain SGD from one')
    _edit(
        source / "train.py",
        "    state.model.train()\n",
        "    # Hello.\n\n    state.model.train()\n",
    )
    assert _digests() == before


def test_code_counts_for_the_stages_that_run_it_and_no_others(source):
    before = _digests()
    _edit(source / "fork.py", "scale = perturbation.size", "scale = 2 * perturbation.size")
    assert {name for name, digest in _digests().items() if digest != before[name]} == {"fork"}
    before = _digests()
    _edit(source / "train.py", "nesterov=False", "nesterov=True")
    changed = {name for name, digest in _digests().items() if digest != before[name]}
    assert changed == {"base", "fork", "chaos", "kernel"}


def test_a_network_counts_for_all_that_train_it(source):
    before = _digests()
    _edit(source / "models" / "resnet.py", "F.relu(x + y)", "F.relu(y)")
    changed = {name for name, digest in _digests().items() if digest != before[name]}
    assert changed == {"base", "fork", "chaos", "kernel"}


def test_neutral_modules_and_figures_change_no_result(source):
    before = _digests()
    for neutral in sorted(module.NEUTRAL):
        (source / f"{neutral}.py").write_text("x = 1\n")
    _edit(source / "figures" / "style.py", "WIDTH = 7.2", "WIDTH = 3.6")
    _forget()
    assert _digests() == before


def _paths(study):
    return {
        "data": paths.data(study),
        "base": paths.base(study, "vgg", 0),
        "training": paths.training(study, "vgg", 0),
        "fork": paths.fork(study, "vgg", 0, 0, "1"),
        "perturbation": paths.perturbation(study, "vgg", 0, 0),
        "chaos": paths.chaos(study, "vgg", 0),
        "kernel": paths.kernel(study, "vgg", 0),
        "kernel_norm": paths.kernel_norm(study, "vgg", 0),
        "kernel_distance": paths.kernel_distance(study, "vgg", 0),
        "linearized": paths.linearized(study, "vgg", 0),
    }


ALL_TRAINED = {
    "base",
    "training",
    "fork",
    "perturbation",
    "chaos",
    "kernel",
    "kernel_norm",
    "kernel_distance",
    "linearized",
}


@pytest.mark.parametrize(
    ("section", "option", "value", "stale"),
    [
        ("training", "lr", 0.03, ALL_TRAINED),
        ("compute", "threads", 2, ALL_TRAINED),
        ("chaos", "perturbation", {"kind": "l2", "size": 1e-7}, {"fork", "perturbation", "chaos"}),
        ("chaos", "compare", [6, 8, 12], {"perturbation", "chaos"}),
        ("chaos", "barrier_points", 7, {"chaos"}),
        ("chaos", "barrier_threshold", 0.2, set()),
        ("kernel", "examples_per_class", 2, {"kernel", "kernel_norm", "kernel_distance"}),
        ("kernel", "references", [8], set()),
        ("linearized", "switches", [0, 5], {"training", "linearized"}),
    ],
)
def test_an_option_makes_stale_what_depends_on_it_and_no_more(
    section, option, value, stale, raw, write_study
):
    before = _paths(load(write_study(raw)))
    raw[section][option] = value
    after = _paths(load(write_study(raw)))
    assert {name for name in before if before[name] != after[name]} == stale


def test_another_model_is_left_alone(raw, write_study):
    before = paths.chaos(load(write_study(raw)), "resnet", 0)
    raw["models"]["vgg"]["training"] = {"lr": 0.5}
    assert paths.chaos(load(write_study(raw)), "resnet", 0) == before
