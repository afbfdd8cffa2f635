"""Command `status`: how far a study is, from its results and the logs of its jobs alone.

Both lie in results/, which all machines of a cluster share. No PyTorch here: it is asked often.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twophase import figures
from twophase.commands.logs import SPENT, last_words, several, span
from twophase.commands.reasons import reasons
from twophase.jobs import Job, lacking, left
from twophase.store.paths import RESULTS, run_folder
from twophase.study import stages
from twophase.study.model import Study
from twophase.study.run import Run, runs

SILENT = 600  # seconds; a job that has written nothing for so long may be dead
MOST = 15  # jobs that are shown one by one, so that all fits a screen


class Open(NamedTuple):
    """The log of a job that has not ended."""

    log: Path
    stage: str  # that it is at
    run: Run | None
    words: str  # its last line
    age: float  # seconds since it was written


def status(study: Study) -> None:
    """Print what runs, what has ended and what waits."""
    print("\n".join(lines(study)))


def lines(study: Study) -> Iterator[str]:
    """The same, line by line."""
    jobs = left(study, cores=1)
    todo: dict[Run, set[str]] = {run: set() for run in runs(study)}
    for job in jobs:
        if job.run:
            todo[job.run].update(job.stages)
    logs = sorted(open_logs(study, todo), key=lambda job: job.age)
    running = [job for job in logs if job.age < SILENT and not job.words.startswith("interrupted")]
    ended = sum(not names for names in todo.values())
    yield f"{study.name}: {ended} of {len(todo)} runs have ended, {len(running)} jobs at work"
    yield ""
    yield f"{'stage':<14} {'ended':>12} {'parts there':>20}  now"
    at_work = [job.stage for job in running]
    for stage in stages.STAGES:
        if stages.runs_of(study, stage):
            yield _row(stage, study, jobs, at_work.count(stage))
    lacks = {name for job in jobs for name in job.makes}
    for what, names in (("summary", stages.tables_of(study)), ("figure", figures.asked(study))):
        yield _line(what, len(set(names) - lacks), len(names), "", at_work.count(what))
    silent = [job for job in logs if job not in running]
    for title, chosen in (("at work", running), ("stopped, or silent for long", silent)):
        if chosen:
            yield ""
            yield f"{title}:"
            yield from (f"  {_said(job)}" for job in chosen[:MOST])
            if len(chosen) > MOST:
                yield f"  and {len(chosen) - MOST} more"
    if again := list(reasons(study)):
        yield ""
        yield "what lies there is not what is asked for:"
        yield from (f"  {line}" for line in again)


def open_logs(study: Study, todo: dict[Run, set[str]]) -> Iterator[Open]:
    """The logs of jobs that have not ended, and whose work is not there by another job.

    `todo` says of each run which stages have something left to do.
    """
    current, drawn = stages.fingerprints(study), [*figures.asked(study), "manifest"]
    its_runs = {run_folder(run.identity): run for run in todo}
    for log in sorted((RESULTS / study.name).rglob("logs/*.log")):
        name, _, rest = log.stem.partition("-")
        if rest[:8] not in current and name not in drawn:
            continue
        text = log.read_text(encoding="utf-8", errors="replace")
        age = time.time() - log.stat().st_mtime
        summary = name == "summaries" or name.endswith("_summary")
        stage = "summary" if summary else "figure" if name in drawn else name
        ahead = (several(text) or [stage])[len(SPENT.findall(text)) :]
        run = its_runs.get(log.parents[1])
        if ahead and (run is None or stage == "run" or stage in todo[run]):
            yield Open(log, ahead[0], run, last_words(text), age)


def _row(stage: str, study: Study, jobs: list[Job], at_work: int) -> str:
    """What a stage has, of all runs or of the study."""
    row, its_runs = stages.STAGES[stage], stages.runs_of(study, stage)
    does = {job.run for job in jobs if stage in job.stages}
    if row.scope == "study":  # one job for all
        its_runs = its_runs if row.tables else its_runs[:1]
        does = set(its_runs) if does else does
    ended = [run for run in its_runs if run not in does]
    wanted = [part for run in its_runs for part in row.parts(run)]
    missing = [part for run in its_runs for part in lacking(stage, run)]
    parts = f"{len(wanted) - len(missing):,} of {len(wanted):,}" if wanted else ""
    return _line(stage, len(ended), len(its_runs), parts, at_work)


def _line(what: str, ended: int, total: int, parts: str, at_work: int) -> str:
    now = f"{at_work} at work" if at_work else "" if ended == total else "waits"
    return f"{what:<14} {f'{ended} of {total}':>12} {parts:>20}  {now}".rstrip()


def _said(job: Open) -> str:
    """What a job does, how far it is, and when it last said so."""
    what = f"{job.run.name}, seed {job.run.seed}: {job.stage}" if job.run else job.stage
    told = f": {job.words}" if job.words else ""
    where = "" if job.age < SILENT else f" ({job.log})"
    return f"{what}{told}; written {span(job.age)} ago{where}"
