"""Figure s4: what the kernel holds, of which its direction says nothing."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study import Study

CONTENT = {
    "trace": "trace over examples",
    "norm": "Frobenius norm",
    "effective_rank": "effective rank",
    "alignment": "alignment with the labels",
}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: trace, norm, effective rank and alignment along the base runs."""
    content = style.summary(tables, "kernel_content")
    models = style.models(study, "kernel")
    figure, axes = style.grid(len(models), 4, 1.9)
    for row, name in zip(axes, models, strict=True):
        for ax, (measure, label) in zip(row, CONTENT.items(), strict=True):
            points = content[(content["model"] == name) & (content["measure"] == measure)]
            style.line(ax, points, "t", color="C0")
            ax.set(xlabel="iteration $t$", ylabel=label)
            style.logarithmic(ax)
        row[0].set_title(name)
    style.note(figure, study, f"{style.runs_note(study).capitalize()}.")
    return figure
