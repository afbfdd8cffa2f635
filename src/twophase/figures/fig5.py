"""Figure 5: the cone effect."""

from twophase.figures import cone, names, style
from twophase.figures.lines import Lines, row
from twophase.figures.panels import Page
from twophase.study.model import Study

REFERENCES = Lines("reference", r"$S(\theta_t, \theta_\tau)$", hue="u", share="S", floor=True,
                   legend=r"from the kernel at $\tau$")  # fmt: skip
NEIGHBOURS = Lines("neighbours", r"$S(\theta_t, \theta_{t+dt})$", hue="dt", share="S", floor=True,
                   legend="over an interval $dt$")  # fmt: skip


def draw(study: Study, tables: style.Tables) -> Page:
    """One row per model: distances from references, between neighbours, and the kernels in 3-D."""
    distances = style.runs(tables, "kernel_distance")
    distances["dt"] = distances["u"] - distances["t"]
    marks, rows = style.transitions(study, tables), []
    for name, model in style.models(study, "kernel").items():
        rows.append([])
        asked = (REFERENCES, model.kernel.references), (NEIGHBOURS, model.kernel.intervals)
        for lines, shown in asked:
            found = distances[distances[lines.hue].isin(shown)].assign(measure=lines.measure)
            rows[-1] += row(study, name, found, [lines], marks)
        rows[-1].append(cone.panel(study, tables, name, "xyz"))
    return names.page(
        study,
        rows,
        "The cone effect. Left: kernel distance S, one minus the cosine of two tangent "
        "kernels, from some references τ. Middle: between kernels dt iterations apart.",
        marks=marks,
        forks=False,
    )
