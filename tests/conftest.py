import functools
import gc
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import forked
import pytest
import yaml
from filelock import FileLock
from hypothesis import settings
from trials import kill
from trials.kill import ENVIRONMENT, ROOT

from twophase import figures
from twophase.store.origin import ORIGIN
from twophase.study import datasets, studyfile
from twophase.study.run import runs

# For trials by hand; `make test` runs the short form.
settings.register_profile("long")
CONFIG = ROOT / "workflow" / "config"
# The figures of the smoke study: all but those of sweeps.
SHOWN = {name: row for name, row in figures.FIGURES.items() if not row.of_sweeps}


def read_by(figure):
    """The tables, or their summaries, that a figure is drawn from, by its row."""
    timed = {*figure.timed, "training"} if figure.timed else ()  # with the learning rate's drops
    return {*figure.summaries, *figure.also, *figure.runs, *figure.first_seed, *timed}


# The files that take longest, in this order before all others: several processes that share the
# tests by files end together only if none begins a long one late.
LONG = ["slurm", "pipeline", "freshness", "published", "site", "figures", "check", "adopt"]
LONG += ["keep", "writeup"]


# A job that a shell starts in the background ignores Ctrl-C, and so would what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    # One process more than cores: who tries SLURM mostly waits.
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None


def pytest_configure(config):
    if not hasattr(config, "workerinput") and config.getoption("tx", None):
        forked.serve()  # for all processes that will share the tests


def pytest_collection_finish():
    # What is imported by now stays: no test's search for garbage looks at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def pytest_collection_modifyitems(items):
    names = [f"test_{name}" for name in LONG]
    items.sort(key=lambda item: [*names, item.path.stem].index(item.path.stem))


def snakemake(folder, *arguments):
    """Run Snakemake in a checkout; it and its jobs start half-way."""
    return forked.run(forked.LIGHT, folder, ENVIRONMENT, "snakemake", *arguments)


def planned(folder, target, *arguments):
    """The numbers of jobs that a dry run plans, by rule."""
    dry = snakemake(folder, "--dry-run", "--cores", "2", *arguments, target)
    assert dry.returncode == 0, dry.stderr
    text = dry.stdout + dry.stderr
    if "Nothing to be done" in text:
        return {}
    table = text.split("Job stats:")[1].split("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+)\s+(\d+)\s*$", table, re.M)}


def command(folder, *arguments):
    """Run a command of the program in a checkout, with the code there."""
    environment = ENVIRONMENT | {"PYTHONPATH": "src"}
    return forked.run(forked.HEAVY, folder, environment, "twophase", *arguments)


def edit(file, old, new):
    """Replace the first `old` in a file."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.fixture(autouse=True)
def own_origin():
    """Commands that a test runs in this process leave no trace in the results of the next test."""
    before = dict(ORIGIN)
    yield
    ORIGIN.clear()
    ORIGIN.update(before)


@pytest.fixture
def smoke():
    """The smoke study."""
    return studyfile.load(CONFIG / "smoke.yaml")


@pytest.fixture
def raw():
    """The smoke study as plain data, to be changed and written with `write_study`."""
    return yaml.safe_load((CONFIG / "smoke.yaml").read_text())


@pytest.fixture
def write_study(tmp_path):
    def write(raw, name="mine"):
        # Where commands look for it, in a test that works in `tmp_path`.
        path = tmp_path / "workflow" / "config" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(raw))
        return path

    return write


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    """An empty working directory, where stages find and leave results/."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_task(raw, write_study, in_tmp, monkeypatch):
    """Write the small study of a task, by its name in `small_tasks.py`, and load it."""
    import small_tasks

    # That a function returns the same in other processes is tried elsewhere.
    monkeypatch.setattr("twophase.datasets.function.HASH_SEEDS", ())
    return functools.partial(small_tasks.write, raw, write_study, in_tmp)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with the data, base runs and forks of the smoke study. Tests leave it as it is."""
    from twophase.stages.base import base
    from twophase.stages.data import data
    from twophase.stages.fork import fork

    study = studyfile.load(CONFIG / "smoke.yaml")
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data(study)
        for run in runs(study):
            base(run)
            fork(run)
    return folder


@pytest.fixture
def in_trained(in_tmp, trained):
    """A working directory of the test's own with what is in `trained`."""
    shutil.copytree(trained, in_tmp, dirs_exist_ok=True)
    return in_tmp


@pytest.fixture(scope="session")
def copy_checkout():
    """Copy what a fresh clone holds, without results, to a folder."""
    return kill.checkout


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id, copy_checkout):
    """A checkout in which the smoke study has run with two cores. Tests leave it as it is.

    Where several processes share the tests, one of them runs it for all.
    """
    # As a user runs it, from the first line of Python on.
    return _once(tmp_path_factory, worker_id, "smoke", copy_checkout, sys.executable)


@pytest.fixture(scope="session")
def small(tmp_path_factory, worker_id):
    """The same of the study `small` of `trials/kill.py`."""
    return _once(tmp_path_factory, worker_id, "small", kill.with_small_study, forked.python())


def _once(tmp_path_factory, worker_id, study, make, python):
    root = tmp_path_factory.getbasetemp()
    folder = (root if worker_id == "master" else root.parent) / f"finished-{study}"
    with FileLock(f"{folder}.lock"):
        if not (folder / f"figures/{study}/all").exists():
            make(folder)
            # Few jobs: that separate ones leave the same bytes is a test of its own.
            whole = ("--config", f"whole_runs=[{study}]")
            words = ("--cores", "2", f"figures/{study}/all", *whole)
            run = kill.snakemake(folder, *words, python=python)
            _, errors = run.communicate()
            assert run.returncode == 0, errors
    return folder


def read_images(images):
    """The images that a `data.images` section names."""
    return datasets.imported(images).read(images)


@pytest.fixture
def edited(tmp_path):
    """A copy of the package that a test may edit, and a study beside it."""
    import staleness

    return staleness.copy(tmp_path)


@pytest.fixture(scope="session")
def unedited(tmp_path_factory):
    """What makes each result of that study by the code as it is."""
    import staleness

    folder = staleness.copy(tmp_path_factory.mktemp("unedited"))
    cells = staleness.cells_of_process(folder)
    assert cells == staleness.cells(folder)
    assert cells.keys() == staleness.ALL
    return cells


@pytest.fixture
def checkout(finished, tmp_path):
    """A copy of the finished checkout that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "checkout"))


@pytest.fixture
def one_thread():
    """Small networks in float64 are slower with more, most of all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
