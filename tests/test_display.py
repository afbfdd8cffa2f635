import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import time

import forked
import pytest
from conftest import snakemake
from snakemake.logging import DefaultFormatter, logger
from snakemake_interface_logger_plugins.common import LogEvent
from trials import kill

from twophase.commands import display


@pytest.fixture
def shown(monkeypatch):
    """A display in the place of Snakemake's own handler, its clock, and what it writes."""

    class Clock:
        now = 0.0

    out = io.StringIO()
    own = logging.StreamHandler(out)
    own.setFormatter(DefaultFormatter())
    own.name = "DefaultStreamHandler"
    monkeypatch.setattr(logger, "handlers", [own])
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(display.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(display.Display, "_tick", lambda self: None)
    before = signal.getsignal(signal.SIGINT), sys.excepthook
    display.install("figures/all", lambda: ["figures/digits/fig3.png"])
    assert isinstance(logger.handlers[0], display.Display)
    yield logger.handlers[0], Clock, out
    signal.signal(signal.SIGINT, before[0])
    sys.excepthook = before[1]


def tell(text, level=logging.INFO, event=None, **extra):
    logger.log(level, text, extra={"event": event, **extra})


def begin(jobs):
    tell("Workflow has started!", event=LogEvent.WORKFLOW_STARTED)
    tell("Job stats:", event=LogEvent.RUN_INFO, stats={**jobs, "total": sum(jobs.values())})


def start(number, rule, log=()):
    message = f"{rule} {number}"
    tell("", event=LogEvent.JOB_INFO, jobid=number, rule_msg=message, rule_name=rule, log=[*log])


def finish(number):
    tell("Finished", event=LogEvent.JOB_FINISHED, job_id=number)


def test_one_line_tells_jobs_done_the_time_left_and_what_runs(shown):
    handler, clock, _ = shown
    begin({"run": 4, "fig": 1})
    start(1, "run")
    start(2, "run")
    assert handler.line() == "figures/all: 0 of 5 jobs done (now: run 1; run 2)"
    clock.now = 100
    finish(1)
    start(3, "run")
    # One of 100 s is done, one as old is about to end, two are left, and one that is not known is
    # taken for the shortest seen; two at a time.
    assert handler.left().seconds == pytest.approx((0 + 100 + 100 + 100) / 2)
    assert handler.line() == "figures/all: 1 of 5 jobs done, about 2 min left (now: run 2; run 3)"


def test_how_far_a_running_job_is_stands_in_its_log(shown, tmp_path):
    handler, clock, _ = shown
    log = tmp_path / "run.log"
    begin({"run": 2})
    start(1, "run", [log])
    clock.now = 50
    assert handler.left() is None
    log.write_text("base run:  20%|##   | 1/5\rbase run:  50%|##   | 1/2")
    assert handler.left().seconds == pytest.approx(150)  # of 100 s each
    log.write_text(
        "stages: base, chaos\nbase: processor time 1 s to start, 2 s at work\n chaos: 0%|"
    )
    assert display.progress([log]) == 0.5


def test_a_run_ends_with_what_to_look_at(shown):
    handler, clock, out = shown
    begin({"fig": 1})
    start(1, "fig")
    clock.now = 300
    finish(1)
    tell("Elapsed time: 0:05:00")
    lines = out.getvalue().splitlines()
    assert lines[-2:] == ["figures/all: done, 1 job in 5 min", "  figures/digits/fig3.png"]
    assert len(lines) <= 4


def test_a_run_that_was_interrupted_ends_with_that_and_no_word_of_its_consequences(shown):
    _, _, out = shown
    begin({"run": 3})
    start(1, "run")
    finish(1)
    start(2, "run")
    start(3, "run")
    tell("Terminating processes on user request, this might take some time.")
    for number in (2, 3):
        error = {"jobid": number, "rule_name": "run", "rule_msg": None, "log": []}
        tell("Error in rule run", logging.ERROR, LogEvent.JOB_ERROR, **error)
    tell("WorkflowError: At least one job did not complete.", logging.ERROR)
    tell("Complete log(s): somewhere")
    tell("Elapsed time: 0:05:00")
    last = out.getvalue().splitlines()[-1]
    assert last == "figures/all: interrupted; the same command resumes from what is kept"
    assert "failed" not in out.getvalue()
    assert "fig3.png" not in out.getvalue()


@pytest.mark.parametrize("presses", [1, 2, 5])
def test_ctrl_c_is_one_line_however_often_it_is_pressed(presses, copy_checkout, tmp_path):
    folder = copy_checkout(tmp_path / "checkout")
    words = ["--cores", "2", "figures/smoke/all"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # Snakemake is in the session, and what stands for its jobs, as at a terminal.
    run = kill.snakemake(folder, *words, python=forked.python(), **streams)
    while not list(folder.glob("results/smoke/logs/check-*.log")):  # a job is at work
        assert run.poll() is None
        time.sleep(0.1)
    for _ in range(presses):
        # A terminal sends it to all processes of its foreground.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGINT)
        time.sleep(0.2)
    said = run.communicate()[0].splitlines()
    assert run.returncode
    where = next(i for i, line in enumerate(said) if "interrupted; the same command" in line)
    assert said[where + 1 :] == []
    assert not [line for line in said if "Traceback" in line or "rror" in line]


def test_a_failed_job_is_shown_with_the_end_of_its_log(shown, tmp_path):
    log = tmp_path / "run.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)) + "1%|\r2%|\nthe reason\n")
    begin({"run": 1})
    start(1, "run", [log])
    error = {"jobid": 1, "rule_name": "run", "rule_msg": None, "log": [str(log)]}
    tell("Error in rule run", logging.ERROR, LogEvent.JOB_ERROR, **error)
    tell("WorkflowError: At least one job did not complete.", logging.ERROR)
    tell("Elapsed time: 0:05:00")
    said = shown[2].getvalue()
    assert "failed: run 1" in said
    assert str(log) in said
    assert said.index("line 99") < said.index("the reason") < said.index("At least one job")
    assert "line 10\n" not in said
    assert "2%|" in said
    assert "1%|" not in said
    assert "done" not in said.partition("failed")[2]


def test_warnings_and_what_comes_before_a_run_are_said_as_they_are(shown):
    tell("Unlocked working directory.")
    begin({"run": 1})
    tell("Select jobs to execute...")
    tell("a warning", logging.WARNING)
    said = shown[2].getvalue()
    assert "Unlocked working directory.\n" in said
    assert "a warning\n" in said
    assert "Select" not in said


def test_without_snakemakes_own_handler_nothing_is_changed(monkeypatch):
    other = logging.NullHandler()
    monkeypatch.setattr(logger, "handlers", [other])
    display.install("figures/all", list)
    assert logger.handlers == [other]


def test_verbose_and_dry_runs_keep_snakemakes_own_words(copy_checkout, tmp_path):
    folder = copy_checkout(tmp_path / "checkout")
    said = snakemake(folder, "-n", "figures/smoke/fig2.pdf")
    assert said.returncode == 0
    assert "Job stats" in said.stdout + said.stderr
