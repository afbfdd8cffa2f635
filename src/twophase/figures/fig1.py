"""Figure 1: both effects at a glance, for each model."""

from functools import partial

import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.panels import Page, Panel
from twophase.store.artifacts import read_table
from twophase.store.paths import Result
from twophase.study.model import Study


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """Left: an early and a late fork part from the base run. Right: the kernel's cone."""
    chaos = style.of_main(study, style.runs(tables, "chaos"))
    chaos = style.where(chaos, measure="test_barrier")
    titles, rows = names.titles(study), []
    for name in style.models(study, "chaos", "kernel"):
        cone = read_table(tables[f"{name}/seed{study.seeds[0]}/kernel_projection"])
        rows.append(
            [
                Panel(partial(_forks, study, name, chaos), titles[name], share="barrier"),
                Panel(partial(_cone, cone), f"{titles[name]}: the kernel's cone", width=0.7),
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
            names.every(study, forks=True),
            names.rates(study),
            paper.said(study, "test_barrier") + style.lost(chaos),
        ),
    )


def _forks(study: Study, name: str, chaos, ax: Axes) -> None:  # noqa: ANN001
    model = study.models[name]
    ends = dict.fromkeys((model.chaos.forks[0], model.chaos.forks[-1]))
    shown = style.where(chaos, model=name)
    shown = shown[shown["t0"].isin(ends)]
    palette = dict(zip(ends, sns.color_palette(n_colors=2), strict=False))
    style.curves(ax, shown, "t1", "t0", palette, markers=True)
    style.barriers(ax, shown, model.chaos.barrier_threshold)
    ax.set_xlim(0, None)
    for t0, color in palette.items():
        ax.plot(t0, 0, "^", color=color, markersize=6, clip_on=False, zorder=5)
    paper.mark(ax, study, model, "test_barrier")
    style.legend(ax, "perturbed at iteration")
    style.over_iterations(ax, "compared at iteration $t_1$", model)


def _cone(cone, ax: Axes) -> None:  # noqa: ANN001
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
