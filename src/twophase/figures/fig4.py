"""Figure 4: kernel distance between all pairs of checkpoints."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """A row for each model: the mean over seeds, and how far these lie apart, if there are
    several.
    """
    distances = style.summary(tables, "kernel_distance")
    distances = distances.assign(range=distances["high"] - distances["low"])
    titles, seeds, marks = names.titles(study), len(study.seeds), style.transitions(study, tables)
    shown = {"mean": "kernel distance $S$" + ", mean" * (seeds > 1)}
    shown |= {"range": "range over seeds"} if seeds > 1 else {}
    rows = [
        [
            Panel(
                partial(_pairs, study, name, distances, value, label, marks[name]),
                titles[name],
                height=2.4,
            )  # fmt: skip
            for value, label in shown.items()
        ]
        for name in style.models(study, "kernel")
    ]
    several = "mean over seeds, and their range (largest − smallest)"
    return Page(
        rows,
        names.caption(
            study,
            "Kernel distance S, one minus the cosine, between the tangent kernels at all pairs of "
            f"iterations of a run: {several if seeds > 1 else f'seed {study.seeds[0]}'}. A dark "
            "block on the diagonal is a time in which the kernel keeps its direction.",
            f"Seeds {', '.join(map(str, study.seeds))}." if seeds > 1 else "",
            "A row and a column for each kernel, which are not evenly spaced in time."
            if any(model.kernel.times for model in style.models(study, "kernel").values())
            else "",
            "Grey bars beside the axes: about where the paper's blocks meet."
            if paper.said(study, "blocks")
            else "",
            marks=marks,
            drops="Dotted white",
        ),
    )


def _pairs(
    study: Study, name: str, distances: pd.DataFrame, value: str, label: str, marks: dict, ax: Axes
) -> None:
    model, top = study.models[name], distances[value].max()
    own = distances[distances["model"] == name].pivot(index="t", columns="u", values=value)
    place = style.pairs(ax, model, own, label, marks, vmin=0, vmax=top)
    for start, stop, *_ in paper.marks(study, model, "blocks"):
        for x, y in ((place([start, stop]), [0, 0]), ([0, 0], place([start, stop]))):
            ax.plot(x, y, color=style.GREY, linewidth=5, clip_on=False, solid_capstyle="butt",
                    marker="s", markersize=5)  # fmt: skip
