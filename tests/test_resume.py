"""Work that is stopped resumes from the last kept state and ends in the same bytes."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from trials.kill import ENVIRONMENT, ROOT

from twophase.errors import RunError
from twophase.stages.base import base
from twophase.stages.data import data
from twophase.stages.fork import fork
from twophase.stages.linearized import linearized
from twophase.store.artifacts import sha256
from twophase.store.origin import ORIGIN
from twophase.study import stages
from twophase.study.run import Run
from twophase.study.studyfile import load
from twophase.training import batches, loop


@pytest.fixture
def run(smoke, in_trained):
    """A base run of the smoke study that has ended, with its forks."""
    return Run(smoke, "vgg", 0)


def _files():
    """All results by path, with their digests."""
    return {str(p): sha256(p) for p in sorted(Path("results").rglob("*")) if p.is_file()}


def _forget(stage, run):
    """Remove a stage's results."""
    row = stages.STAGES[stage.__name__]
    for result in [*row.parts(run), *(stages.run_table(run, name) for name in row.tables)]:
        result.path.unlink()


def _unfinished():
    return list(Path("results").rglob("unfinished*"))


@pytest.fixture
def steps_until(monkeypatch):
    """Note the steps that a stage trains, and press Ctrl-C at one of them, if any."""

    drawn = batches.draw

    def watch(stage, interrupt=None):
        steps = []

        def draw(augmentation, seed, step, *sizes):
            if step == interrupt:
                raise KeyboardInterrupt
            steps.append(step)
            return drawn(augmentation, seed, step, *sizes)

        place = batches if stage is linearized else loop  # where `draw` is looked up
        monkeypatch.setattr(place, "draw", draw)
        return steps

    return watch


@pytest.mark.parametrize(
    ("stage", "interrupt"),
    # Kept anyway are the base run's states at 0, 4, 6, 8 and 12, a fork's at 6 and 12, and those
    # of the linearised network at 10 and 12.
    [(base, 3), (base, 11), (fork, 3), (fork, 9), (linearized, 7), (linearized, 11)],
)
def test_an_interruption_costs_no_step_that_was_kept_by_time(
    stage, interrupt, run, steps_until, capsys
):
    if stage is linearized:
        linearized(run)
    whole = _files()
    _forget(stage, run)
    steps_until(stage, interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage(run, keep_minutes=0)
    (left,) = _unfinished()
    assert f"resumes at iteration {interrupt}" not in capsys.readouterr().err
    steps = steps_until(stage)
    stage(run, keep_minutes=0)
    assert capsys.readouterr().err.count(f"resumes at iteration {interrupt}\n") == 1
    assert steps[0] == interrupt
    assert not left.exists()
    assert _files() == whole


def test_a_state_is_kept_only_after_minutes_of_work(run, steps_until, monkeypatch, capsys):
    _forget(fork, run)
    # A clock that shows a minute more each time that it is read: after each step, and when a state
    # has been kept.
    minutes = iter(range(10**6))
    clock = SimpleNamespace(monotonic=lambda: 60 * next(minutes))
    monkeypatch.setattr(loop, "time", clock)
    steps_until(fork, 5)
    with pytest.raises(KeyboardInterrupt):
        fork(run, keep_minutes=3)
    steps = steps_until(fork, 6)
    with pytest.raises(KeyboardInterrupt):
        fork(run, keep_minutes=1000)
    assert "resumes at iteration 3\n" in capsys.readouterr().err
    assert steps == [3, 4, 5]


def test_a_run_that_was_killed_resumes_and_ends_in_the_same_bytes(run):
    whole = _files()
    # As if killed after the second checkpoint, and in the middle of the second fork from 4.
    for t in (6, 8, 12):
        stages.base_state(run, t).path.unlink()
    stages.run_table(run, "training").path.unlink()
    stages.fork_state(run, 4, "2", 12).path.unlink()
    stages.fork_state(run, 4, "control", 6).path.unlink()
    for direction in ("2", "control"):
        stages.perturbation(run, 4, direction).path.unlink()
    base(run)
    fork(run)
    assert _files() == whole


@pytest.mark.parametrize("stage", [base, fork, linearized])
def test_a_state_that_a_kill_left_beside_a_later_one_is_cleared_away(stage, run, steps_until):
    if stage is linearized:
        linearized(run)
    whole = _files()
    _forget(stage, run)
    steps_until(stage, 11)
    with pytest.raises(KeyboardInterrupt):
        stage(run, keep_minutes=0)
    (left,) = _unfinished()
    kept = left.with_name("kept")
    shutil.copy(left, kept)
    steps_until(stage)
    stage(run)
    # As if killed between the last state and the removal of the one that was kept by time.
    kept.rename(left)
    row = stages.STAGES[stage.__name__]
    tables = [stages.run_table(run, name).path for name in row.tables]
    for end in tables or [stages.perturbation(run, 0, "1").path]:
        end.unlink()
    if stage is linearized:
        stages.linearized_end(run, 0).path.unlink()
    stage(run)
    assert _files() == whole


def test_no_run_resumes_on_another_machine(run, steps_until, monkeypatch):
    monkeypatch.setitem(ORIGIN, "machine", "another")
    stages.run_table(run, "training").path.unlink()
    stages.perturbation(run, 4, "1").path.unlink()
    for stage in (base, fork):
        with pytest.raises(RunError, match="was made with machine None, this .* with 'another'"):
            stage(run)
    # Nor from a state that was kept by time.
    monkeypatch.delitem(ORIGIN, "machine")
    steps_until(linearized, 7)
    with pytest.raises(KeyboardInterrupt):
        linearized(run, keep_minutes=0)
    steps_until(linearized)
    monkeypatch.setitem(ORIGIN, "machine", "another")
    with pytest.raises(RunError, match=r"unfinished\.safetensors: was made with machine None"):
        linearized(run)


def _start(study, *arguments):
    command = [sys.executable, "-m", "twophase", "base", study, "--model", "vgg", "--seed", "0"]
    return subprocess.Popen(
        [*command, *arguments],
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_and_a_kill_end_a_command_in_one_plain_line(raw, write_study, in_tmp):
    # No stage but `base`, so no checkpoint on the way: what resumes, resumes from the state kept by
    # time.
    for section in ("chaos", "sizes", "kernel", "linearized", "curvature", "growth", "trajectory"):
        del raw[section]
    del raw["matching"], raw["models"]["resnet"]
    raw["training"]["iterations"] = 1_000_000
    path = write_study(raw)
    run = Run(load(path), "vgg", 0)
    data(run.study)
    kept = stages.unfinished(stages.base_state(run, 0)).path
    for number, name in enumerate((signal.SIGINT, signal.SIGTERM)):
        process = _start(path, "--keep-minutes", "0")
        before = kept.stat().st_mtime_ns if number else None
        while not kept.exists() or kept.stat().st_mtime_ns == before:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.send_signal(name)
        _, errors = process.communicate()
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        last = "interrupted; the same command resumes from the last kept state"
        assert errors.endswith(f"\n{last}\n")
        assert ("resumes at iteration" in errors) == bool(number)
