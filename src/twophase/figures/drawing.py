"""Drawing a figure, of a study's results or of published ones. No matplotlib here: the Snakefile
imports this.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from twophase.figures import asked, made_by, tables
from twophase.store.artifacts import sha256
from twophase.store.paths import Result
from twophase.study.model import Study


def pictures() -> ModuleType:
    """The module that makes files, imported."""
    from twophase.figures import pictures

    return pictures


def draw(study: Study, figure: str, folder: Path, **wanted: Any) -> None:
    """Draw `figure` into `folder`; `wanted` as in `pictures.write`."""
    pictures().write(study, figure, folder, tables(study, figure), made_by(study, figure), **wanted)


def redraw(study: Study, file: Path, figure: str, folder: Path, **wanted: Any) -> None:
    """Draw `figure` into `folder` from the measurements published beside the study's `file`."""
    published = published_tables(study, file, figure)
    maker = redrawn_by(study, file, figure)
    pictures().write(study, figure, folder, published, maker, **wanted)


def redrawn_by(study: Study, file: Path, figure: str) -> str:
    """What a figure of published measurements is made by; it stands in each of its files."""
    published = published_tables(study, file, figure).values()
    return made_by(study, figure, [sha256(path) for path in (file, *(t.path for t in published))])


def redrawable(study: Study, file: Path) -> list[str]:
    """The figures whose tables are published beside the study's `file`; older studies lack those
    of newer figures.
    """
    return [
        figure
        for figure in asked(study)
        if all(table.path.exists() for table in published_tables(study, file, figure).values())
    ]


def published_tables(study: Study, file: Path, figure: str) -> dict[str, Result]:
    """The tables of a figure as they are published beside the study's `file`."""
    return {
        name: Result(file.parent / f"{name}.parquet", result.identity)
        for name, result in tables(study, figure).items()
    }
