"""Figures of the user's own functions, and the panels of their measures."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from twophase.errors import RunError
from twophase.figures import names, style
from twophase.figures.lines import AGAINST, against, forks, row
from twophase.figures.panels import Page, Panel
from twophase.store.artifacts import read_table
from twophase.study.functions import imported
from twophase.study.model import Study


def draw(figure: str, study: Study, tables: style.Tables) -> Page:
    """The figure `measures`, or what the user's function makes of its tables.

    Raises `RunError` if that is no page.
    """
    if figure == "measures":
        return _measures(study, tables)
    own = study.figures[figure]
    given = {name: _whole(tables, name) for name in own.tables}
    page = imported(own.file, own.function)(given, **own.arguments)
    if not isinstance(page, Page):
        kind = type(page).__name__
        raise RunError(
            f"figures.{figure}: returns a {kind}; must return a Page of {Page.__module__}"
        )
    rows = page.rows if isinstance(page.rows, list | tuple) else []
    # A Panel, too, is a tuple, and no row.
    lists = [row for row in rows if type(row) in (list, tuple) and row]
    panels = all(isinstance(each, Panel) for row in lists for each in row)
    if not (lists and len(lists) == len(rows) and panels and isinstance(page.caption, str)):
        raise RunError(
            f"figures.{figure}: its Page must hold rows, which are lists of one Panel or more, and "
            "a caption: Page([[Panel(draw, 'title')]], 'What it shows.')"
        )
    return names.page(study, page.rows, page.caption)


def _whole(tables: style.Tables, name: str) -> pd.DataFrame:
    """A table of all runs, or a summary."""
    found = [r for key, r in tables.items() if key == name or key.endswith(f"/{name}")]
    return pd.concat(map(read_table, found), ignore_index=True)


def _measures(study: Study, tables: style.Tables) -> Page:
    """One row per model: a panel for each number of its own measures, a line for each t0."""
    found = style.runs(tables, "own_measures")
    found = found[found["direction"] != "control"]
    asked = {name: model.measures or {} for name, model in study.models.items()}
    own = [_among(asked[m], each) for m, each in zip(found["model"], found["measure"], strict=True)]
    found = found[own]
    rows = []
    for name, model, direction, title in forks(study, "measures"):
        here = style.where(found, model=name, direction=direction)
        there = here["measure"].unique()
        shown = [AGAINST(measure, measure.replace("_", " "), log=True) for measure in there]
        rows.append(row(study, name, found, against(model, shown), None, title, direction))
    told = ", ".join(measure.replace("_", " ") for measure in found["measure"].unique())
    return names.page(
        study,
        [panels for panels in rows if panels],
        f"Forks compared with their base run by measures of the study's own: {told}. At "
        f"iteration t0 a copy of each base run got {names.perturbed(study, every=True)}; it then "
        f"{names.then(study, every=True)}, and at t1 is compared with its undisturbed self.",
        marks={},
        forks=True,
    )


def _among(measures: Iterable[str], column: str) -> bool:
    """Whether a column is of one of a model's measures: others may have more."""
    return any(column == name or column.startswith(f"{name}_") for name in measures)
