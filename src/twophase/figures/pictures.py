"""Figures as pictures: matplotlib's, and files; the same tables give the same bytes."""

from __future__ import annotations

import gc
import json
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from twophase.errors import RunError, StudyError
from twophase.figures import asked, files, load, panels, style, tables
from twophase.figures.drawing import published_tables, redrawable
from twophase.store.artifacts import whole_file
from twophase.store.origin import ORIGIN
from twophase.store.paths import Result, digest
from twophase.study import studyfile
from twophase.study.model import STUDIES, Study
from twophase.study.tables import not_finished, published_study


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Garbage is searched for rarely: of a figure's many objects nearly all stay while it is drawn,
    and to look at them again and again takes a quarter of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@_rarely_collected()
def drawn(
    study: str,
    figure: str,
    *,
    width: float = style.WIDTH,
    panel: str | None = None,
    caption: bool = False,
    sheet: str | Path | None = None,
    published: bool = False,
    root: str | Path = ".",
) -> Figure:
    """The figure called `figure` of a study, `width` inches wide, as a matplotlib `Figure`.

    `panel` is the letter of one of its panels; `caption` adds the caption below; `sheet` is a
    matplotlib style sheet, used after the project's own looks. `study`, `published` and `root` are
    those of `twophase.load`, and so is what is raised; also `StudyError` if the study has no such
    figure. The caller's backend, rcParams and pyplot figures stay as they are.

    >>> import twophase
    >>> barrier = twophase.draw("digits", "fig3", width=3.25, panel="b", published=True)
    >>> barrier.axes[0].get_ylabel()
    'test loss barrier (nats)'
    """
    if published:
        known, file = published_study(study, Path(root))
        _one_of(redrawable(known, file), study, figure)
        found = published_tables(known, file, figure)
    else:
        studyfile.forget()
        known = studyfile.load(Path(root) / STUDIES / f"{study}.yaml")
        _one_of(asked(known), study, figure)
        found = {
            name: replace(table, path=Path(root) / table.path)
            for name, table in tables(known, figure).items()
        }
        for missing in (table.path for table in found.values() if not table.path.exists()):
            raise RunError(not_finished(known, missing))
    with style.theme(sheet):
        return panels.composed(load(figure).draw(known, found), width, panel, caption)


def _one_of(figures: list[str], study: str, figure: str) -> None:
    """Raise `StudyError` for another figure; the findings are words, and drawn by none."""
    pictures = [each for each in figures if each != "findings"]
    if figure not in pictures:
        raise StudyError(f"{study}: figure {figure!r}: must be one of {', '.join(pictures)}")


@_rarely_collected()
def tried(study: Study, figure: str, drawn_from: dict[str, Result] | None = None) -> Figure | None:
    """Draw a figure of the study's own tables, or of others, into no file. Returns what is drawn;
    `None` for the findings, which are words.
    """
    shown = load(figure).draw(study, drawn_from or tables(study, figure))
    if figure == "findings":
        return None
    with style.theme():
        composed = panels.composed(shown, caption=True)
        composed.set_layout_engine(None)  # nobody looks at it
        composed.draw_without_rendering()
    return composed


@_rarely_collected()
def write(
    study: Study,
    figure: str,
    folder: Path,
    drawn_from: dict[str, Result],
    maker: str,
    *,
    format: str | None = None,  # noqa: A002
    width: float | None = None,
    panel: str | None = None,
    style_sheet: Path | None = None,
    caption: bool = False,
) -> None:
    """Draw a figure into its files, or into one of the `format`, `width`, ... that it is asked for
    in.
    """
    shown = load(figure).draw(study, drawn_from)
    looks = [width, panel, str(style_sheet or ""), caption]
    plain = looks == [None, None, "", False]
    made = maker if plain else f"made by {digest([maker, looks])[:8]}"
    note = f"{made} on {json.dumps(ORIGIN)}"
    if figure == "findings":
        with whole_file(folder / "findings.md") as temporary:
            temporary.write_text(f"<!-- {note} -->\n{shown}", encoding="utf-8")
        return
    kinds = [format or "pdf"] if format or not plain else [n.split(".")[1] for n in files(figure)]
    with style.theme(style_sheet):
        composed = panels.composed(shown, width or style.WIDTH, panel, caption)
        # Laid out once: else each file moves the panels a little further than the one before.
        # With the engine "none" matplotlib would still draw it once more for each.
        composed.get_layout_engine().execute(composed)
        composed.set_layout_engine(None)
        for kind in kinds:
            with whole_file(folder / f"{figure}{panel or ''}.{kind}") as temporary:
                if kind == "txt":
                    text = textwrap.fill(shown.caption, 100, break_on_hyphens=False)
                    temporary.write_text(f"{text}\n\n{note}\n", encoding="utf-8")
                else:
                    save(composed, temporary, kind, note)


def save(figure: Figure, file: Path, kind: str, note: str) -> None:
    """Write a figure; the same figure gives the same bytes, which hold the note.

    Raises `RunError` for `pgf` where LaTeX, which measures its letters, is not installed.
    """
    metadata = {
        "pdf": {"CreationDate": None, "Keywords": note},
        "png": {"Software": None, "Comment": note},
        "svg": {"Date": None, "Creator": None, "Description": note},
        "eps": {"Creator": note},
    }
    try:
        with rc_context({"svg.hashsalt": note}):
            figure.savefig(file, format=kind, dpi=200, metadata=metadata.get(kind))
    except FileNotFoundError as error:
        if kind != "pgf":
            raise
        raise RunError(f"--format pgf: needs LaTeX, with {error.filename}") from None
    if kind == "pgf":
        file.write_text(f"%% {note}\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
