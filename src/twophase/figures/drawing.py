"""Drawing a figure into its files; the same tables give the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

from twophase.figures import asked, files, load, made_by, made_from, tables
from twophase.store.artifacts import sha256, whole_file
from twophase.store.origin import ORIGIN
from twophase.store.paths import Result
from twophase.study.model import Study


def draw(study: Study, figure: str, folder: Path) -> None:
    """Draw `figure` into `folder`."""
    _draw(study, figure, folder, tables(study, figure), made_by(study, figure))


def redraw(study: Study, file: Path, figure: str, folder: Path) -> None:
    """Draw `figure` into `folder` from the measurements published beside the study's `file`."""
    published = published_tables(study, file, figure)
    _draw(study, figure, folder, published, redrawn_by(study, file, figure))


def redrawn_by(study: Study, file: Path, figure: str) -> str:
    """What a figure of published measurements is made by; it stands in each of its files."""
    published = published_tables(study, file, figure).values()
    return made_from(study, figure, [sha256(path) for path in (file, *(t.path for t in published))])


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


def _draw(
    study: Study, figure: str, folder: Path, drawn_from: dict[str, Result], maker: str
) -> None:
    note = f"{maker} on {json.dumps(ORIGIN)}"
    drawing = load(figure).draw(study, drawn_from)
    for name in files(figure):
        with whole_file(folder / name) as temporary:
            if name.endswith(".md"):
                temporary.write_text(f"<!-- {note} -->\n{drawing}", encoding="utf-8")
            elif name.endswith(".pdf"):
                metadata = {"CreationDate": None, "Keywords": note}
                drawing.savefig(temporary, format="pdf", dpi=200, metadata=metadata)
            else:
                metadata = {"Software": None, "Comment": note}
                drawing.savefig(temporary, format="png", dpi=200, metadata=metadata)
