"""The tables of a study, to be worked with: `twophase.load`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from twophase.errors import ArtifactError, RunError, StudyError
from twophase.store.artifacts import read_table
from twophase.store.paths import MEASUREMENTS, Result
from twophase.study import stages, studyfile
from twophase.study.model import STUDIES, Study
from twophase.study.stages import published_name


def load(
    study: str,
    table: str,
    *,
    model: str | None = None,
    seed: int | None = None,
    published: bool = False,
    root: str | Path = ".",
) -> pd.DataFrame:
    """The table called `table` of a study, one row for each run and point.

    `study` names a file of `workflow/config/` in the project's folder `root`. Columns are study,
    model, seed, the table's keys and its measures; docs/tables.md lists them with their units. A
    `<table>_summary` has mean and range over all runs instead.

    All runs must be there, or of one `model` or `seed` those that are asked for.

    Read is what was made by the study's options and your own files as they are now, and by this
    package's code as it was imported, and nothing else.
    With `published` it is what lies in `paper/measurements/`, whatever made it: `provenance.json`
    there says what did.

    Raises `StudyError` if there is no such study, table, model or seed, `RunError` if the study is
    not finished, `ArtifactError` if a published table is missing or a file is damaged.

    >>> import twophase
    >>> chaos = twophase.load("digits", "chaos", published=True)
    >>> at_the_end = chaos[(chaos.direction != "control") & (chaos.t1 == 500)]
    >>> barriers = at_the_end[at_the_end.model == "vgg"].groupby("t0").test_barrier
    >>> (barriers.min() > 0.1).to_dict()  # does every seed end behind a barrier of 0.1 nats?
    {0: True, 100: False, 200: False, 300: False}
    """
    root = Path(root)
    if published:
        known, file = published_study(study, root)
        found = [
            Result(file.parent / f"{name}.parquet", result.identity)
            for name, result in _files(known, table, model, seed).items()
        ]
        for missing in (each.path for each in found if not each.path.exists()):
            raise ArtifactError(f"{missing}: is missing: the study was published without it")
        return pd.concat(map(read_table, found), ignore_index=True)
    studyfile.forget()
    known = studyfile.load(root / STUDIES / f"{study}.yaml")
    results = _files(known, table, model, seed).values()
    for missing in (root / each.path for each in results if not (root / each.path).exists()):
        there = (root / MEASUREMENTS / study).exists()
        hint = ", or load what is published, with `published=True`" if there else ""
        if any((root / each.path).exists() for each in results):
            hint += "; some runs have it: ask for them by `model` and `seed`"
        raise RunError(not_finished(known, missing) + hint)
    return pd.concat((read_table(each, root) for each in results), ignore_index=True)


def known_run(study: Study, model: str | None, seed: int | None) -> None:
    """Raise `StudyError` for a model or seed that the study does not have."""
    for name, value, allowed in (("model", model, [*study.models]), ("seed", seed, study.seeds)):
        if value is not None and value not in allowed:
            listed = ", ".join(map(str, allowed))
            raise StudyError(f"{study.name}: {name} = {value!r}: must be one of {listed}")


def published_study(name: str, root: Path = Path()) -> tuple[Study, Path]:
    """The study published under this name in the project's folder, with its file.

    Raises `StudyError` if there is none.
    """
    folder = root / MEASUREMENTS / name
    if not (folder / "provenance.json").exists():
        there = sorted(path.parent.name for path in folder.parent.glob("*/provenance.json"))
        raise StudyError(
            f"{folder}: holds no measurements; published are: {', '.join(there) or 'none'}"
        )
    file = folder / f"{name}.yaml"
    return studyfile.load(file), file


def provenance(folder: Path) -> dict[str, Any]:
    """What `provenance.json` says of the study published in a folder.

    Raises `ArtifactError` if it is damaged.
    """
    file = folder / "provenance.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if {"published_at_commit", "processor_seconds", "tables"} <= said.keys():
            return said
    except (OSError, ValueError, AttributeError):
        pass
    raise ArtifactError(f"{file}: is damaged; publish the study again")


def not_finished(study: Study, missing: Path) -> str:
    """What to do about a table that is missing."""
    return (
        f"{missing}: is missing: the study is not finished with the options and the code as they "
        f"are now; run `snakemake --cores all figures/{study.name}/all` first"
    )


def _files(
    study: Study, table: str, model: str | None = None, seed: int | None = None
) -> dict[str, Result]:
    """The files of a table, or of a summary, by the names that they are published under."""
    known_run(study, model, seed)
    its_runs = {name: stages.runs_of(study, stage) for name, stage in stages.STAGE_OF.items()}
    summaries = {f"{name}_summary": name for name in stages.tables_of(study)}
    if table in summaries:
        if model is not None or seed is not None:
            raise StudyError(f"{study.name}: {table} is of all runs; leave model and seed out")
        return {table: stages.summary_table(study, summaries[table])}
    if not its_runs.get(table):
        there = ", ".join([*(name for name in its_runs if its_runs[name]), *summaries])
        raise StudyError(f"{study.name}: has no table {table!r}; must be one of {there}")
    own = [run for run in its_runs[table] if model in (None, run.name) and seed in (None, run.seed)]
    if not own:
        raise StudyError(f"{study.name}: model = {model!r}: has no table {table!r}")
    return {published_name(run, table): stages.run_table(run, table) for run in own}
