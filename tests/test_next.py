"""Long studies are done seed by seed, and each seed that has ended is published."""

import json
import subprocess
import sys

import forked
import pytest
from conftest import ROOT

from twophase.commands import next as command
from twophase.errors import RunError, StudyError
from twophase.study.run import Run
from twophase.study.stages import missing
from twophase.study.studyfile import load


@pytest.fixture
def study(raw, write_study, in_tmp, monkeypatch):
    """A study of two seeds of one model, without chaos and kernels, and its file."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "executable", forked.python())
    for section in ("chaos", "sizes", "matching", "kernel", "across_seeds", "growth", "linearized"):
        raw.pop(section, None)
    raw["models"] = {"resnet": {"network": raw["models"]["resnet"]["network"]}}
    raw |= {"seeds": [4, 2], "trajectory": {}}
    file = write_study(raw)
    return load(file), file


def test_every_model_gets_its_first_seeds_before_any_gets_more(smoke):
    more = smoke.model_copy(update={"seeds": [7, 1, 5]})
    found = [(run.name, run.seed) for run in command.in_order(more, 2)]
    first, last = list(more.models)
    assert found == [*((m, s) for m in (first, last) for s in (7, 1)), (first, 5), (last, 5)]
    assert [run.seed for run in command.in_order(more)] == 2 * [7, 1, 5]


def test_a_seed_is_published_as_soon_as_it_has_ended(study, in_tmp):
    made, file = study
    relative = file.relative_to(in_tmp)
    command.next_seeds(made, relative, 0.0, None)  # no time, no work
    assert not (in_tmp / "results").exists()
    command.next_seeds(made, relative, 10.0, None)
    assert not any(missing(Run(made, "resnet", seed)) for seed in (4, 2))
    folder = in_tmp / "paper/measurements/mine"
    assert (folder / "resnet/seed4/training.parquet").exists()
    tables = json.loads((folder / "provenance.json").read_text())["tables"]
    assert {"resnet/seed4/training", "resnet/seed2/training"} <= tables.keys()
    words = [sys.executable, "-m", "twophase", "next", relative, "--minutes", "1", "--first", "1"]
    again = subprocess.run(words, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, "")  # nothing is left


def test_what_fails_is_said_and_ends_it(study, in_tmp):
    made, file = study
    (in_tmp / "results").write_text("in the way")
    with pytest.raises(RunError, match="twophase data .*: ended with status 1"):
        command.next_seeds(made, file.relative_to(in_tmp), 10.0, None)
    with pytest.raises(StudyError, match="--first 0: must be at least 1"):
        command.next_seeds(made, file, 10.0, 0)
