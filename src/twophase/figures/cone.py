"""The cone that tangent kernels lie in, in two or three dimensions: a panel of figures 1 and 5."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from twophase.figures import names, style
from twophase.figures.panels import Panel
from twophase.study.model import Study


def panel(study: Study, tables: style.Tables, name: str, axes: str) -> Panel:
    """The kernels of a model's first seed on the leading directions, which are the `axes`."""
    cone = style.wide(tables, "kernel_projection", f"{name}/seed{study.seeds[0]}")
    drawn, title = partial(_draw, cone, axes), names.titles(study)[name]
    solid = len(axes) == 3
    said = (
        f"Right: tangent kernels H of seed {study.seeds[0]}, scaled to norm 1, on their "
        f"{'three' if solid else 'two'} leading uncentred principal directions; the cross is 0, "
        "the apex; %: share of squared length."
    )
    shape = {"projection": "3d", "height": 2.0, "width": 1.1} if solid else {"width": 0.7}
    return Panel(drawn, title, also=said, **shape)


def _draw(cone: pd.DataFrame, axes: str, ax: Axes) -> None:
    for _, kernel in cone.iterrows():
        ax.plot(*([0, kernel[axis]] for axis in axes), color="0.8", linewidth=0.5, zorder=0)
    places = [cone[axis] for axis in axes]
    solid = {"depthshade": False} if len(axes) == 3 else {}
    ax.plot(*places, color="0.5", linewidth=0.8, zorder=1)
    dots = ax.scatter(*places, c=cone["t"], cmap=style.SEQUENTIAL, s=14, zorder=2, **solid)
    ax.plot(*([0] for _ in axes), "k+", markersize=7, markeredgewidth=1)
    shares = [cone[f"{axis}_share"][0] for axis in axes]
    if len(axes) == 3:
        _box(ax, sum(shares))
    else:
        ax.set(
            xlabel=f"1st direction of $H/|H|$ ({shares[0]:.0%})", ylabel=f"2nd ({shares[1]:.0%})"
        )
        ax.set_aspect("equal", adjustable="datalim")
    beside = ax.inset_axes((1.22 if len(axes) == 3 else 1.03, *style.BAR_BESIDE))
    bar = ax.figure.colorbar(dots, cax=beside, label="iteration $t$", ticks=MaxNLocator(4),
                             format="{x:,.0f}")  # fmt: skip
    bar.outline.set_visible(False)


def _box(box: Axes, share: float) -> None:
    """What axes in three dimensions have."""
    for axis in (box.xaxis, box.yaxis, box.zaxis):
        axis.set_pane_color("white")
        axis._axinfo["grid"] |= {"color": "0.92", "linewidth": 0.5}
    box.set_box_aspect(None, zoom=1.3)
    box.tick_params(labelsize=style.SIZE - 2.5, pad=-4)
    box.locator_params(nbins=4)  # else labels of two axes meet at a corner
    box.text2D(0.5, 1, f"$H/|H|$, {share:.0%} of squared length", transform=box.transAxes,
               ha="center", va="top", fontsize=style.SIZE - 1)  # fmt: skip
