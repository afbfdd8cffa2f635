"""Figure s4: what the kernel distance does not see, and the curvature of the loss."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study

CONTENT = {
    "trace": "trace / examples",
    "norm": "Frobenius norm",
    "effective_rank": "effective rank",
    "alignment": "label alignment",
}
CURVATURE = {
    "sharpness": ("largest eigenvalue", "C0", "-"),
    "batch_sharpness": ("batch sharpness", "C2", "-"),
    "threshold": ("2 / lr", "C1", "--"),
    "momentum_threshold": ("threshold with momentum", "C3", ":"),
}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """Two rows per model: trace, norm, effective rank; alignment, and curvature with its legend."""
    content = style.points(tables, "kernel_content")
    models = style.models(study, "kernel")
    figure, axes = style.grid(2 * len(models), 3, 1.6)
    for index, (name, model) in enumerate(models.items()):
        row = [*axes[2 * index], *axes[2 * index + 1]]
        for ax, (measure, label) in zip(row, CONTENT.items(), strict=False):
            style.line(ax, content.where(model=name, measure=measure), "t", color="C0")
            ax.set(xlabel="iteration $t$", ylabel=label)
            style.kernel_times(ax, model)
            style.logarithmic(ax)
        row[0].set_title(name)
        row[5].axis("off")
        if model.curvature:
            _curvature(row[4], style.points(tables, "curvature").where(model=name))
            row[5].legend(*row[4].get_legend_handles_labels(), loc="center left")
        else:
            row[4].axis("off")
    style.note(
        figure,
        study,
        "Tangent kernel: trace, norm, effective rank (exp of the entropy of its eigenvalues' "
        "shares) and label alignment (its cosine with the labels' kernel). Curvature: largest "
        "eigenvalue of the loss's Hessian, beside the thresholds beyond which SGD's steps grow.\n"
        f"{style.runs_note(study).capitalize()}.",
    )
    return figure


def _curvature(ax: Axes, curvature: style.Points) -> None:
    for measure, (label, color, dashes) in CURVATURE.items():
        points = curvature.where(measure=measure)
        looks = {"color": color, "linestyle": dashes, "label": label}
        if points.means["mean"].isna().all():  # an optimizer without a known threshold
            continue
        if "threshold" in measure:  # the same in all runs; it jumps where the learning rate falls
            means = points.means.sort_values("t")
            ax.plot(means["t"], means["mean"], drawstyle="steps-post", **looks)
        else:
            style.line(ax, points, "t", **looks)
    ax.set(xlabel="iteration $t$", ylabel="curvature")
    style.logarithmic(ax)
