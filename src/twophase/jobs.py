"""The one list of jobs: what a study has left to do, which job waits for which, and for what.

The Snakefile's input functions, `plan` and `status` read it. No PyTorch here.

What is left follows from what lies there under its name, never from dates:

- A table or summary that is not there is made, with the parts that this needs and that are not
  there. Parts, data and the trial of networks that nothing needs any more may be deleted.
- What is there under its name is as it should be: it is not made again because what it was made
  from is gone. So a deleted table is made again, for it is what a study leaves, but neither a
  summary nor a figure of it that is there and current.
- A figure is made if it is not there, not whole, or says that something else made it.
- What was asked for comes last, and once more if anything was done for it: the list of figures
  behind `figures/<study>/all`, or a figure that was asked for by its name and lacks a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from twophase import figures
from twophase.errors import StudyError
from twophase.figures import manifest
from twophase.store.paths import RESULTS, Result, run_folder
from twophase.study import stages
from twophase.study.chaos import fork_parts, fork_shares, forks
from twophase.study.model import STUDIES, Study
from twophase.study.run import Run, runs
from twophase.study.stages import before_in_sweep

ALL = ("figures/all", "all_studies")  # targets that are all studies of config.yaml
FIRST = ("data", "check")  # made only for what waits for them


class Job(NamedTuple):
    """A job: its rule, what shows its end, what it waits for, and what it does."""

    rule: str
    ends: tuple[Path, ...]  # the files that show its end
    waits: tuple[Path, ...] = ()  # files that it reads, or that show the end of jobs before it
    log: Path = Path()
    left: bool = True  # else what it makes is there and current
    run: Run | None = None
    stages: tuple[str, ...] = ()
    forks: tuple[tuple[int, str], ...] = ()
    makes: tuple[str, ...] = ()  # the tables whose summaries, or the figures, that it makes


class Asked(NamedTuple):
    """What is asked for of a study, what its runs lack, and how that is shared out to jobs."""

    study: Study
    todo: dict[Run, list[str]]  # the stages that each run has left
    whole: bool  # one job does all stages of a run, one all summaries, one all figures
    forks_per_job: int | str
    cores: int | None
    named: frozenset[str]  # files of the study that are asked for by name


def config() -> dict[str, Any]:
    """What config.yaml says of how work is shared out. Raises `StudyError` if that is not keys."""
    file = STUDIES / "config.yaml"
    try:
        # As Snakemake reads it, which is YAML 1.1.
        said = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None
    except (yaml.YAMLError, ValueError) as error:  # such as of a day that is none
        raise StudyError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict | None):
        raise StudyError(f"{file}: must be keys with values, is {said!r}")
    return said or {}


def left(study: Study, cores: int) -> list[Job]:
    """The jobs that are left until all of a study is there, in the order of the work.

    Raises `StudyError` if config.yaml says wrongly how to share it out.
    """
    return [job for job in jobs(study, config(), cores) if job.left]


def jobs(
    study: Study,
    said: dict[str, Any],
    cores: int | None,
    targets: Collection[str] = (),
    again: Collection[str] = (),
) -> list[Job]:
    """The jobs of a study, in the order of the work, those that have ended among them.

    `said` is config.yaml's; `cores` is None where nobody says how many. `targets` are what is asked
    for, else all of the study; tables in `again`, and those of stages in it, are made although they
    are there. Raises `StudyError` if `said` is wrong.
    """
    whole_runs, forks_per_job = said.get("whole_runs") or [], said.get("forks_per_job", "auto")
    if not isinstance(whole_runs, list):
        raise StudyError(f"whole_runs = {whole_runs!r}: must be a list of studies")
    end = f"figures/{study.name}/all"
    own = [t for t in targets if t.startswith((f"figures/{study.name}/", f"results/{study.name}/"))]
    named = frozenset(map(figures.first_drawn, own)) - {end}
    lacks = {run: stages.missing(run) for run in runs(study)}
    todo = {run: stages.missing(run, again) for run in lacks} if again else lacks
    whole = study.name in whole_runs and not named and todo == lacks
    asked = Asked(study, todo, whole, forks_per_job, cores, named)
    found = [*_first(asked)]
    for run in todo:
        found += _of_run(asked, run)
    found += [*_of_all_runs(asked), *_summaries(asked), *_figures(asked)]
    found.append(_last(asked, found))
    everything = not named or not {end, *ALL}.isdisjoint(targets)
    return _needed(found, named | {end} if everything else named)


def said(job: Job) -> str:
    """What a job does, in a few words, but for its study."""
    of = f" of {job.run}" if job.run else ""
    if job.rule == "run":  # all of a run, or what it lacks
        return ", ".join(job.stages) + of if len(job.stages) < len(own_stages(job.run)) else of[4:]
    if job.forks:
        return f"{job.rule} from {', '.join(map(str, dict(job.forks)))}{of}"
    if job.rule == "study_figures":
        return ", ".join([*job.makes, "list of figures"])
    return f"{job.rule} of {', '.join(job.makes)}" if "summar" in job.rule else job.rule + of


def own_stages(run: Run) -> list[str]:
    """The stages that a run goes through, in the order of the work."""
    return [s for s, row in stages.STAGES.items() if row.scope == "run" and _has(row, run)]


def _has(row: stages.Stage, run: Run) -> bool:
    return row.section is None or bool(getattr(run.model, row.section))


def wanted(stage: str, run: Run) -> list[Result]:
    """The parts of a stage, or if it has none, its tables, the first of them for all."""
    row = stages.STAGES[stage]
    return row.parts(run) or [stages.run_table(run, table) for table in row.tables][:1]


def lacking(stage: str, run: Run) -> list[Result]:
    """Those of them that are missing, but for those that are not needed any more."""
    if stages.STAGES[stage].parts(run):
        return stages.lacking(stage, run)
    return [result for result in wanted(stage, run) if not result.path.exists()]


def to_do(stage: str, run: Run) -> list[Result]:
    """Those that are missing and that no earlier model of a sweep makes."""
    earlier = before_in_sweep(stage, run)
    does = {other: stages.missing(other) for _, other in earlier}
    made = {r.path for each, other in earlier if each in does[other] for r in lacking(each, other)}
    return [result for result in lacking(stage, run) if result.path not in made]


def fork_jobs(run: Run, forks_per_job: int | str, cores: int | None) -> int:
    """How many jobs share a run's forks: as `forks_per_job` says, or enough to keep all cores busy,
    and no more, because each job takes seconds to start.
    """
    count = len(forks(run))
    if forks_per_job == "auto" and cores is None:  # as on a cluster
        raise StudyError("forks_per_job = auto: give --cores, or --config forks_per_job=<number>")
    if forks_per_job == "auto":
        return min(-(-2 * cores // len(stages.runs_of(run.study, "fork"))), count)
    if not isinstance(forks_per_job, int) or forks_per_job < 1:
        raise StudyError(f"forks_per_job = {forks_per_job!r}: must be a number of forks, or auto")
    return -(-count // forks_per_job)


def shares(run: Run, jobs: int, missing: list[Result]) -> list[tuple[int, list[tuple[int, str]]]]:
    """The shares of a run's forks, with their numbers from 1 on, that have a part missing."""
    lacks = {part.path for part in missing}
    each = enumerate(fork_shares(run, jobs), 1)
    return [
        (number, share)
        for number, share in each
        if any(part.path in lacks for fork in share for part in fork_parts(run, *fork))
    ]


def _needed(found: list[Job], goals: frozenset[str]) -> list[Job]:
    """The same jobs, but left are only those that the goals need: a job that is left needs those
    that make what it waits for, one that has ended needs none.
    """
    makes = {end: job for job in found for end in job.ends}
    queue = [job for end, job in makes.items() if str(end) in goals]
    needed: set[tuple[Path, ...]] = set()
    while queue:
        job = queue.pop()
        if job.left and job.ends not in needed:
            needed.add(job.ends)
            queue += [makes[file] for file in job.waits if file in makes]
    return [job._replace(left=job.ends in needed) for job in found]


def _first(asked: Asked) -> Iterator[Job]:
    """The data, and the trial of all networks before any is trained."""
    data, mark = stages.data_file(asked.study).path, stages.check_mark(asked.study).path
    for stage, file, waits in zip(FIRST, (data, mark), ((), (data,)), strict=True):
        log = _logs(asked.study) / f"{file.stem}.log"
        yield Job(stage, (file,), waits, log, not file.exists(), stages=(stage,))


def _of_run(asked: Asked, run: Run) -> Iterator[Job]:
    """The jobs of a run: of each of its stages one, or several that share the forks; where runs are
    done whole, one for all that it has left.
    """
    logs, todo = run_folder(run.identity) / "logs", asked.todo[run]
    if asked.whole and todo:
        mark = _whole(run)
        before = {other for stage in todo for _, other in before_in_sweep(stage, run)}
        waits = [_whole(other) for other in asked.todo if other in before and asked.todo[other]]
        waits = _first_of(asked, todo) + waits
        yield Job("run", (mark,), tuple(waits), logs / f"{mark.stem}.log", True, run, tuple(todo))
    for stage in own_stages(run):
        row, stem = stages.STAGES[stage], f"{stage}-{stages.job_fingerprint(stage, run)}"
        does = stage in todo and not asked.whole
        waits = tuple(_waits(asked, stage, run)) if does or row.tables else ()
        if row.shared and does:
            for mark, share in _shares(asked, stage, run):
                log = logs / f"{stem}-{mark.stem}.log"
                yield Job(stage, (mark,), waits, log, True, run, (stage,), tuple(share))
        elif row.tables:
            yield Job(stage, _tables(stage, run), waits, logs / f"{stem}.log", does, run, (stage,))


def _waits(asked: Asked, stage: str, run: Run) -> Iterator[Path]:
    """The files that a run's stage waits for: those of the stages that it reads, and if it is left,
    of jobs of earlier models of the sweep that may make the same parts.
    """
    does = stage in asked.todo[run]
    yield from _first_of(asked, [stage] if does else [])
    for before in stages.STAGES[stage].reads:
        yield from _files(asked, before.name, run)
    for before, other in before_in_sweep(stage, run) if does else []:
        if before in asked.todo[other]:
            yield from _files(asked, before, other)


def _first_of(asked: Asked, does: list[str]) -> list[Path]:
    """What stages of a run wait for first: the data, and if one of them trains, the trial."""
    trains = any(stages.STAGES[stage].keeps_time for stage in does)
    tried = [stages.check_mark(asked.study).path] if trains else []
    return [stages.data_file(asked.study).path, *tried]


def _files(asked: Asked, stage: str, run: Run) -> list[Path]:
    """The files that show the end of a stage of a run; of shared parts, those that are left."""
    if stages.STAGES[stage].shared:
        left = stage in asked.todo[run]
        return [mark for mark, _ in _shares(asked, stage, run)] if left else []
    return list(_tables(stage, run))


def _tables(stage: str, run: Run) -> tuple[Path, ...]:
    return tuple(stages.run_table(run, name).path for name in stages.STAGES[stage].tables)


def _shares(asked: Asked, stage: str, run: Run) -> list[tuple[Path, list[tuple[int, str]]]]:
    """For each job that does some of a run's missing forks: what it leaves, and these forks."""
    count = fork_jobs(run, asked.forks_per_job, asked.cores)
    folder = run_folder(run.identity) / f"{stage}-{stages.job_fingerprint(stage, run)}"
    found = shares(run, count, lacking(stage, run))
    return [(folder / f"{part}of{count}.done", share) for part, share in found]


def _whole(run: Run) -> Path:
    """What a job of all stages of a run leaves."""
    return run_folder(run.identity) / f"run-{stages.run_fingerprint(run)}.done"


def _of_all_runs(asked: Asked) -> Iterator[Job]:
    """The jobs of stages that read several runs; they wait for all of them."""
    for stage, row in stages.STAGES.items():
        its_runs = stages.runs_of(asked.study, stage) if row.scope == "study" else []
        tables = [table for run in its_runs for table in _tables(stage, run)]
        if not all(table.exists() for table in tables):
            waits = [stages.data_file(asked.study).path]
            for run in its_runs:
                whole = asked.whole and asked.todo[run]
                reads = [file for b in row.reads for file in _files(asked, b.name, run)]
                waits += [_whole(run)] if whole else reads
            mark = _mark(asked.study, stage)
            log = _logs(asked.study) / f"{mark.stem}.log"
            yield Job(stage, (mark,), tuple(dict.fromkeys(waits)), log, True, stages=(stage,))


def _mark(study: Study, stage: str) -> Path:
    """What a job of a stage of all runs leaves."""
    fingerprint = stages.job_fingerprint(stage, stages.runs_of(study, stage)[0])
    return RESULTS / study.name / f"{stage}-{fingerprint}.done"


def _summaries(asked: Asked) -> Iterator[Job]:
    """A job for each summary, or one for all that are missing."""
    study, together = asked.study, []
    for name in stages.tables_of(study):
        result = stages.summary_table(study, name)
        its_runs = stages.runs_of(study, stages.STAGE_OF[name])
        waits = _sources(asked, [stages.run_table(run, name) for run in its_runs])
        there = result.path.exists()
        if asked.whole and not there:
            together.append((name, waits))
        else:
            log = _logs(study) / f"{result.path.stem}.log"
            yield Job("summary", (result.path,), waits, log, not there, makes=(name,))
    if together:
        mark, names = _summaries_mark(study), tuple(name for name, _ in together)
        waits = tuple(dict.fromkeys(file for _, files in together for file in files))
        log = _logs(study) / f"{mark.stem}.log"
        yield Job("summaries", (mark,), waits, log, makes=names)


def _summaries_mark(study: Study) -> Path:
    """What a job of all summaries leaves."""
    return RESULTS / study.name / f"summaries-{stages.summaries_fingerprint(study)}.done"


def _sources(asked: Asked, tables: Collection[Result]) -> tuple[Path, ...]:
    """The files that show that these tables are there: themselves, or what a job that makes several
    leaves.
    """
    found = []
    for table in tables:
        file = table.path
        if not file.exists() and "seed" in table.identity:
            run = Run(asked.study, table.identity["model"], table.identity["seed"])
            if stages.STAGES[table.command].scope == "study":
                file = _mark(asked.study, table.command)
            elif asked.whole:
                file = _whole(run)
        elif not file.exists() and asked.whole:
            file = _summaries_mark(asked.study)
        found.append(file)
    return tuple(dict.fromkeys(found))


def _figures(asked: Asked) -> Iterator[Job]:
    """A job for each figure; where all are drawn by one, only those that are current."""
    study, folder = asked.study, Path("figures") / asked.study.name
    for figure in figures.asked(study):
        tables = figures.tables(study, figure).values()
        files = tuple(folder / name for name in figures.files(figure))
        by_name = not asked.named.isdisjoint(map(str, files))
        left = not figures.current(folder, figure, figures.made_by(study, figure)) or (
            by_name and not all(table.path.exists() for table in tables)
        )
        if not (left and asked.whole):
            log = _logs(study) / f"{figure}.log"
            yield Job(figure, files, _sources(asked, tables), log, left, makes=(figure,))


def _last(asked: Asked, found: list[Job]) -> Job:
    """The job that lists a study's figures and draws those that no job of their own draws. It waits
    for these, and for all that nobody else waits for: whoever asks for all gets all.
    """
    study, folder = asked.study, Path("figures") / asked.study.name
    ends = (folder / "manifest.json", folder / "all")
    there = figures.asked(study)
    drawn = {name for job in found for name in job.makes if job.rule == name in there}
    draws = tuple(name for name in there if name not in drawn)
    waits = [folder / name for figure in drawn for name in figures.files(figure)]
    for figure in draws:
        waits += _sources(asked, figures.tables(study, figure).values())
    work = [job for job in found if job.left and job.rule not in FIRST]
    awaited = {*waits, *(file for job in work for file in job.waits)}
    waits += [file for job in work for file in job.ends if awaited.isdisjoint(job.ends)]
    current = manifest.current(study, STUDIES / f"{study.name}.yaml", folder)
    left = bool(work or draws) or not (current and ends[1].exists())
    waits = tuple(dict.fromkeys(waits))
    return Job("study_figures", ends, waits, _logs(study) / "manifest.log", left, makes=draws)


def _logs(study: Study) -> Path:
    return RESULTS / study.name / "logs"
