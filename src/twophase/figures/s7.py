"""Figure s7: what depends on the options that the study sweeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twophase.figures import style
from twophase.figures.style import Points
from twophase.store.paths import Result
from twophase.study.model import Model, Study
from twophase.study.sweep import label

LEGEND = {  # above the axes: below it are data
    "fontsize": "x-small",
    "title_fontsize": "x-small",
    "ncols": 3,
    "columnspacing": 1,
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "borderaxespad": 0.2,
}


class Panel(NamedTuple):
    """What a column shows: a measure of a table, of models that have the section, at the points
    that `chosen` picks, with a line for each value of the key `by` (one, if that is the study).
    """

    table: str
    section: str
    measure: str
    label: str
    chosen: Callable[[Points, Model], Points]
    by: str
    legend: str | None = None


def _at_the_end(points: Points, model: Model) -> Points:
    return points.where(t=model.training.iterations)


def _of_forks(points: Points, model: Model) -> Points:
    return points.where(direction="perturbed").at_ends(model.chaos.ends())


def _from_references(points: Points, model: Model) -> Points:
    return Points(*(frame[frame["t"].isin(model.kernel.references)] for frame in points))


PANELS = (
    Panel("training", "training", "test_accuracy", "test accuracy (share)", _at_the_end, "study"),
    Panel("chaos", "chaos", "test_barrier", "loss barrier (nats)", _of_forks, "t0", "$t_0$"),
    Panel("chaos", "chaos", "disagreement", "disagreement (share)", _of_forks, "t0"),
    Panel("cone", "kernel", "radius", "radius (degrees)", _from_references, "t", "$t$"),
)


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model that was swept: accuracy, barrier, disagreement and the cone's radius over
    the values, with a line for each t0 or t.
    """
    there = {panel.table for panel in PANELS if f"{panel.table}_summary" in tables}
    points = {table: style.points(tables, table) for table in there}
    origins = dict.fromkeys(swept.of for swept in study.sweep.values())
    figure, axes = style.grid(len(origins), len(PANELS), 2.3)
    for row, origin in zip(axes, origins, strict=True):
        models = {n: study.models[n] for n, swept in study.sweep.items() if swept.of == origin}
        values = [study.sweep[name].values for name in models]
        for ax, panel in zip(row, PANELS, strict=True):
            if not all(getattr(model, panel.section) for model in models.values()):
                ax.axis("off")
                continue
            _lines(ax, panel, points[panel.table], models)
            ticks = [", ".join(map(label, each.values())) for each in values]
            ax.set_xticks(range(len(ticks)), ticks, rotation=90 * (max(map(len, ticks)) > 5))
            ax.set(xlabel=", ".join(key.split(".")[-1] for key in values[0]), ylabel=panel.label)
        row[0].set_title(origin)
        if chaos := next(iter(models.values())).chaos:
            style.barrier_axis(row[1], chaos.barrier_threshold)
        for ax in row[2:]:
            ax.set_ylim(0, None)
    style.note(
        figure,
        study,
        "Accuracy: at the end of training. Barrier and disagreement: of base run and fork at the "
        "last $t_1$, perturbed at $t_0$.\nRadius: largest angle between a kernel from $t$ on and "
        f"their mean direction.\n{style.runs_note(study, forks=True).capitalize()}.",
    )
    return figure


def _lines(ax: Axes, panel: Panel, points: Points, models: dict[str, Model]) -> None:
    """The panel's measure over the places of the models, 0, 1, …"""
    each = [
        panel.chosen(points.where(model=name, measure=panel.measure), model)
        for name, model in models.items()
    ]
    placed = [[f.assign(place=place) for f in points] for place, points in enumerate(each)]
    shown = Points(*(pd.concat(frames) for frames in zip(*placed, strict=True)))
    for key, look in style.looks(shown.means[panel.by].unique()).items():
        points = shown.where(**{panel.by: key})
        style.line(ax, points, "place", **look, clip_on=False, label=f"{key}")
    if panel.legend:
        ax.legend(title=panel.legend, **LEGEND)
