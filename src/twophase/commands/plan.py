"""Command `plan`: what a study would take, before it is started."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from twophase.commands import pace
from twophase.commands.costs import Measured, Price, measure
from twophase.commands.logs import span
from twophase.errors import StudyError
from twophase.jobs import Job, left, to_do, wanted
from twophase.stages import matching
from twophase.store.artifacts import read_tensors
from twophase.store.paths import MEASUREMENTS, Result
from twophase.study import stages, studyfile
from twophase.study.chaos import fork_parts
from twophase.study.kernel import inputs
from twophase.study.model import Study
from twophase.study.records import show
from twophase.study.run import Run
from twophase.study.stage import Work
from twophase.study.tables import provenance

# Seconds of processor time of a summary and a figure, and to start with pandas and matplotlib; of
# Snakemake, and what it adds to each job: of `digits`, on the machine of docs/speed.md.
SUMMARY, FIGURE, PANDAS, MATPLOTLIB, SNAKEMAKE, EACH_JOB = 0.05, 1.0, 0.65, 1.5, 4.0, 0.7
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
    if cores is not None and cores < 1:
        raise StudyError(f"--cores {cores}: must be at least 1")
    print("\n".join(lines(study, file, cores or pace.cores())))


def lines(study: Study, file: Path, cores: int) -> Iterator[str]:
    """The plan in words: a table, and what it comes to."""
    yield f"{study.name}: {_count(len(study.models), 'model')}, {_count(len(study.seeds), 'seed')}"
    notes = [
        *overrides(studyfile.mapping(file, file.read_text(encoding="utf-8"))),
        *studyfile.taken(file),
    ]
    notes += unmatched(study)
    jobs = left(study, cores)
    if not jobs:
        yield "all is there and current: nothing to do"
        yield from notes
        return
    names = [name for name in study.models if any(job.run and job.run.name == name for job in jobs)]
    for stage in stages.STAGES:
        stages.imported(stage)
    start = time.process_time()  # of this process until here, as of a job
    measured, told = _measured(study, names)
    table = rows(study, measured, jobs)
    yield ""
    yield from _table(table if len(table) <= MOST_ROWS else _by_stage(table))
    yield ""
    took = [EACH_JOB + _seconds_of(job, study, measured, start) for job in jobs]
    for name in names:
        own = [s for s, job in zip(took, jobs, strict=True) if job.run and job.run.name == name]
        its_rows = [row for row in table if row.model == name]
        yield f"{name}: {_sums(len(own), its_rows, sum(own))}"
    new = 0 if stages.data_file(study).path.exists() else measured.disk["", "data"]
    total = SNAKEMAKE + sum(took)
    yield f"all, with data, check, summaries and figures: {_sums(len(jobs), table, total, new)}"
    threads = study.compute.threads
    each = [s / threads if study.compute.device == "cpu" else s for s in took]
    here = min(cores, pace.cores())
    wall = SNAKEMAKE + wall_time(jobs, each, max(1, here // threads))
    fewer = f" (this machine has {here})" * (here < cores)
    yield f"about {span(wall)} with --cores {cores}{fewer}, if nothing else runs there"
    yield (
        f"memory of the largest job: about {_bytes(_memory(study, measured))}; "
        f"on disk are {_bytes(_there(study))}"
    )
    yield told
    yield from notes


def _sums(jobs: int, table: list[Row], seconds: float, disk: float = 0) -> str:
    iterations, disk = sum(row.iterations for row in table), disk + sum(row.disk for row in table)
    return (
        f"{_count(jobs, 'job')}, {iterations:,} iterations, {span(seconds)} of processor time, "
        f"{_bytes(disk)} more on disk"
    )


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
    if not lacks:
        return measured, f"times: measured here, in {span(time.monotonic() - began)}"
    folder = MEASUREMENTS / study.name
    if not (folder / "provenance.json").exists():
        return measured, "times: of this machine's processor; it has no GPU, and none are published"
    prices, machine = _published(folder, study.name)
    for name in names:
        measured.prices.update({(name, stage): price for stage, price in prices.items()})
    told = f"times: this machine has no GPU; they are those published in {folder}, of {machine}"
    others = dict.fromkeys(s for name, s in measured.prices if name and s not in prices)
    if others:
        told += f"; for {', '.join(others)} those of this machine's processor"
    return measured, told


def _published(folder: Path, name: str) -> tuple[dict[str, Price], str]:
    """Prices by stage from the processor times of a published study, and its machine."""
    study = studyfile.load(folder / f"{name}.yaml")
    said = provenance(folder)
    prices = {}
    for stage, seconds in said["processor_seconds"].items():
        if stage in stages.STAGES and (its_runs := stages.runs_of(study, stage)):
            all_ = [(run, result) for run in its_runs for result in wanted(stage, run)]
            each = [stages.STAGES[stage].work(run, result) for run, result in all_]
            iterations, rest = sum(w.iterations for w in each), sum(w.rest for w in each)
            unit = seconds / (iterations or rest)
            prices[stage] = Price(iteration=unit) if iterations else Price(rest=unit)
    machines = sorted({table["origin"]["machine"] for table in said["tables"].values()})
    with_gpu = [machine for machine in machines if "CUDA" in machine]
    return prices, " and ".join(with_gpu or machines)


def _resumed(part: Result, work: Work) -> Work:
    """The work to a state, from the one that was kept on the way if there is one."""
    kept = stages.unfinished(part)
    if work.iterations and kept.path.exists():
        step, stop = (
            int(read_tensors(kept)["step"]),
            part.identity.get("t1", part.identity.get("t")),
        )
        if stop - work.iterations < step < stop:
            return work._replace(iterations=stop - step)
    return work


def rows(study: Study, measured: Measured, jobs: list[Job]) -> list[Row]:
    """What each stage of each model has to do in these jobs, in the order of the work."""
    todo = {(job.run, stage) for job in jobs for stage in job.stages}
    found = []
    for name in study.models:
        for stage in stages.STAGES:
            its_runs = [run for run in stages.runs_of(study, stage) if run.name == name]
            if its_runs and stage not in ("data", "check"):
                does = [
                    run for run in its_runs if not todo.isdisjoint({(run, stage), (None, stage)})
                ]
                found.append(_row(name, stage, its_runs, does, measured))
    return found


def _row(model: str, stage: str, its_runs: list[Run], does: list[Run], measured: Measured) -> Row:
    """What a stage has in a model's runs, and does in some of them."""
    in_all = sum(len(wanted(stage, run)) for run in its_runs)
    left = sum(len(to_do(stage, run)) for run in does)
    each = [pair for run in does for pair in _priced(stage, run, measured)]
    iterations = sum(work.iterations for _, works in each for work in works)
    seconds = sum(price.of(works) for price, works in each)
    disk = sum(_disk(stage, run, measured) for run in does)
    return Row(model, stage, in_all - left, left, iterations, seconds, disk)


def _disk(stage: str, run: Run, measured: Measured) -> float:
    """Bytes of the parts and tables that a run's stage has to make."""
    row = stages.STAGES[stage]
    tables = [stages.run_table(run, table) for table in row.tables]
    sizes = [(table, 1.0) for table in tables if not table.path.exists()]
    if row.parts(run):
        gone = {part.path for part in stages.passing(stage, run)}  # which are not kept
        todo = [part for part in to_do(stage, run) if part.path not in gone]
        sizes += [(part, row.work(run, part).disk) for part in todo]
    return sum(
        size * measured.disk.get((run.name, str(result.identity["kind"])), SMALL_TABLE)
        for result, size in sizes
    )


def _priced(
    stage: str, run: Run, measured: Measured, forks: tuple = ()
) -> Iterator[tuple[Price, list[Work]]]:
    """What a run's stage, or a job of it that does these forks, has to do, with its price: that of
    the stage whose work it is.
    """
    row, found = stages.STAGES[stage], {}
    asked = {part.path for fork in forks for part in fork_parts(run, *fork)}
    for result in to_do(stage, run):
        if not forks or result.path in asked:
            work = _resumed(result, row.work(run, result))
            found.setdefault(result.command, []).append(work)
    own = found.setdefault(stage, []) if row.always(run) or not found else []
    own.append(Work(rest=row.always(run)))
    for maker, works in found.items():
        yield measured.prices.get((run.name, maker), Price()), works


def _seconds_of(job: Job, study: Study, measured: Measured, start: float) -> float:
    """Processor time of a job."""
    if not job.stages:
        if job.makes and (job.makes[0] == job.rule or job.rule == "study_figures"):
            return MATPLOTLIB + FIGURE * len(job.makes)
        return PANDAS + SUMMARY * len(job.makes)
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
    makes = {file: index for index, job in enumerate(jobs) for file in job.ends}
    needs = [{makes[file] for file in job.waits if file in makes} for job in jobs]
    waiting, running, done, now = list(range(len(jobs))), [], set(), 0.0
    while waiting or running:
        for index in [i for i in waiting if needs[i] <= done][: slots - len(running)]:
            waiting.remove(index)
            running.append((now + seconds[index], index))
        now, ended = min(running)
        running.remove((now, ended))
        done.add(ended)
    return now


def _memory(study: Study, measured: Measured) -> float:
    """Bytes that the largest job holds: what the trial held, and a kernel of full size, which is
    also copied to twice its precision.
    """
    kernels = [
        measured.disk.get((run.name, "kernel_matrix"), 0) * inputs(run) ** 2
        for run in stages.runs_of(study, "kernel")
    ]
    return measured.memory + 3 * max(kernels, default=0)


def unmatched(study: Study) -> list[str]:
    """A line for each model whose units the stage `matching` cannot match, and why."""
    classes = getattr(study.data.images, "classes", None) or 10
    first = {run.name: run for run in stages.runs_of(study, "matching")}
    said = {name: matching.unmatched(run, classes) for name, run in first.items()}
    return [f"note: {name}: {why}" for name, why in said.items() if why]


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


def _by_stage(table: list[Row]) -> list[Row]:
    """One row for each stage of all models."""
    found = []
    for stage in dict.fromkeys(row.stage for row in table):
        each = [row[2:] for row in table if row.stage == stage]
        found.append(Row("all", stage, *map(sum, zip(*each, strict=True))))
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
    return f"{number / 1e6:.0f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"
