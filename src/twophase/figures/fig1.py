"""Figure 1: both effects at a glance, for each model."""

from functools import partial

import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import cone, names, style
from twophase.figures.lines import AGAINST, against, row
from twophase.figures.panels import Page
from twophase.study.model import Study

FORKS = AGAINST("test_barrier", "test loss barrier (nats)", hue="ends",
                legend="perturbed at iteration", threshold=True)  # fmt: skip


def draw(study: Study, tables: style.Tables) -> Page:
    """Left: an early and a late fork part from the base run. Right: the kernel's cone."""
    chaos = style.of_main(study, style.runs(tables, "chaos"))
    chaos = style.where(chaos, measure="test_barrier")
    marks, rows = style.transitions(study, tables), []
    for name, model in style.models(study, "chaos", "kernel").items():
        (lines,), own = against(model, [FORKS]), chaos
        then = partial(Axes.set_xlim, left=0, right=model.training.iterations)
        if lines.hue == "ends":
            ends = dict.fromkeys((model.chaos.forks[0], model.chaos.forks[-1]))
            own = chaos[chaos["t0"].isin(ends)].sort_values(["t0", "t1"])
            own, then = own.assign(ends=own["t0"].map("{:,}".format)), partial(_starts, ends)
        barriers = row(study, name, own, [lines._replace(then=then)], marks)
        rows.append([*barriers, cone.panel(study, tables, name, "xy")])
    return names.page(
        study,
        rows,
        "Left: loss barrier between base run and forks, the most by which the test loss on the "
        "straight path between the two exceeds the line between its ends: of the earliest and the "
        "latest, which begin at the triangles; where forks are compared but once, of all. A fork "
        f"is a copy of the base run that got, at iteration t0, {names.perturbed(study)}, and then "
        f"{names.then(study)}. Above the dashed line the two lie in different valleys of the loss.",
        marks=marks,
        forks=True,
    )


def _starts(ends: dict[int, None], ax: Axes) -> None:
    for t0, color in zip(ends, sns.color_palette(), strict=False):
        ax.plot(t0, 0, "^", color=color, markersize=6, clip_on=False, zorder=5)
