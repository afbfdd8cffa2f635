"""Figure 5: the cone effect."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.panels import Page, Panel
from twophase.store.artifacts import read_table
from twophase.store.paths import Result
from twophase.study.model import Study


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model: distances from references, between neighbours, and the kernels in 3-D."""
    distances = style.runs(tables, "kernel_distance")
    distances["dt"] = distances["u"] - distances["t"]
    titles, rows = names.titles(study), []
    for name in style.models(study, "kernel"):
        cone = read_table(tables[f"{name}/seed{study.seeds[0]}/kernel_projection"])
        rows.append(
            [
                Panel(partial(_references, study, name, distances), titles[name], "S", height=2.3),
                Panel(partial(_neighbours, study, name, distances), titles[name], "S", height=2.3),
                Panel(partial(_cone, cone), titles[name], projection="3d", height=2.3),
            ]
        )
    return Page(
        rows,
        names.caption(
            study,
            "The cone effect. Left: kernel distance S, one minus the cosine of two tangent "
            "kernels, from some references τ. Middle: between kernels dt iterations apart. Right: "
            f"kernels H of seed {study.seeds[0]}, scaled to norm 1, on their three leading "
            "uncentred principal directions; rays start at the origin, the cross; %: share of "
            "squared length.",
            names.every(study),
            names.rates(study),
            paper.said(study, "reference").replace("of forks, those from its first t0", "on the "
            "left from the kernel at 0"),
        ),
    )  # fmt: skip


def _references(study: Study, name: str, distances: pd.DataFrame, ax: Axes) -> None:
    model = study.models[name]
    own = distances[(distances["model"] == name) & distances["u"].isin(model.kernel.references)]
    style.curves(ax, own, "t", "u", style.shades(own["u"]))
    ax.set(ylabel=r"$S(\theta_t, \theta_\tau)$", ylim=(min(0, own["value"].min()), None))
    paper.mark(ax, study, model, "reference")
    style.legend(ax, r"from the kernel at $\tau$")
    style.over_kernels(ax, model)


def _neighbours(study: Study, name: str, distances: pd.DataFrame, ax: Axes) -> None:
    model = study.models[name]
    own = distances[(distances["model"] == name) & distances["dt"].isin(model.kernel.intervals)]
    style.curves(ax, own, "t", "dt", style.shades(own["dt"]))
    ax.set(ylabel=r"$S(\theta_t, \theta_{t+dt})$", ylim=(min(0, own["value"].min()), None))
    paper.mark(ax, study, model, "neighbours")
    style.legend(ax, "over an interval $dt$")
    style.over_kernels(ax, model)


def _cone(cone: pd.DataFrame, box: Axes) -> None:
    for _, kernel in cone.iterrows():
        box.plot(*([0, kernel[axis]] for axis in "xyz"), color="0.7", linewidth=0.4)
    box.plot(cone["x"], cone["y"], cone["z"], color="0.4", linewidth=0.8)
    box.scatter(cone["x"], cone["y"], cone["z"], c=cone["t"], cmap=style.SEQUENTIAL, s=9,
                depthshade=False)  # fmt: skip
    for axis in (box.xaxis, box.yaxis, box.zaxis):
        axis.set_pane_color("white")
        axis._axinfo["grid"] |= {"color": "0.92", "linewidth": 0.5}
    box.plot(0, 0, 0, "k+", markersize=6, markeredgewidth=1)
    box.tick_params(labelsize=style.SIZE - 2.5, pad=-4)
    box.locator_params(nbins=4)  # else labels of two axes meet at a corner
    share = sum(cone[f"{axis}_share"][0] for axis in "xyz")
    box.text2D(0.5, 0.98, f"$H/|H|$, {share:.0%} of squared length", transform=box.transAxes,
               ha="center", va="top", fontsize=style.SIZE - 1)  # fmt: skip
    style.colorbar(box, cone["t"], "iteration $t$")
