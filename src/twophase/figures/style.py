"""What all figures share: looks, reading tables, lines with their range."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import seaborn as sns  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from twophase.artifacts import read_table  # noqa: E402
from twophase.study import Study  # noqa: E402

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


def summary(study: Study, tables: dict[str, Path], table: str) -> pd.DataFrame:
    """The summary of the table called `table`."""
    expect = {"kind": "summary", "study": study.name, "table": table}
    return read_table(tables[f"{table}_summary"], expect)


def projection(study: Study, tables: dict[str, Path], model: str) -> pd.DataFrame:
    """The kernels of the first seed in three dimensions."""
    seed = study.seeds[0]
    expect = {"kind": "kernel_projection", "study": study.name, "model": model, "seed": seed}
    return read_table(tables[f"{model}/seed{seed}/kernel_projection"], expect)


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
    if seeds == 1 and not (forks and any(m.chaos.directions > 1 for m in study.models.values())):
        return f"lines: one run, seed {study.seeds[0]}"
    text = f"{seeds} seed{'s' * (seeds > 1)}"
    if forks:
        directions = sorted({plan.chaos.directions for plan in study.models.values()})
        many = " or ".join(map(str, directions))
        text += f" × {many} perturbation direction{'s' * (directions != [1])}"
    return f"lines: mean over {text}; bands: smallest to largest"


def perturbation_note(study: Study) -> str:
    """Which perturbations the forks got, such as "perturbation: std 1e-07"."""
    asked = dict.fromkeys(plan.chaos.perturbation for plan in study.models.values())
    return "perturbation: " + " or ".join(f"{each.kind} {each.size:g}" for each in asked)


def logarithmic(ax: Axes) -> None:
    """A logarithmic y axis, if the lines drawn span a factor of ten; zeros are left out of it."""
    drawn = np.concatenate([line.get_ydata() for line in ax.lines])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if len(drawn) and drawn.max() > 10 * drawn.min():
        ax.set_yscale("log", nonpositive="mask")


def note(figure: Figure, study: Study, text: str) -> None:
    """Small print under the figure: the study's title, and `text`."""
    text = f"{study.title}.\n{text}"
    figure.supxlabel(text, fontsize="small", color="0.35", x=0.01, ha="left")
