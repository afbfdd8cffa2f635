"""A panel of lines, which most figures are made of: a measure of a tidy table over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.panels import Panel
from twophase.study.chaos import PERTURBED
from twophase.study.model import Model, Study


class Lines(NamedTuple):
    """What a panel shows: a `measure` over the column `x`, with a line for each value of `hue`; or
    several measures, a line for each of `each`.
    """

    measure: str  # of several, what they are called together
    label: str  # of the y axis
    x: str = "t"
    over: str = "iteration $t$"  # label of the x axis; "" if it is no iteration
    hue: str = "line"  # the words of its measures
    legend: str = ""
    xlog: bool = False
    log: bool = False  # whether the axis is logarithmic where values span a factor of ten
    floor: bool = False  # whether it begins at 0
    top: float | None = None  # where it then ends
    markers: bool = False
    threshold: bool = False  # whether the barrier above which two runs have parted is drawn
    each: dict[str, str] = {}  # measures, with their words for the legend
    share: str = ""  # panels that share it have one scale; else those of the measure
    then: Callable[[Axes], object] | None = None  # what adds to the panel


AGAINST = partial(Lines, x="t1", over="compared at iteration $t_1$", hue="t0",
                  legend="perturbed at $t_0$", markers=True)  # fmt: skip


def against(model: Model, each: Sequence[Lines]) -> Sequence[Lines]:
    """What panels that compare forks with their base run show: all over t1, or over t0 where each
    fork is compared but once.
    """
    chaos = model.chaos
    if any(len(chaos.after(t0)) > 1 for t0 in chaos.forks):
        return each
    over = {"x": "t0", "over": style.perturbed(chaos.ends()), "hue": "line", "legend": ""}
    return [lines._replace(**over) for lines in each]


def forks(study: Study, *sections: str) -> Iterator[tuple[str, Model, str, str]]:
    """Each model that has these sections with each of its perturbations: the model's name, the
    model, what the perturbation is called in tables, and a title.
    """
    titles = names.titles(study)
    for name, model in style.models(study, "chaos", *sections).items():
        for kind in model.chaos.kinds():
            yield name, model, kind or PERTURBED, titles[name] + f": {kind}" * bool(kind)


def row(
    study: Study,
    name: str,
    frame: pd.DataFrame,
    each: Sequence[Lines],
    marks: style.Transitions | None = None,
    title: str = "",
    direction: str = "",
) -> list[Panel]:
    """The panels of a model, or of one `direction` of its forks, without measures that its task
    does not have; `frame` has all models' and directions', for scales and colours.
    """
    title, transitions, panels = title or names.titles(study)[name], (marks or {}).get(name), []
    for lines in each:
        words = lines.each or {lines.measure: ""}
        pooled = frame[frame["measure"].isin(words)]
        pooled = pooled.assign(line=pooled["measure"].map(words))
        if len(pooled):
            over_time = lines.over and lines.x != "t0"
            given = paper.marks(study, study.models[name], lines.measure) if over_time else []
            chosen = {"model": name} | ({"direction": direction} if direction else {})
            own, share = style.where(pooled, **chosen), lines.share or lines.measure
            drawn = partial(_draw, study, name, pooled, own, lines, transitions, given)
            said = paper.said(lines.measure) if given else ""
            panels.append(Panel(drawn, title, share, values=own["value"], also=said))
    return panels


def _draw(
    study: Study, name: str, pooled: pd.DataFrame, own: pd.DataFrame, lines: Lines,
    marks: dict | None, given: list, ax: Axes,
) -> None:  # fmt: skip
    model = study.models[name]
    ax.set_ylabel(names.axis(study, lines.label))
    if not np.isfinite(own["value"]).any():
        ax.text(0.5, 0.5, "no value that can be drawn", ha="center", transform=ax.transAxes)
        ax.set(xlim=(0, model.training.iterations), yticks=[], xlabel=lines.over)
        return
    if lines.log:
        style.scale(ax, pooled["value"])
    if lines.xlog:
        ax.set_xscale("log")
        style.few_ticks(ax.xaxis, own[lines.x].min(), own[lines.x].max())
    style.curves(ax, own, lines.x, lines.hue, style.shades(pooled[lines.hue]), lines.markers)
    if lines.floor:
        ax.set_ylim(min(0, own["value"].min()), lines.top)
    if lines.over and own[lines.x].nunique() > 1:  # a single point stands in the middle
        ax.set_xlim(0, None)
    if lines.threshold:
        style.barriers(ax, own, model.chaos.barrier_threshold, names.words(study).unit)
    paper.mark(ax, given)
    if lines.then:
        lines.then(ax)
    style.legend(ax, lines.legend)
    if lines.over:
        points = () if lines.x == "t1" else own[lines.x].unique()
        style.over_iterations(ax, lines.over, model, marks, points)
