"""Figure s4: what the kernel distance does not see, and the curvature of the loss."""

from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.lines import Lines, row
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study

CONTENT = (
    Lines("trace", "trace / examples", log=True),
    Lines("norm", "Frobenius norm", log=True),
    Lines("effective_rank", "effective rank", log=True),
    Lines("alignment", "label alignment", log=True),
)
CURVATURE = {
    "sharpness": "largest eigenvalue",
    "batch_sharpness": "batch sharpness",
    "threshold": "2 / lr",
    "momentum_threshold": "… with momentum",
}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """Two rows per model: trace, norm, effective rank; alignment, and curvature."""
    content = style.runs(tables, "kernel_content")
    bends = style.models(study, "curvature")
    curvature = style.runs(tables, "curvature") if bends else content[:0]
    curvature = curvature[curvature["measure"].isin(CURVATURE)].dropna(subset="value")
    curvature = curvature.assign(line=curvature["measure"].map(CURVATURE))
    marks, rows = style.transitions(study, tables), []
    for name in style.models(study, "kernel"):
        rows.append(row(study, name, content, CONTENT, marks))
        if name in bends:
            drawn = partial(_curvature, study, name, curvature, marks[name])
            rows[-1].append(Panel(drawn, names.titles(study)[name], "bends"))
    return Page(
        rows,
        names.caption(
            study,
            "What the kernel distance does not see, of the tangent kernels along the base runs: "
            "trace, norm, effective rank (exp of the entropy of its eigenvalues' shares) and label "
            "alignment (its cosine with the labels' kernel).",
            "Curvature of the training loss: its largest Hessian eigenvalue and batch sharpness, "
            "beside the thresholds beyond which SGD's steps grow; below zero it bends down."
            if bends
            else "",
            style.lost(content),
            marks=marks,
            forks=False,
        ),
    )


def _curvature(study: Study, name: str, curvature: pd.DataFrame, marks: dict, ax: Axes) -> None:
    own = style.where(curvature, model=name)
    style.scale(ax, curvature["value"])
    measured, thresholds = list(CURVATURE.values())[:2], list(CURVATURE.values())[2:]
    palette = dict(zip(measured, sns.color_palette(), strict=False))
    known = own["measure"].str.contains("threshold")
    style.curves(ax, own[~known], "t", "line", palette)
    # The same in all runs; it jumps where the learning rate falls.
    steps = own[known & (own["run"] == own["run"].min())]
    if len(steps):
        sns.lineplot(steps, x="t", y="value", hue="line", linestyle=":",
                     palette=dict(zip(thresholds, ("0.6", "0.3"), strict=True)),
                     drawstyle="steps-post", estimator=None, ax=ax)  # fmt: skip
    ax.set_ylabel("curvature")
    style.legend(ax)
    style.over_iterations(ax, "iteration $t$", study.models[name], marks)
