"""Command `plan`: what a study would take, before it is started."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from twophase import stages, studyfile
from twophase.commands.jobs import Job, lacking, left
from twophase.commands.measure import Measured, Price, measure
from twophase.commands.publish import MEASUREMENTS
from twophase.logs import span
from twophase.records import show
from twophase.stages.work import Work, inputs
from twophase.store.paths import Result
from twophase.study import Run, Study, runs

# Seconds of processor time of a summary and a figure with their start, of Snakemake, and what it
# adds to each job: of `digits`, on the machine of docs/speed.md.
SUMMARY, FIGURE, SNAKEMAKE, EACH_JOB = 0.7, 2.5, 4.0, 0.7
SMALL_TABLE = 8192  # bytes of one that was not tried
MOST_ROWS = 30  # of the table, one for each stage of a model; beyond, one for each model


class Row(NamedTuple):
    """What a stage of a model, in all its runs, has and has to do; or all of a model's stages."""

    model: str
    stage: str
    there: int
    to_do: int
    iterations: int
    seconds: float
    disk: float


def plan(study: Study, file: Path, cores: int | None) -> None:
    """Print what is there, what is left to do, and the time, memory and disk that it takes."""
    print("\n".join(lines(study, file, cores or len(os.sched_getaffinity(0)))))


def lines(study: Study, file: Path, cores: int) -> Iterator[str]:
    """The plan in words: a table, and what it comes to."""
    yield f"{study.name}: {_count(len(study.models), 'model')}, {_count(len(study.seeds), 'seed')}"
    warnings = overrides(studyfile.mapping(file, file.read_text()))
    jobs = left(study, cores)
    if not jobs:
        yield "all is there and current: nothing to do"
        yield from warnings
        return
    names = [name for name in study.models if any(job.run and job.run.name == name for job in jobs)]
    for stage in stages.STAGES:
        stages.load(stage)
    start = time.process_time()  # of this process until here, as of a job
    measured, told = _measured(study, names)
    table = rows(study, measured)
    took = [EACH_JOB + _seconds_of(job, study, measured, start) for job in jobs]
    total = SNAKEMAKE + sum(took)
    yield ""
    yield from _table(table if len(table) <= MOST_ROWS else _by_model(table))
    yield ""
    other = total - sum(row.seconds for row in table)
    yield f"{span(other)} of processor time beside: data, check, summaries, figures, and to start"
    slots = max(1, cores // study.compute.threads)
    threads = study.compute.threads if study.compute.device == "cpu" else 1
    wall = SNAKEMAKE + wall_time(jobs, [seconds / threads for seconds in took], slots)
    iterations = sum(row.iterations for row in table)
    yield (
        f"in all: {_count(len(jobs), 'job')}, {iterations:,} iterations, {span(total)} of "
        f"processor time; about {span(wall)} with --cores {cores}"
    )
    size, there = sum(row.disk for row in table), _there(study)
    if not stages.data_file(study).path.exists():
        size += measured.disk.get(("", "data"), 0)
    yield (
        f"disk: {_bytes(size)} more, {_bytes(there)} are there; memory of the largest job: about "
        f"{_bytes(_memory(study, measured))}"
    )
    yield told
    yield from warnings


def _measured(study: Study, names: list[str]) -> tuple[Measured, str]:
    """What stages of these models cost, and a sentence on where that comes from.

    Where the study's device is not there, times are those that were published, if any.
    """
    lacks = study.compute.device == "cuda" and not torch.cuda.is_available()
    here = {"device": "cpu"} if lacks else {}
    chosen = {
        "models": {name: study.models[name] for name in names},
        "compute": study.compute.model_copy(update=here),
    }
    began = time.monotonic()
    measured = measure(study.model_copy(update=chosen))
    took = span(time.monotonic() - began)
    if not lacks:
        return measured, f"times: measured here, in {took}"
    folder = MEASUREMENTS / study.name
    if not (folder / "provenance.json").exists():
        return (
            measured,
            "times: of this machine's processor; there is no GPU, nor are any published",
        )
    prices, machine = _published(folder, study.name)
    for name in names:
        measured.prices.update({(name, stage): price for stage, price in prices.items()})
    others = [s for name, s in measured.prices if name and s not in prices]
    rest = f"; of {', '.join(dict.fromkeys(others))}: of this machine's processor" if others else ""
    return measured, f"times: as published in {folder}, of {machine}; there is no GPU here{rest}"


def _published(folder: Path, name: str) -> tuple[dict[str, Price], str]:
    """Prices by stage from the processor times of a published study, and its machine."""
    study = studyfile.load(folder / f"{name}.yaml")
    provenance = json.loads((folder / "provenance.json").read_text())
    prices = {}
    for stage, seconds in provenance["processor_seconds"].items():
        if stage in stages.STAGES and (its_runs := stages.runs_of(study, stage)):
            works = [work for run in its_runs for work in _whole(stage, run)]
            iterations, rest = sum(w.iterations for w in works), sum(w.rest for w in works)
            each = seconds / (iterations or rest)
            prices[stage] = Price(0, each, 0) if iterations else Price(0, 0, each)
    machine = {table["origin"]["machine"] for table in provenance["tables"].values()}
    return prices, " and ".join(sorted(machine))


def _whole(stage: str, run: Run) -> list[Work]:
    """All the work of a stage, whatever is there."""
    row = stages.STAGES[stage]
    results = row.parts(run) or [stages.run_table(run, table) for table in row.tables][:1]
    return [row.work(run, result) for result in results]


def works(stage: str, run: Run, forks: tuple = ()) -> dict[str, list[Work]]:
    """What a run's stage, or a job of it that does these forks, has to do, by the stage whose work
    it is.
    """
    found: dict[str, list[Work]] = {}
    for result in lacking(stage, run):
        if forks and (result.identity["t0"], result.identity["direction"]) not in forks:
            continue
        work = stages.STAGES[stage].work(run, result)
        found.setdefault(result.command, []).append(_resumed(result, work))
    if always := stages.STAGES[stage].always(run):
        found.setdefault(stage, []).append(Work(rest=always))
    return found or {stage: []}


def _resumed(part: Result, work: Work) -> Work:
    """The work to a state, from the one that was kept on the way if there is one."""
    kept = stages.unfinished(part).path
    if work.iterations and kept.exists():
        with safe_open(kept, framework="np") as file:
            step = int(file.get_tensor("step"))
        stop = part.identity.get("t1", part.identity.get("t"))
        if stop - work.iterations < step < stop:
            return work._replace(iterations=stop - step)
    return work


def rows(study: Study, measured: Measured) -> list[Row]:
    """What each stage of each model has to do, in the order of the work."""
    todo = {run: stages.missing(run) for run in runs(study)}
    found = []
    for name in study.models:
        for stage, row in stages.STAGES.items():
            its_runs = [run for run in stages.runs_of(study, stage) if run.name == name]
            if its_runs and stage not in ("data", "check"):
                wanted = sum(len(row.parts(run)) or 1 for run in its_runs)
                does = [r for r in its_runs if stage in todo[r] or row.scope == "study"]
                to_do = sum(len(lacking(stage, run)) for run in does)
                each = [pair for run in does for pair in _priced(stage, run, measured)]
                iterations = sum(work.iterations for _, all_ in each for work in all_)
                seconds = sum(price.of(all_) for price, all_ in each)
                disk = sum(_disk(stage, run, measured) for run in does)
                row = Row(name, stage, wanted - to_do, to_do, iterations, seconds, disk)
                found.append(row)
    return found


def _disk(stage: str, run: Run, measured: Measured) -> float:
    """Bytes of the parts and tables of a run's stage that are missing."""
    row = stages.STAGES[stage]
    sizes = [(part, row.work(run, part).disk) for part in row.parts(run)]
    sizes += [(stages.run_table(run, table), 1.0) for table in row.tables]
    return sum(
        size * measured.disk.get((run.name, str(result.identity["kind"])), SMALL_TABLE)
        for result, size in sizes
        if not result.path.exists()
    )


def _priced(
    stage: str, run: Run, measured: Measured, forks: tuple = ()
) -> Iterator[tuple[Price, list[Work]]]:
    for command, each in works(stage, run, forks).items():
        yield measured.prices.get((run.name, command), Price()), each


def _seconds_of(job: Job, study: Study, measured: Measured, start: float) -> float:
    """Processor time of a job."""
    if not job.stages:
        return SUMMARY if job.rule in ("summary", "study_figures") else FIGURE
    if job.rule in ("data", "check"):
        price = measured.prices.get(("", job.rule), Price())
        return start + price.of([Work()])
    its_runs = [job.run] if job.run else stages.runs_of(study, job.rule)
    each = (
        price.of(ws)
        for stage in job.stages
        for run in its_runs
        for price, ws in _priced(stage, run, measured, job.forks)
    )
    return start + sum(each)


def wall_time(jobs: list[Job], seconds: list[float], slots: int) -> float:
    """Seconds until all jobs have ended, so many at a time, each as soon as what it needs is
    there.
    """
    needs = [_needs(index, jobs) for index in range(len(jobs))]
    waiting, running, done, now = list(range(len(jobs))), [], set(), 0.0
    while waiting or running:
        for index in [i for i in waiting if needs[i] <= done][: slots - len(running)]:
            waiting.remove(index)
            running.append((now + seconds[index], index))
        now, ended = min(running)
        running.remove((now, ended))
        done.add(ended)
    return now


def _needs(index: int, jobs: list[Job]) -> set[int]:
    """The jobs before one that it needs: in a run by what its stage reads, else all of them."""
    job = jobs[index]
    if not job.stages:
        kind = job.rule == "summary"
        return {
            i for i in range(index) if jobs[i].stages or (not kind and jobs[i].rule == "summary")
        }
    reads = {before for stage in job.stages for before in stages.STAGES[stage].reads}
    return {
        i
        for i in range(index)
        if jobs[i].rule in ("data", "check")
        or (jobs[i].run in (job.run, None) or job.run is None)
        and reads & set(jobs[i].stages)
    }


def _memory(study: Study, measured: Measured) -> float:
    """Bytes that the largest job holds: what the trial held, and a kernel of full size, which is
    also copied to twice its precision.
    """
    kernels = [
        measured.disk.get((run.name, "kernel_matrix"), 0) * inputs(run) ** 2
        for run in stages.runs_of(study, "kernel")
    ]
    return measured.memory + 3 * max(kernels, default=0)


def overrides(raw: dict[str, Any]) -> list[str]:
    """A line for each option in which a model differs from what the study file says for all."""
    found = []
    for name, own in raw["models"].items():
        for section, options in own.items():
            if section == "network" or section not in raw:
                continue
            if options is False:
                found.append(f"note: {name} does without {section}")
            elif isinstance(options, dict) and isinstance(raw[section], dict):
                found += [
                    f"note: {name} has {section}.{key} = {show(value)}, where the study says "
                    f"{show(raw[section].get(key))}"
                    for key, value in options.items()
                    if value != raw[section].get(key)
                ]
    return found


def _by_model(table: list[Row]) -> list[Row]:
    """One row for each model."""
    found = []
    for name in dict.fromkeys(row.model for row in table):
        each = [row[2:] for row in table if row.model == name]
        found.append(Row(name, "all", *map(sum, zip(*each, strict=True))))
    return found


def _table(table: list[Row]) -> Iterator[str]:
    width = max(len("model"), *(len(row.model) for row in table))
    yield (
        f"{'model':<{width}}  {'stage':<12} {'there':>9} {'to do':>9} {'iterations':>12} "
        f"{'processor time':>15} {'disk':>8}"
    )
    before = None
    for row in table:
        model = row.model if row.model != before else ""
        time_, disk = (span(row.seconds), _bytes(row.disk)) if row.to_do else ("-", "-")
        yield (
            f"{model:<{width}}  {row.stage:<12} {row.there:>9,} {row.to_do:>9,} "
            f"{row.iterations:>12,} {time_:>15} {disk:>8}"
        )
        before = row.model


def _there(study: Study) -> float:
    """Bytes of what is there of a study."""
    paths = {result.path for result in stages.every(study)}
    return sum(512 * path.stat().st_blocks for path in paths if path.exists())


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e6:.0f} MB" if number >= 1e6 or not number else "1 MB"
