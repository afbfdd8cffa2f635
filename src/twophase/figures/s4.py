"""Figure s4: what the kernel distance does not see, and the curvature of the loss."""

from matplotlib.axes import Axes
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
CURVATURE = {
    "sharpness": ("largest eigenvalue", "C0", "-"),
    "batch_sharpness": ("batch sharpness", "C2", "-"),
    "threshold": ("2 / lr", "C1", "--"),
    "momentum_threshold": ("2 (1 + momentum) / lr", "C3", ":"),
}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: trace, norm, effective rank, alignment, curvature along the base runs."""
    content = style.summary(tables, "kernel_content")
    models = style.models(study, "kernel")
    sharp = "curvature_summary" in tables
    figure, axes = style.grid(len(models), 4 + sharp, 1.9)
    for row, (name, model) in zip(axes, models.items(), strict=True):
        for ax, (measure, label) in zip(row, CONTENT.items(), strict=False):
            points = content[(content["model"] == name) & (content["measure"] == measure)]
            style.line(ax, points, "t", color="C0")
            ax.set(xlabel="iteration $t$", ylabel=label)
            style.logarithmic(ax)
        row[0].set_title(name)
        if sharp:
            row[4].set_visible(bool(model.curvature))
        if model.curvature:
            _curvature(row[4], style.summary(tables, "curvature").query("model == @name"))
    style.note(figure, study, f"{style.runs_note(study).capitalize()}.")
    return figure


def _curvature(ax: Axes, curvature) -> None:  # noqa: ANN001
    for measure, (label, color, dashes) in CURVATURE.items():
        points = curvature[curvature["measure"] == measure].dropna(subset="mean")
        style.line(ax, points, "t", color=color, linestyle=dashes, label=label)
    ax.set(xlabel="iteration $t$", ylabel="curvature of the loss")
    style.logarithmic(ax)
    ax.legend(fontsize="xx-small", loc="lower right")
