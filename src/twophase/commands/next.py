"""Command `next`: the next seeds of a long study, as far as the time given reaches."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from twophase.commands.logs import span
from twophase.commands.publish import publish
from twophase.errors import RunError, StudyError
from twophase.study import stages
from twophase.study.model import Study
from twophase.study.run import Run
from twophase.study.stages import missing


def next_seeds(study: Study, file: Path, minutes: float, first: int | None) -> None:
    """Do what runs lack, one run after another, for at most `minutes`; what is stopped then is
    resumed by the same command. Each run that ends is published with those before it.

    The order is that of the study's models, each with all its seeds; `first` says how many seeds
    every model gets before any gets more. Raises `RunError` if a stage fails.
    """
    if first is not None and first < 1:
        raise StudyError(f"--first {first}: must be at least 1")
    end = time.monotonic() + 60 * minutes
    for run in in_order(study, first):
        if not missing(run):
            continue
        before = {"data": stages.data_file(study), "check": stages.check_mark(study)}
        todo = [[stage] for stage, result in before.items() if not result.path.exists()]
        todo.append(["run", "--model", run.name, "--seed", str(run.seed)])
        for command, *arguments in todo:
            print(f"{run}: {command}, {span(max(0, end - time.monotonic()))} left", file=sys.stderr)
            if not _done([command, str(file), *arguments], end):
                print(f"time is over within {run}; the same command resumes it", file=sys.stderr)
                return
        publish(study, file, partial=True)
        print(f"{run}: published", file=sys.stderr)


def in_order(study: Study, first: int | None = None) -> Iterator[Run]:
    """The runs of a study: of each model the `first` seeds, then those that are left."""
    start = len(study.seeds) if first is None else first
    for seeds in (study.seeds[:start], study.seeds[start:]):
        for name in study.models:
            yield from (Run(study, name, seed) for seed in seeds)


def _done(arguments: list[str], end: float) -> bool:
    """Whether a command of this program ends before `end`; one that does not is interrupted, and
    keeps its state.
    """
    if time.monotonic() >= end:
        return False
    with subprocess.Popen([sys.executable, "-m", "twophase", *arguments]) as process:
        try:
            status = process.wait(end - time.monotonic())
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as stopped:
            process.send_signal(signal.SIGINT)
            process.wait()
            if isinstance(stopped, KeyboardInterrupt):
                raise
            return False
    if status:
        raise RunError(f"twophase {' '.join(arguments)}: ended with status {status}")
    return True
