"""Figure s3: the cone in numbers."""

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.lines import Lines, row
from twophase.figures.panels import Page
from twophase.study.model import Study

RADII = {
    "radius": "kernels from $t$ on",
    "null_radius": "random walk",
    "angle": "other seeds at $t$",
}


def _borders(ax: Axes) -> None:
    for height in (0, 1):
        ax.axhline(height, color="0.5", linestyle=":", linewidth=0.8)


SHOWN = (
    Lines("radius", "cone's radius (degrees)", each=RADII, floor=True),
    Lines("exponent", "exponent of $S$ in $dt$", then=_borders),
    Lines("velocity", "velocity (1/iteration)", log=True),
)


def draw(study: Study, tables: style.Tables) -> Page:
    """One row per model: the cone's radius beside its nulls, the exponent, the velocity."""
    cone = style.runs(tables, "cone")
    others = bool(style.models(study, "across_seeds"))
    if others:
        cone = pd.concat([cone, style.runs(tables, "across_seeds")], ignore_index=True)
    marks = style.transitions(study, tables)
    rows = [row(study, name, cone, SHOWN, marks) for name in style.models(study, "kernel")]
    # The last kernels have no exponent and no velocity: nothing is lost.
    rows = [[panel._replace(values=()) for panel in panels] for panels in rows]
    return names.page(
        study,
        rows,
        "The cone in numbers. Left: largest angle between a kernel from t on and the mean "
        "direction of all of them (0 where one is left), beside that of a random walk with the "
        "same angles between neighbours and no preferred direction.",
        "Other seeds: angle of one seed's kernel with the mean direction of the others'."
        if others
        else "",
        "Middle: exponent of the kernel distance S(t, t + dt) in dt; 0 is confined, a free "
        "walk has 0.36 to 0.99 by its steps. Right: kernel velocity, S to the next kernel over "
        "the iterations between them.",
        marks=marks,
        forks=False,
    )
