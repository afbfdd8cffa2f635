"""Command `publish`: the tables of a finished study, small enough to be committed."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from twophase.commands.logs import SPENT
from twophase.errors import RunError
from twophase.stages.summary import summarised
from twophase.store import history
from twophase.store.artifacts import read_header, read_table, sha256, whole_file, write_table
from twophase.store.paths import MEASUREMENTS, RESULTS, Result
from twophase.study import beginning, noted, stages
from twophase.study.beginning import RECORD, own_files
from twophase.study.model import Study
from twophase.study.run import Run, runs
from twophase.study.stages import published_name
from twophase.study.tables import not_finished


def publish(study: Study, file: Path, partial: bool = False) -> None:
    """Copy the study's `file`, the user's own files that it names and tables to
    `paper/measurements/<study>/`, and write there `provenance.json`: the digest of each table and
    what made it, the commit and which files differ from it, and the processor time of each stage in
    seconds.

    Tables of a run that are not in `results/` stay as they were published, if the study's options
    for them are the same: so a long study can be published seed by seed, from several machines.
    With `partial`, runs that lack a table are left out, and no summary is written until all are
    there.

    Raises `RunError` if a table is in neither place, or if a run that was published would no longer
    be; `ArtifactError` if one is damaged.
    """
    before = MEASUREMENTS / study.name
    sources = {name: _source(name, table, before) for name, table in _run_tables(study).items()}
    left_out = _lacking(study, sources)
    if missing := [_run_tables(study)[name].path for name, found in sources.items() if not found]:
        was = any((before / published_name(run, "training.parquet")).exists() for run in left_out)
        if was or not partial or len(left_out) == len(runs(study)):
            raise RunError(not_finished(study, missing[0]))
    there = {name: path for name, path in sources.items() if _of(name) not in map(_name, left_out)}
    folder = MEASUREMENTS / f".{study.name}"  # gets its name when it is whole
    shutil.rmtree(folder, ignore_errors=True)
    for name, path in there.items():
        with whole_file(folder / f"{name}.parquet") as temporary:
            shutil.copyfile(path, temporary)
    for run in runs(study):
        if run not in left_out:
            _copy_record(run, sources[published_name(run, "training")], before, folder)
    if not left_out:
        _write_summaries(study, folder)
    shutil.copyfile(file, folder / f"{study.name}.yaml")
    if (note := noted.note(file)).exists():
        shutil.copyfile(note, folder / noted.NAME)
    for path, beside in own_files(study).items():
        copy = folder / beside.relative_to(file.parent.absolute())
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    _write_provenance(study, file, folder)
    aside = MEASUREMENTS / f".{study.name}-before"  # what was published stays until then
    shutil.rmtree(aside, ignore_errors=True)
    if before.exists():
        before.rename(aside)
    folder.rename(before)
    shutil.rmtree(aside, ignore_errors=True)


def _write_summaries(study: Study, folder: Path) -> None:
    """Summaries of the runs' tables in `folder`."""
    for table in stages.tables_of(study):
        its_runs = stages.runs_of(study, stages.STAGE_OF[table])
        paths = [folder / f"{published_name(run, table)}.parquet" for run in its_runs]
        result = stages.summary_table(study, table)
        copy = replace(result, path=folder / f"{table}_summary.parquet")
        content = summarised(table, [read_table(Result(path, {})) for path in paths])
        write_table(copy, content, path=result.path.as_posix())


def _write_provenance(study: Study, file: Path, folder: Path) -> None:
    """Say where the tables in `folder` come from, and on stderr what their commit does not hold."""
    tables = sorted(path.relative_to(folder) for path in folder.rglob("*.parquet"))
    not_there = beginning.changed(study, file)
    if not_there:
        print(
            f"publish: {MEASUREMENTS / study.name}/provenance.json names a commit that does not "
            f"hold {', '.join(not_there)}, and says so; commit first, then publish again",
            file=sys.stderr,
        )
    provenance = {
        "published_at_commit": history.commit() or "unknown: not in a git checkout",
        "not_in_that_commit": not_there,
        "study": sha256(file),
        "processor_seconds": _processor_seconds(study),
        "tables": {str(path.with_suffix("")): _origin(folder / path) for path in tables},
    }
    with whole_file(folder / "provenance.json") as temporary:
        temporary.write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def _lacking(study: Study, sources: dict[str, Path | None]) -> list[Run]:
    """The runs that lack a table."""
    lack = {_of(name) for name, path in sources.items() if path is None}
    return [run for run in runs(study) if _name(run) in lack]


def _name(run: Run) -> str:
    return _of(published_name(run, ""))


def _of(name: str) -> str:
    """The run of a table, by its published name."""
    return name.rpartition("/")[0]


def _copy_record(run: Run, training: Path, before: Path, folder: Path) -> None:
    """Publish the record of a run's beginning, if there is one where its table comes from."""
    name = published_name(run, RECORD)
    again = training.is_relative_to(before)
    record = before / name if again else beginning.record_file(run)
    if record.exists():
        shutil.copyfile(record, folder / name)


def _run_tables(study: Study) -> dict[str, Result]:
    """The tables of all runs, by the names they are published under."""
    return {
        published_name(run, table): stages.run_table(run, table)
        for table, stage in stages.STAGE_OF.items()
        for run in stages.runs_of(study, stage)
    }


def _source(name: str, table: Result, before: Path) -> Path | None:
    """Where a table is: among the results, or already published, made by the same options."""
    if table.path.exists():
        return table.path
    published = before / f"{name}.parquet"
    if published.exists() and read_header(published)["maker"]["options"] == table.maker.options:
        return published
    return None


def _origin(published: Path) -> dict:
    """What a published table says of itself."""
    header = read_header(published)
    return {
        "made_as": Path(header["path"]).name,
        "sha256": sha256(published),
        "maker": header["maker"],
        "origin": header["origin"],
    }


def _processor_seconds(study: Study) -> dict[str, float]:
    """Processor time of the study's jobs by stage, from the logs of those that made its results.

    Of a job that was stopped and resumed, only what it spent after that is known.
    """
    seconds: dict[str, float] = {}
    current = stages.fingerprints(study)
    for log in (RESULTS / study.name).rglob("logs/*.log"):
        if log.stem.partition("-")[2][:8] in current:
            for stage, start, work in SPENT.findall(
                log.read_text(encoding="utf-8", errors="replace")
            ):
                seconds[stage] = round(seconds.get(stage, 0) + float(start) + float(work), 1)
    return seconds
