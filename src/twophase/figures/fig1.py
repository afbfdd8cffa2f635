"""Figure 1: both effects at a glance, for each model."""

from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.lines import AGAINST, panel
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study

FORKS = AGAINST("test_barrier", "test loss barrier (nats)", hue="from",
                legend="perturbed at iteration", threshold=True)  # fmt: skip


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """Left: an early and a late fork part from the base run. Right: the kernel's cone."""
    chaos = style.of_main(study, style.runs(tables, "chaos"))
    chaos = style.where(chaos, measure="test_barrier")
    marks, rows = style.transitions(study, tables), []
    for name, model in style.models(study, "chaos", "kernel").items():
        ends = dict.fromkeys((model.chaos.forks[0], model.chaos.forks[-1]))
        own = chaos[chaos["t0"].isin(ends)].sort_values(["t0", "t1"])
        own = own.assign(**{"from": own["t0"].map("{:,}".format)})
        cone = style.wide(tables, "kernel_projection", f"{name}/seed{study.seeds[0]}")
        title = f"{names.titles(study)[name]}: the cone"
        rows.append(
            [
                panel(study, name, own, FORKS, marks, then=partial(_starts, ends)),
                Panel(partial(_cone, cone), title, width=0.7),
            ]
        )
    return Page(
        rows,
        names.caption(
            study,
            "Left: loss barrier between base run and forks, the most by which the test loss on the "
            "straight path between the two exceeds the line between its ends, for the earliest and "
            "the latest fork. A fork is a copy of the base run that got, at the iteration of its "
            f"triangle, {names.perturbed(study)}, and then {names.then(study)}. Above the dashed "
            "line the two lie in different valleys of the loss.",
            f"Right: tangent kernels H of seed {study.seeds[0]}, scaled to norm 1, on their two "
            "leading uncentred principal directions; the cross is 0, the apex; %: share of squared "
            "length.",
            paper.said(study, "test_barrier") + style.lost(chaos),
            marks=marks,
            forks=True,
        ),
    )


def _starts(ends: dict[int, None], ax: Axes) -> None:
    for t0, color in zip(ends, sns.color_palette(), strict=False):
        ax.plot(t0, 0, "^", color=color, markersize=6, clip_on=False, zorder=5)


def _cone(cone: pd.DataFrame, ax: Axes) -> None:
    for x, y in zip(cone["x"], cone["y"], strict=True):
        ax.plot([0, x], [0, y], color="0.85", linewidth=0.6, zorder=0)
    ax.plot(cone["x"], cone["y"], color="0.5", linewidth=0.8, zorder=1)
    sns.scatterplot(cone, x="x", y="y", hue="t", palette=style.SEQUENTIAL, s=18, linewidth=0,
                    ax=ax, legend=False)  # fmt: skip
    ax.plot(0, 0, "k+", markersize=7, markeredgewidth=1)
    ax.set(
        xlabel=f"1st direction of $H/|H|$ ({cone['x_share'][0]:.0%})",
        ylabel=f"2nd ({cone['y_share'][0]:.0%})",
    )
    ax.set_aspect("equal", adjustable="datalim")
    style.colorbar(ax, cone["t"], "iteration $t$")
