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
    titles, seeds = names.titles(study), len(study.seeds)
    shown = {"mean": "kernel distance $S$" + ", mean" * (seeds > 1)}
    shown |= {"range": "range over seeds"} if seeds > 1 else {}
    rows = [
        [
            Panel(partial(_pairs, study, name, distances, value, label), titles[name], height=2.6)
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
            names.rates(study).replace("Dotted", "Dotted white"),
            "Grey bars beside the axes: about where the paper's blocks meet."
            if paper.said(study, "blocks")
            else "",
        ),
    )


def _pairs(
    study: Study, name: str, distances: pd.DataFrame, value: str, label: str, ax: Axes
) -> None:
    own = distances[distances["model"] == name].pivot(index="t", columns="u", values=value)
    style.heat(ax, own, label, vmin=0, vmax=distances[value].max())
    style.drops_on_map(ax, study.models[name], list(own.columns))
    for start, stop, *_ in paper.marks(study, study.models[name], "blocks"):
        ends = style.places([start, stop], list(own.columns))
        for x, y in ((ends, [0, 0]), ([0, 0], ends)):
            ax.plot(x, y, color=style.GREY, linewidth=5, clip_on=False, solid_capstyle="butt",
                    marker="s", markersize=5)  # fmt: skip
    ax.set(xlabel="iteration $u$", ylabel="iteration $t$")
