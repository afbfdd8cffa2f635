"""What Snakemake says of a run: one line with the jobs done and the time left, instead of some five
for each job.

Only words: which jobs run, and what they do, is not touched. Snakemake's own words are kept in its
log under `.snakemake/log`, and shown with `--verbose`.
"""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

from twophase.commands import pace
from twophase.commands.logs import progress as share
from twophase.commands.logs import span
from twophase.commands.patches import say_through

TAIL = 12  # last lines of a failed job's log
EVERY = 60  # seconds between two lines where they cannot be written over each other
DONE = ("Elapsed time:", "Nothing to be done")  # Snakemake's last words
TOLD = ("Shutting down", "Will exit", "Trying to restart")
CANCELLED = "Terminating processes on user request"


@dataclass
class Job:
    """A running job: its rule, what it does, its log file and when it began."""

    rule: str
    what: str
    logs: list[str]
    began: float


def install(target: str, results: Callable[[], list[str]]) -> None:
    """Let the display say what Snakemake's own handler would, if that is there.

    `target` is what was asked for; `results` lists the files that a user wants to see at the end.
    """

    def shown(own: logging.StreamHandler) -> Display:
        display = Display(own, target, results)
        stop_quietly(display)
        return display

    say_through(shown)


def stop_quietly(display: Display) -> None:
    """Let Ctrl-C end the run with one line, however often it is pressed: jobs get each of them from
    the terminal, and Snakemake needs one.
    """
    other_errors = sys.excepthook

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, lambda *_: None)
        display.interrupted = True  # no word here: this may have come in the midst of one
        raise KeyboardInterrupt

    def end(kind: type[BaseException], error: BaseException, trace: object) -> None:
        if issubclass(kind, KeyboardInterrupt):
            display.stopped()
        else:
            other_errors(kind, error, trace)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
        sys.excepthook = end


class Display(logging.Handler):
    """Reads Snakemake's log records; warnings and errors are still said by its own handler."""

    def __init__(
        self, own: logging.StreamHandler, target: str, results: Callable[[], list[str]]
    ) -> None:
        super().__init__()
        self.own, self.target, self.results = own, target, results
        self.stream = own.stream
        self.live = self.stream.isatty()
        self.jobs: Counter[str] = Counter()  # of each rule, to do
        self.running: dict[int, Job] = {}
        self.took: dict[str, list[float]] = {}  # seconds of each rule's finished jobs
        self.started = self.failed = self.interrupted = self.said_so = False
        self.began = self.last = time.monotonic()
        self.width = 0  # of the line on the screen

    def emit(self, record: logging.LogRecord) -> None:
        """Take in one record. (`logging` lets one at a time in.)"""
        event, text = getattr(record, "event", None), str(record.msg)
        if self.interrupted or text.startswith(CANCELLED):  # what follows are its consequences
            self.stopped()
            return
        if event == LogEvent.WORKFLOW_STARTED:
            self.started = True
        elif event == LogEvent.RUN_INFO and not self.jobs:
            self.jobs.update({rule: n for rule, n in record.stats.items() if rule != "total"})
            threading.Thread(target=self._tick, daemon=True).start()
        elif event == LogEvent.JOB_INFO:
            what = record.rule_msg or record.rule_name
            self.running[record.jobid] = Job(record.rule_name, what, record.log, time.monotonic())
        elif event == LogEvent.JOB_FINISHED:
            if job := self.running.pop(record.job_id, None):
                self.took.setdefault(job.rule, []).append(time.monotonic() - job.began)
        elif event == LogEvent.JOB_ERROR:
            self._failed(self.running.pop(record.jobid, None), record)
        elif getattr(record, "exception", "") == "RuleException" and "CalledProcess" in text:
            pass  # the same failure in other words
        elif self._tells(record, text):
            self._say("")
            self.own.handle(record)
        elif text.startswith(DONE):
            self._end(text)
        self._show()

    def _failed(self, job: Job | None, record: logging.LogRecord) -> None:
        """What a failed job was to do, where its log is, and how that ends."""
        self.failed = True
        self._say(f"failed: {job.what if job else record.rule_name}")
        if record.rule_msg:  # of a cluster, where also other logs may say why
            self.own.handle(record)
        if not self.own.formatter.show_failed_logs:
            self._say("\n".join(f"  {file} ends with\n{tail(file)}" for file in record.log))

    def stopped(self) -> None:
        """Say once that the run was interrupted."""
        self.jobs, self.interrupted = Counter(), True
        if not self.said_so:
            self.said_so = True
            self._say(f"{self.target}: interrupted; the same command resumes from what is kept")

    def _tells(self, record: logging.LogRecord, text: str) -> bool:
        """Whether a record is for the user's eyes as it is."""
        told = (*TOLD, "Complete log") if self.failed else TOLD
        return record.levelno >= logging.WARNING or not self.started or text.startswith(told)

    def _tick(self) -> None:
        while self.jobs:
            time.sleep(1)
            with self.lock:
                self._show()

    def _show(self) -> None:
        """Write the line, over the last one if it can be; else now and then."""
        if self.jobs and (self.live or time.monotonic() > self.last + EVERY):
            room = shutil.get_terminal_size().columns - 1 if self.live else 200
            line = self.line()[:room]
            self._write(f"\r{line:<{self.width}}" if self.live else line + "\n")
            self.width, self.last = len(line), time.monotonic()

    def line(self) -> str:
        """Jobs done of all, the time left, and what runs."""
        done, total = sum(map(len, self.took.values())), self.jobs.total()
        line = f"{self.target}: {done} of {total} jobs done"
        left = self.left()
        if left and done < total:
            line += f", {left} left"
        if self.running:
            line += f" (now: {'; '.join(job.what for job in self.running.values())})"
        return line

    def left(self) -> pace.Left | None:
        """The time left, by the jobs that ended and by how far or how late the running ones are."""
        now = time.monotonic()
        running = [
            pace.Running(job.rule, now - job.began, progress(job.logs))
            for job in self.running.values()
        ]
        return pace.left(self.jobs, self.took, running, now - self.began)

    def _end(self, text: str) -> None:
        jobs, self.jobs = self.jobs.total(), Counter()
        took = span(time.monotonic() - self.began)
        if text.startswith("Nothing"):
            self._say(f"{self.target}: is there and current")
        elif sum(map(len, self.took.values())) == jobs:
            self._say(f"{self.target}: done, {jobs} job{'s' * (jobs > 1)} in {took}")
        else:  # failed or interrupted, as has been said
            return
        for file in self.results():
            self._say(f"  {file}")

    def _say(self, text: str) -> None:
        """Text on lines of its own."""
        blank = f"\r{'':<{self.width}}\r" if self.live and self.width else ""
        self.width = 0
        self._write(blank + (f"{text}\n" if text else ""))

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def tail(file: str) -> str:
    """The last lines of a log."""
    try:
        text = Path(file).read_bytes().decode(errors="replace")
    except OSError as error:
        text = f"({error.strerror})"
    # Of a bar that was written over itself, what it last showed.
    last = [line.rpartition("\r")[2] for line in text.rstrip().split("\n")[-TAIL:]]
    return "\n".join(f"    {line}" for line in last)


def progress(logs: list[str]) -> float:
    """How far a job is, as a share, as its log says."""
    try:
        return share(Path(logs[0]).read_text(encoding="utf-8", errors="replace"))
    except (OSError, IndexError):
        return 0
