"""Figure s3: the cone in numbers."""

from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study

RADII = {
    "radius": "kernels from $t$ on",
    "null_radius": "random walk",
    "angle": "other seeds at $t$",
}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model: the cone's radius beside its nulls, the exponent, the velocity."""
    cone = style.runs(tables, "cone")
    others = bool(style.models(study, "across_seeds"))
    if others:
        cone = pd.concat([cone, style.runs(tables, "across_seeds")], ignore_index=True)
    cone = cone.assign(line=cone["measure"].map(RADII))
    titles = names.titles(study)
    rows = [
        [
            Panel(partial(_radius, study, name, cone), titles[name], share="radius"),
            Panel(partial(_measure, study, name, cone, "exponent"), titles[name], share="exponent"),
            Panel(partial(_measure, study, name, cone, "velocity"), titles[name], share="velocity"),
        ]
        for name in style.models(study, "kernel")
    ]
    return Page(
        rows,
        names.caption(
            study,
            "The cone in numbers. Left: largest angle between a kernel from t on and the mean "
            "direction of all of them (0 where one is left), beside that of a random walk with the "
            "same angles between neighbours and no preferred direction.",
            "Other seeds: angle of one seed's kernel with the mean direction of the others'."
            if others
            else "",
            "Middle: exponent of the kernel distance S(t, t + dt) in dt; 0 is confined, a free "
            "walk has 0.36 to 0.99 by its steps. Right: kernel velocity, S to the next kernel over "
            "the iterations between them.",
            names.every(study),
            names.rates(study),
        ),
    )


def _radius(study: Study, name: str, cone: pd.DataFrame, ax: Axes) -> None:
    own = style.where(cone, model=name)
    own = own[own["line"].notna()]
    palette = dict(zip(RADII.values(), sns.color_palette(), strict=False))
    style.curves(ax, own, "t", "line", palette)
    ax.set(ylabel="radius of the cone (degrees)", ylim=(0, None))
    style.legend(ax, columns=2)
    style.over_kernels(ax, study.models[name])


def _measure(study: Study, name: str, cone: pd.DataFrame, measure: str, ax: Axes) -> None:
    pooled = style.where(cone, measure=measure)
    if measure == "velocity":
        style.scale(ax, pooled["value"])
    style.curves(ax, style.where(pooled, model=name), "t")
    labels = {"exponent": "exponent of $S(t, t + dt)$ in $dt$",
              "velocity": "kernel velocity (1/iteration)"}  # fmt: skip
    ax.set_ylabel(labels[measure])
    if measure == "exponent":
        for height in (0, 1):
            ax.axhline(height, color="0.5", linestyle=":", linewidth=0.8)
    style.over_kernels(ax, study.models[name])
