"""The jobs that `snakemake figures/<study>/all` has left to do, found without Snakemake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from twophase import figures
from twophase.commands import manifest
from twophase.commands.wanted import lacking
from twophase.errors import StudyError
from twophase.store.paths import RESULTS, Result, run_folder
from twophase.study import stages
from twophase.study.chaos import fork_shares, forks
from twophase.study.model import STUDIES, Study
from twophase.study.run import Run, runs


class Job(NamedTuple):
    """A job: its rule, its log, and of which run it does which stages, or which forks."""

    rule: str
    log: Path
    run: Run | None = None
    stages: tuple[str, ...] = ()
    forks: tuple[tuple[int, str], ...] = ()


def left(study: Study, cores: int) -> list[Job]:
    """The jobs that are left, in the order of the work, as config.yaml shares it out.

    Raises `StudyError` if config.yaml says it wrong.
    """
    config = yaml.safe_load((STUDIES / "config.yaml").read_text()) or {}
    folder, logs = Path("figures") / study.name, RESULTS / study.name / "logs"
    found, todo = [], {run: stages.missing(run) for run in runs(study)}

    def of_study(stage: str) -> Job:
        fingerprint = stages.job_fingerprint(stage, stages.runs_of(study, stage)[0])
        return Job(stage, logs / f"{stage}-{fingerprint}.log", stages=(stage,))

    if not stages.data_file(study).path.exists():
        found.append(of_study("data"))
    trained = any(stages.STAGES[stage].keeps_time for names in todo.values() for stage in names)
    if trained and not stages.check_mark(study).path.exists():
        found.append(of_study("check"))
    for run, names in todo.items():
        found += _of_run(run, names, config, cores)
    for stage, row in stages.STAGES.items():
        its_runs = stages.runs_of(study, stage) if row.scope == "study" and row.tables else []
        if any(lacking(stage, run) for run in its_runs):
            found.append(of_study(stage))
    for table in stages.tables_of(study):
        result = stages.summary_table(study, table)
        if not result.path.exists():
            found.append(Job("summary", logs / f"{result.path.stem}.log"))
    for figure in figures.asked(study):
        if not figures.current(folder, figure, figures.made_by(study, figure)):
            found.append(Job(figure, logs / f"{figure}.log"))
    listed = manifest.current(study, STUDIES / f"{study.name}.yaml", folder)
    if not (listed and (folder / "all").exists()):
        found.append(Job("study_figures", logs / "manifest.log"))
    return found


def _of_run(run: Run, names: list[str], config: dict[str, Any], cores: int) -> Iterator[Job]:
    """The jobs of a run that do these stages."""
    logs = run_folder(run.identity) / "logs"
    if run.study.name in (config.get("whole_runs") or []):
        if names:
            log = logs / f"run-{stages.run_fingerprint(run)}.log"
            yield Job("run", log, run, tuple(names))
        return
    for name in names:
        stem = f"{name}-{stages.job_fingerprint(name, run)}"
        if stages.STAGES[name].shared:
            count = fork_jobs(run, config.get("forks_per_job", "auto"), cores)
            for part, share in shares(run, count, lacking(name, run)):
                log = logs / f"{stem}-{part}of{count}.log"
                yield Job(name, log, run, (name,), tuple(share))
        else:
            yield Job(name, logs / f"{stem}.log", run, (name,))


def fork_jobs(run: Run, forks_per_job: int | str, cores: int) -> int:
    """How many jobs share a run's forks: as `forks_per_job` says, or enough to keep all cores busy,
    and no more, because each job takes seconds to start.
    """
    count = len(forks(run))
    if forks_per_job == "auto":
        return min(-(-2 * cores // len(stages.runs_of(run.study, "fork"))), count)
    if not isinstance(forks_per_job, int) or forks_per_job < 1:
        raise StudyError(f"forks_per_job = {forks_per_job!r}: must be a number of forks, or auto")
    return -(-count // forks_per_job)


def shares(run: Run, jobs: int, missing: list[Result]) -> list[tuple[int, list[tuple[int, str]]]]:
    """The shares of a run's forks, with their numbers from 1 on, that have a part missing."""
    lacks = {(part.identity["t0"], part.identity["direction"]) for part in missing}
    each = enumerate(fork_shares(run, jobs), 1)
    return [(number, share) for number, share in each if lacks & set(share)]
