"""Figure 5: the cone effect."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.lines import Lines, panel
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study

REFERENCES = Lines("reference", r"$S(\theta_t, \theta_\tau)$", hue="u", share="S", floor=True,
                   legend=r"from the kernel at $\tau$")  # fmt: skip
NEIGHBOURS = Lines("neighbours", r"$S(\theta_t, \theta_{t+dt})$", hue="dt", share="S", floor=True,
                   legend="over an interval $dt$")  # fmt: skip


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model: distances from references, between neighbours, and the kernels in 3-D."""
    distances = style.runs(tables, "kernel_distance")
    distances["dt"] = distances["u"] - distances["t"]
    marks, rows = style.transitions(study, tables), []
    for name, model in style.models(study, "kernel").items():
        asked = {"u": model.kernel.references, "dt": model.kernel.intervals}
        cone = style.wide(tables, "kernel_projection", f"{name}/seed{study.seeds[0]}")
        rows.append(
            [
                panel(study, name, distances[distances[lines.hue].isin(asked[lines.hue])].assign(
                    measure=lines.measure), lines, marks)
                for lines in (REFERENCES, NEIGHBOURS)
            ]
            + [Panel(partial(_cone, cone), names.titles(study)[name], projection="3d")]
        )  # fmt: skip
    return Page(
        rows,
        names.caption(
            study,
            "The cone effect. Left: kernel distance S, one minus the cosine of two tangent "
            "kernels, from some references τ. Middle: between kernels dt iterations apart. Right: "
            f"kernels H of seed {study.seeds[0]}, scaled to norm 1, on their three leading "
            "uncentred principal directions; rays start at the origin, the cross; %: share of "
            "squared length.",
            paper.said(study, "reference").replace("of forks, those from its first t0", "on the "
            "left from the kernel at 0"),
            marks=marks, forks=False,
        ),
    )  # fmt: skip


def _cone(cone: pd.DataFrame, box: Axes) -> None:
    for _, kernel in cone.iterrows():
        box.plot(*([0, kernel[axis]] for axis in "xyz"), color="0.7", linewidth=0.4)
    box.plot(cone["x"], cone["y"], cone["z"], color="0.4", linewidth=0.8)
    box.scatter(cone["x"], cone["y"], cone["z"], c=cone["t"], cmap=style.SEQUENTIAL, s=9,
                depthshade=False)  # fmt: skip
    for axis in (box.xaxis, box.yaxis, box.zaxis):
        axis.set_pane_color("white")
        axis._axinfo["grid"] |= {"color": "0.92", "linewidth": 0.5}
    box.set_box_aspect(None, zoom=1.2)
    box.plot(0, 0, 0, "k+", markersize=6, markeredgewidth=1)
    box.tick_params(labelsize=style.SIZE - 2.5, pad=-4)
    box.locator_params(nbins=4)  # else labels of two axes meet at a corner
    share = sum(cone[f"{axis}_share"][0] for axis in "xyz")
    box.text2D(0.5, 0.98, f"$H/|H|$, {share:.0%} of squared length", transform=box.transAxes,
               ha="center", va="top", fontsize=style.SIZE - 1)  # fmt: skip
    style.colorbar(box, cone["t"], "iteration $t$")
