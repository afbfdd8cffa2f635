"""A panel of a map: a measure of all pairs of checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from twophase.estimators.phases import Times
from twophase.figures import names, style
from twophase.figures.panels import Panel
from twophase.study.model import Model, Study


def panel(
    study: Study,
    name: str,
    pairs: pd.DataFrame,
    values: str,
    label: str,
    marks: dict[str, Times | str] | None = None,
    blocks: Sequence[tuple] = (),
    height: float = 1.6,
    **looks: Any,
) -> Panel:
    """A map of a model's column `values` over t and u, from the first pair at the lower left, with
    drops of the learning rate and transitions; `blocks` are where the paper's blocks meet.
    """
    grid = style.where(pairs, model=name).pivot(index="t", columns="u", values=values)
    drawn = partial(_draw, study.models[name], grid, label, marks or {}, blocks, looks)
    return Panel(drawn, names.titles(study)[name], height=height)


def _draw(
    model: Model, grid: pd.DataFrame, label: str, marks: dict, blocks: Sequence, looks: dict,
    ax: Axes,
) -> None:  # fmt: skip
    steps = list(grid.columns)

    def place(iterations: Iterable[float]) -> np.ndarray:
        return np.interp(list(iterations), steps, np.arange(len(steps))) + 0.5

    sns.heatmap(grid, cmap=style.SEQUENTIAL, square=True, ax=ax, rasterized=True,
                cbar_ax=ax.inset_axes((1.03, *style.BAR_BESIDE)), cbar_kws={"label": label},
                **looks)  # fmt: skip
    ticks = MaxNLocator(4, steps=[1, 2, 5, 10], integer=True).tick_values(0, len(steps) - 1)
    ticks = ticks[ticks < len(steps)].astype(int)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks + 0.5, [f"{steps[at]:,}" for at in ticks], rotation=0)
    ax.invert_yaxis()
    ax.set_anchor("W")
    for drop in model.training.lr_drops:
        if steps[0] < drop < steps[-1]:
            for line in (ax.axvline, ax.axhline):
                line(place([drop])[0], **(style.DROP | {"color": "white"}))
    style.mark_transitions(ax, marks, place)
    ax.set(xlabel="iteration $u$", ylabel="iteration $t$")
    for start, stop, *_ in blocks:
        for x, y in ((place([start, stop]), [0, 0]), ([0, 0], place([start, stop]))):
            ax.plot(x, y, color=style.GREY, linewidth=5, clip_on=False, solid_capstyle="butt",
                    marker="s", markersize=5)  # fmt: skip
