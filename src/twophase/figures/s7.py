"""Figure s7: what depends on the options that the study sweeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Model, Study
from twophase.study.sweep import label


class Shown(NamedTuple):
    """What a panel shows: a measure of a table, of models that have the section, at the points that
    `chosen` picks, with a line for each value of the key `by` (one, if that is the study).
    """

    table: str
    section: str
    measure: str
    label: str
    chosen: Callable[[pd.DataFrame, Model], pd.DataFrame]
    by: str
    legend: str = ""


def _at_the_end(frame: pd.DataFrame, model: Model) -> pd.DataFrame:
    return style.where(frame, t=model.training.iterations)


def _of_forks(frame: pd.DataFrame, model: Model) -> pd.DataFrame:
    return style.at_ends(style.where(frame, direction=model.chaos.main()), model.chaos.ends())


def _from_references(frame: pd.DataFrame, model: Model) -> pd.DataFrame:
    return frame[frame["t"].isin(model.kernel.references)]


SHOWN = (
    Shown("training", "training", "test_accuracy", "test accuracy (share)", _at_the_end, "study"),
    Shown("chaos", "chaos", "test_barrier", "barrier", _of_forks, "t0", "perturbed at $t_0$"),
    Shown("chaos", "chaos", "disagreement", "disagreement (share)", _of_forks, "t0",
          "perturbed at $t_0$"),
    Shown("cone", "kernel", "radius", "radius (degrees)", _from_references, "t",
          "kernels from $t$ on"),
)  # fmt: skip


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model that was swept: accuracy, barrier, disagreement and the cone's radius over
    the values, with a line for each t0 or t.
    """
    there = {shown.table for shown in SHOWN if f"{shown.table}_summary" in tables}
    frames = {table: style.runs(tables, table) for table in there}
    rows = []
    for origin in dict.fromkeys(swept.of for swept in study.sweep.values()):
        models = {n: study.models[n] for n, swept in study.sweep.items() if swept.of == origin}
        first = next(iter(models))
        title = names.titles(study)[first].split(", " + names.images(study))[0]
        title = f"{title.split(' (')[0]}, {names.images(study)}"
        rows.append(
            [
                Panel(
                    partial(_panel, study, models, shown, frames[shown.table]), title, shown.measure
                )
                for shown in SHOWN
                if all(getattr(model, shown.section) for model in models.values())
            ]
        )
    said = {
        "chaos": "Barrier and disagreement: of base run and fork at the last t1, perturbed at "
        f"t0 by {names.perturbed(study)}; above the dashed line the two lie in different "
        "valleys of the loss."
        if style.models(study, "chaos")
        else "",
        "cone": "Radius: largest angle between a kernel from t on and their mean direction.",
    }
    return Page(
        rows,
        names.caption(
            study,
            "What depends on the options that the study sweeps, over their values. Accuracy: at "
            "the end of training.",
            *(text for table, text in said.items() if table in there),
            names.every(study, forks="chaos" in there),
        ),
    )


def _panel(
    study: Study, models: dict[str, Model], shown: Shown, frame: pd.DataFrame, ax: Axes
) -> None:
    """The measure over the places of the models, 0, 1, …"""
    parts = [
        shown.chosen(style.where(frame, model=name, measure=shown.measure), model).assign(place=at)
        for at, (name, model) in enumerate(models.items())
    ]
    data = pd.concat(parts, ignore_index=True)
    by = shown.by if shown.legend else None
    style.curves(ax, data, "place", by, style.shades(data[by]) if by else None, markers=bool(by))
    values = [study.sweep[name].values for name in models]
    ticks = [", ".join(map(label, each.values())) for each in values]
    ax.set_xticks(range(len(ticks)), ticks, rotation=90 * (max(map(len, ticks)) > 5))
    ax.set(xlabel=", ".join(key.split(".")[-1] for key in values[0]), ylabel=shown.label)
    if shown.measure == "test_barrier":
        style.barriers(ax, data, next(iter(models.values())).chaos.barrier_threshold)
    style.legend(ax, shown.legend)
