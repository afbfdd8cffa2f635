"""Figure s4: what the kernel distance does not see, and the curvature of the loss."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.lines import Lines, row
from twophase.figures.panels import Page
from twophase.study.model import Study

CONTENT = (
    Lines("trace", "trace / examples", log=True),
    Lines("norm", "Frobenius norm", log=True),
    Lines("effective_rank", "effective rank", log=True),
    Lines("alignment", "label alignment", log=True),
)
CURVATURE = Lines("curvature", "curvature", log=True, each={
    "sharpness": "largest eigenvalue", "batch_sharpness": "batch sharpness"})  # fmt: skip
THRESHOLDS = {"threshold": ("2 / lr", "0.6"), "momentum_threshold": ("… with momentum", "0.3")}


def draw(study: Study, tables: style.Tables) -> Page:
    """Two rows per model: trace, norm, effective rank; alignment, and curvature."""
    content = style.runs(tables, "kernel_content")
    bends = style.models(study, "curvature")
    curvature = style.runs(tables, "curvature").dropna(subset="value") if bends else None
    marks, rows = style.transitions(study, tables), []
    for name in style.models(study, "kernel"):
        rows.append(row(study, name, content, CONTENT, marks))
        if name in bends:
            then = partial(_thresholds, style.where(curvature, model=name))
            rows[-1] += row(study, name, curvature, [CURVATURE._replace(then=then)], marks)
    return names.page(
        study,
        rows,
        "What the kernel distance does not see, of the tangent kernels along the base runs: "
        "trace, norm, effective rank (exp of the entropy of its eigenvalues' shares) and label "
        "alignment (its cosine with the labels' kernel).",
        "Curvature of the training loss: its largest Hessian eigenvalue and batch sharpness, "
        "beside the thresholds beyond which SGD's steps grow; below zero it bends down."
        if bends
        else "",
        marks=marks,
        forks=False,
    )


def _thresholds(curvature: pd.DataFrame, ax: Axes) -> None:
    """They are the same in all runs, and jump where the learning rate falls."""
    first = style.where(curvature, run=curvature["run"].min())
    for measure, (label, color) in THRESHOLDS.items():
        steps = style.where(first, measure=measure)
        if len(steps):
            ax.step(steps["t"], steps["value"], color=color, linestyle=":", label=label,
                    where="post")  # fmt: skip
