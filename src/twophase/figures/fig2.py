"""Figure 2: our protocol, beside the training curves. It is not the paper's figure 2."""

from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.lines import Lines, row
from twophase.figures.panels import Page, Panel
from twophase.study.model import Study

CURVES = tuple(
    Lines(measure, f"{measure} ({unit})", over="iteration", log=measure == "loss",
          each={f"{split}_{measure}": split for split in ("train", "test")})
    for measure, unit in (("loss", "nats"), ("accuracy", "share"))
)  # fmt: skip


def draw(study: Study, tables: style.Tables) -> Page:
    """Loss and accuracy of the base runs; beside them the iterations that each stage uses."""
    training = style.runs(tables, "training")
    scores = " and accuracy" * ("test_accuracy" in set(training["measure"]))
    rows = [
        [
            *row(study, name, training, CURVES),
            Panel(partial(_protocol, study, name), names.titles(study)[name]),
        ]
        for name in study.models
    ]
    return names.page(
        study,
        rows,
        "The protocol of this replication; the paper's figure 2 is not known to us. Loss "
        f"({names.words(study).loss}){scores} of the base runs, and the iterations at which runs "
        "are forked, compared, their kernels computed and their linearised training started.",
        marks={},
        forks=False,
    )


def _protocol(study: Study, name: str, ax: Axes) -> None:
    model, points = study.models[name], {}
    if model.chaos:
        points |= {"forks $t_0$": model.chaos.forks, "compared $t_1$": model.chaos.compared()}
    if model.kernel:
        points["kernels $t$"] = model.kernel.steps()
    if model.linearized:
        points["linearised from"] = model.linearized.switches
    marks = pd.DataFrame([{"what": w, "t": t} for w, ts in points.items() for t in ts])
    if len(marks):
        sns.stripplot(marks, x="t", y="what", hue="what", jitter=False, marker="d", size=4, ax=ax,
                      legend=False, clip_on=False)  # fmt: skip
    else:
        ax.text(0.5, 0.5, "only trained", ha="center", transform=ax.transAxes)
        ax.set(yticks=[])
    ax.set(ylabel="", xlim=(0, model.training.iterations))
    ax.tick_params(axis="y", length=0)
    sns.despine(ax=ax, left=True)
    style.over_iterations(ax, "iteration", model)
