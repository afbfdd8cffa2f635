"""What all figures share: looks, reading tables, lines with their range."""

from __future__ import annotations

import os

os.environ["MPLBACKEND"] = "agg"

import matplotlib as mpl  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import seaborn as sns  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from twophase.store.artifacts import read_table  # noqa: E402
from twophase.store.paths import Result  # noqa: E402
from twophase.study import Model, Study  # noqa: E402

mpl.rcdefaults()  # whatever a matplotlibrc of the user's says
sns.set_theme("paper", "ticks", "colorblind", font="DejaVu Sans", font_scale=0.9)
mpl.rcParams |= {
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,
}

# Sequential, and readable in grey and by colour-blind people.
SEQUENTIAL = sns.color_palette("viridis", as_cmap=True)
MARKERS = "osD^vP*X"
WIDTH = 7.2  # inches: the text width of a two-column page


def models(study: Study, *sections: str) -> dict[str, Model]:
    """The models of a study that have all these sections, by name."""
    return {
        name: model
        for name, model in study.models.items()
        if all(getattr(model, section) for section in sections)
    }


def summary(tables: dict[str, Result], table: str) -> pd.DataFrame:
    """The summary of the table called `table`."""
    return read_table(tables[f"{table}_summary"])


def projection(study: Study, tables: dict[str, Result], model: str) -> pd.DataFrame:
    """The kernels of the first seed in three dimensions."""
    return read_table(tables[f"{model}/seed{study.seeds[0]}/kernel_projection"])


def grid(rows: int, columns: int, height: float, **options: object) -> tuple[Figure, list]:
    """A figure of page width with `rows` x `columns` axes, each row `height` inches high."""
    return plt.subplots(
        rows, columns, figsize=(WIDTH, rows * height + 0.35), squeeze=False, **options
    )


def shades(values: list[int]) -> dict[int, tuple]:
    """A colour for each value, from dark (first) to light (last)."""
    return {
        value: SEQUENTIAL(0.9 * index / max(1, len(values) - 1))
        for index, value in enumerate(values)
    }


def line(ax: Axes, points: pd.DataFrame, x: str, **looks: object) -> None:
    """The mean over runs as a line with markers, the range over runs as a band behind it."""
    points = points.sort_values(x)
    (drawn,) = ax.plot(points[x], points["mean"], **looks)
    ax.fill_between(
        points[x], points["low"], points["high"], color=drawn.get_color(), alpha=0.18, linewidth=0
    )


def runs_note(study: Study, forks: bool = False) -> str:
    """How many runs a line and its band stand for; of forks, seeds times directions."""
    seeds = len(study.seeds)
    directions = sorted({model.chaos.directions for model in models(study, "chaos").values()})
    if seeds == 1 and not (forks and directions != [1]):
        return f"lines: one run, seed {study.seeds[0]}"
    text = f"{seeds} seed{'s' * (seeds > 1)}"
    if forks:
        many = " or ".join(map(str, directions))
        text += f" × {many} perturbation direction{'s' * (directions != [1])}"
    return f"lines: mean over {text}; bands: smallest to largest"


def perturbation_note(study: Study) -> str:
    """Which perturbations the forks got, such as "perturbation: std 1e-07"."""
    perturbations = (model.chaos.perturbation for model in models(study, "chaos").values())
    asked = dict.fromkeys((each.kind, each.size) for each in perturbations)
    return "perturbation: " + " or ".join(f"{kind} {size:g}" for kind, size in asked)


def logarithmic(ax: Axes) -> None:
    """A logarithmic y axis, if the lines drawn span a factor of ten; zeros are left out of it."""
    drawn = np.concatenate([line.get_ydata() for line in ax.lines])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if len(drawn) and drawn.max() > 10 * drawn.min():
        ax.set_yscale("log", nonpositive="mask")


def note(figure: Figure, study: Study, text: str) -> None:
    """Small print under the figure: the study's title, and `text`."""
    title = study.title.replace("$", r"\$")  # text, and never mathematics
    text = f"{title}.\n{text}"
    figure.supxlabel(text, fontsize="small", color="0.35", x=0.01, ha="left")
