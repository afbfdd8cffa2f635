"""What of a published study is drawn: all, or of a registered one what has been looked at."""

from __future__ import annotations

from pathlib import Path

from twophase.figures import asked, drawing, tables
from twophase.stages.summary import summarised
from twophase.store.artifacts import read_table, write_table
from twophase.store.paths import Result
from twophase.study import stages
from twophase.study.model import Study
from twophase.study.stages import published_name
from twophase.writeup.sources import registration_of, seeds_looked_at

Drawn = dict[str, dict[str, Result]]  # tables, by the figures that are drawn from them


def shown(study: Study, file: Path, scratch: Path) -> tuple[Study, Drawn]:
    """The part of the study that is shown, and the tables of each figure that can be drawn.

    Of a registered study these are the models that have reached a look, and the seeds that all of
    them have; summaries of these are written in the folder `scratch`.
    """
    if registration_of(study, file) is None:
        names = drawing.redrawable(study, file)
        return study, {name: drawing.published_tables(study, file, name) for name in names}
    part = _part(study, file)
    if part is None:
        return study, {}
    summaries = {}
    for table in stages.tables_of(part):
        runs = stages.runs_of(part, stages.STAGE_OF[table])
        paths = [file.parent / f"{published_name(run, table)}.parquet" for run in runs]
        if all(path.exists() for path in paths):
            identity = stages.summary_table(part, table).identity
            summaries[f"{table}_summary"] = Result(scratch / f"{table}_summary.parquet", identity)
            content = summarised(table, [read_table(Result(path, {})) for path in paths])
            write_table(summaries[f"{table}_summary"], content)
    found = {}
    for name in asked(part):
        each = {
            key: summaries.get(key, Result(file.parent / f"{key}.parquet", result.identity))
            for key, result in tables(part, name).items()
        }
        if all(result.path.exists() for result in each.values()):
            found[name] = each
    return part, found


def _part(study: Study, file: Path) -> Study | None:
    """The models and seeds of a registered study that have been looked at."""
    seeds = {name: seeds_looked_at(study, name, file)[0] for name in study.models}
    seeds = {name: own for name, own in seeds.items() if own}
    if not seeds:
        return None
    return study.model_copy(
        update={
            "models": {name: study.models[name] for name in seeds},
            "seeds": min(seeds.values(), key=len),
            "sweep": {name: swept for name, swept in study.sweep.items() if name in seeds},
        }
    )
