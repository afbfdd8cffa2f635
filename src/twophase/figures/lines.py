"""A panel of lines, which most figures are made of: a measure of a tidy table over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.panels import Panel
from twophase.study.model import Model, Study


class Lines(NamedTuple):
    """What a panel shows: a `measure` over the column `x`, with a line for each value of `hue`."""

    measure: str
    label: str  # of the y axis
    x: str = "t"
    over: str = "iteration $t$"  # label of the x axis; "" if it is no iteration
    hue: str | None = None
    legend: str = ""
    xlog: bool = False
    log: bool = False  # whether the axis is logarithmic where values span a factor of ten
    floor: bool = False  # whether it begins at 0
    markers: bool = False
    threshold: bool = False  # whether the barrier above which two runs have parted is drawn
    share: str = ""  # panels that share it have one scale; else those of the measure


AGAINST = partial(Lines, x="t1", over="compared at iteration $t_1$", hue="t0",
                  legend="perturbed at $t_0$", markers=True)  # fmt: skip


def against(model: Model, title: str, each: Sequence[Lines]) -> tuple[str, Sequence[Lines]]:
    """The title of panels that compare forks with their base run, and what these show: all over t1,
    or over t0 where each fork is compared but once.
    """
    chaos = model.chaos
    if any(len(chaos.after(t0)) > 1 for t0 in chaos.forks):
        return title, each
    over = {"x": "t0", "over": "perturbed at iteration $t_0$", "hue": None, "legend": ""}
    return f"{title}, {style.when(chaos.ends())}", [lines._replace(**over) for lines in each]


def panel(
    study: Study,
    name: str,
    frame: pd.DataFrame,
    lines: Lines,
    marks: style.Transitions | None = None,
    title: str | None = None,
    then: Callable[[Axes], object] | None = None,
) -> Panel:
    """The panel of a model; `frame` has all models', for scales and colours. `then` adds to it."""
    title = names.titles(study)[name] if title is None else title
    own = (marks or {}).get(name)
    drawn = partial(_draw, study, name, frame, lines, own, then)
    return Panel(drawn, title, lines.share or lines.measure)


def row(
    study: Study,
    name: str,
    frame: pd.DataFrame,
    each: Sequence[Lines],
    marks: style.Transitions | None = None,
    **options: object,
) -> list[Panel]:
    """The panels of a model, without measures that its task does not have."""
    there = set(frame["measure"])
    shown = [lines for lines in each if lines.measure in there]
    return [panel(study, name, frame, lines, marks, **options) for lines in shown]


def _draw(
    study: Study,
    name: str,
    frame: pd.DataFrame,
    lines: Lines,
    marks: dict | None,
    then: Callable[[Axes], object] | None,
    ax: Axes,
) -> None:
    model = study.models[name]
    pooled = style.where(frame, measure=lines.measure)
    own = style.where(pooled, model=name)
    if lines.hue:
        own = own[own[lines.hue].notna()]
    ax.set_ylabel(names.axis(study, lines.label))
    if not np.isfinite(own["value"]).any():
        ax.text(0.5, 0.5, "no value that can be drawn", ha="center", transform=ax.transAxes)
        ax.set(xlim=(0, model.training.iterations), yticks=[], xlabel=lines.over)
        return
    if lines.log:
        style.scale(ax, pooled["value"])
    if lines.xlog:
        ax.set_xscale("log")
    colours = style.shades(pooled[lines.hue]) if lines.hue else None
    style.curves(ax, own, lines.x, lines.hue, colours, lines.markers)
    if lines.floor:
        ax.set_ylim(min(0, own["value"].min()), None)
    if lines.over:
        ax.set_xlim(0, None)
    if lines.threshold:
        style.barriers(ax, own, model.chaos.barrier_threshold, names.words(study).unit)
    if lines.over and lines.x != "t0":
        paper.mark(ax, study, model, lines.measure)
    if then:
        then(ax)
    style.legend(ax, lines.legend)
    if lines.over:
        points = () if lines.x == "t1" else own[lines.x].unique()
        style.over_iterations(ax, lines.over, model, marks, points)
