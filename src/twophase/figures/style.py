"""What all figures share: looks, reading tables, lines with their runs."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable
from typing import NamedTuple

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from twophase.store.artifacts import read_table  # noqa: E402
from twophase.store.paths import Result  # noqa: E402
from twophase.study.model import Model, Study  # noqa: E402
from twophase.study.stages import SUMMARISED  # noqa: E402

mpl.rcdefaults()  # whatever a matplotlibrc of the user's says
plt.style.use(["seaborn-v0_8-ticks", "seaborn-v0_8-colorblind"])  # matplotlib's own
mpl.rcParams |= {
    "font.size": 8.6,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.labelsize": "medium",
    "axes.linewidth": 1,
    "legend.fontsize": "small",
    "legend.title_fontsize": "medium",
    "lines.linewidth": 1.4,
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "xtick.major.size": 4,
    "ytick.major.size": 4,
    "xtick.minor.size": 2.5,
    "ytick.minor.size": 2.5,
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
SEQUENTIAL = mpl.colormaps["viridis"]
MARKERS = "osD^vP*X"
WIDTH = 7.2  # inches: the text width of a two-column page
COLUMNS = 132  # characters of small print in a line of that width


def models(study: Study, *sections: str) -> dict[str, Model]:
    """The models of a study that have all these sections, by name."""
    return {
        name: model
        for name, model in study.models.items()
        if all(getattr(model, section) for section in sections)
    }


class Points(NamedTuple):
    """A table's points: their summary over runs, and the same measures of each run.

    Both have the table's keys and the columns `model` and `measure`; `means` has `mean`, `low`,
    `high` and `runs`, `each` has `value` and `run`.
    """

    means: pd.DataFrame
    each: pd.DataFrame

    def where(self, **values: object) -> Points:
        """The points at which each of these columns has this value."""
        chosen = []
        for frame in self:
            for column, value in values.items():
                frame = frame[frame[column] == value]
            chosen.append(frame)
        return Points(*chosen)

    def at_ends(self, ends: dict[int, int]) -> Points:
        """The points of each t0 at its last t1, as `ends` has it."""
        return Points(*(frame[frame["t1"] == frame["t0"].map(ends)] for frame in self))


def points(tables: dict[str, Result], table: str) -> Points:
    """The points of the table called `table`, of which a figure reads the summary and each run.

    Of `chaos`, each direction of a seed is a run.
    """
    runs = [read_table(result) for name, result in tables.items() if name.endswith(f"/{table}")]
    wide = pd.concat(runs, ignore_index=True)
    wide = wide.assign(run=wide["seed"].astype(str))
    if "direction" in wide:
        wide["run"] += "/" + wide["direction"]
        wide["direction"] = wide["direction"].where(wide["direction"] == "control", "perturbed")
    keys = ["study", "model", "seed", "run", *SUMMARISED[table]]
    measures = [column for column in wide if column not in keys]
    each = wide.astype(dict.fromkeys(measures, float)).melt(keys, measures, "measure")
    return Points(summary(tables, table), each)


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


def looks(values: Iterable[int]) -> dict[int, dict]:
    """A colour and a marker for each value: the same in each panel that shows it."""
    colors = shades(sorted(values))
    marked = zip(colors.items(), itertools.cycle(MARKERS), strict=False)
    return {value: {"color": color, "marker": marker} for (value, color), marker in marked}


def line(ax: Axes, points: Points, x: str, **looks: object) -> None:
    """The mean over runs as a line with markers; behind it, each run as a thin line."""
    means = points.means.sort_values(x)
    (drawn,) = ax.plot(means[x], means["mean"], **looks)
    thin = {"color": drawn.get_color(), "linewidth": 0.6, "alpha": 0.5, "zorder": 1}
    thin |= {"clip_on": drawn.get_clip_on()}
    if len(means) == 1:  # a line through one point cannot be seen
        thin |= {"marker": "_", "markersize": 7}
    for _, run in points.each.sort_values(x).groupby("run"):
        ax.plot(run[x], run["value"], **thin)


def kernel_times(ax: Axes, model: Model, axes: str = "x") -> None:
    """Logarithmic axes of iterations, with 0 on them, for kernels whose times the study names one
    by one: they stand closer where the kernel turns fast.
    """
    if model.kernel.times:
        first = next(t for t in model.kernel.times if t > 0)
        for axis in axes:
            getattr(ax, f"set_{axis}scale")("symlog", linthresh=first, linscale=0.3)


def when(ends: dict[int, int]) -> str:
    """The iteration at which all forks end, or that each has its own."""
    last = set(ends.values())
    return f"at $t_1 = {last.pop()}$" if len(last) == 1 else "at the last $t_1$ of each"


def barrier_axis(ax: Axes, threshold: float) -> None:
    """A y axis from 0 for the barriers drawn (nats), with their threshold as a dashed line."""
    ax.axhline(threshold, color="0.4", linestyle="--", linewidth=0.8)
    # A network without barriers shows a flat line and not its noise.
    ax.set_ylim(0, max(2 * threshold, ax.get_ylim()[1]))


def runs_note(study: Study, forks: bool = False) -> str:
    """How many runs a thick line stands for, of forks seeds times directions."""
    seeds = len(study.seeds)
    directions = sorted({model.chaos.directions for model in models(study, "chaos").values()})
    if seeds == 1 and not (forks and directions != [1]):
        return f"lines: one run, seed {study.seeds[0]}"
    text = f"{seeds} seed{'s' * (seeds > 1)}"
    if forks and directions != [1]:
        text += f" × {' or '.join(map(str, directions))} perturbation directions"
    return f"thick lines: mean over {text}; thin lines: each run"


def perturbation_note(study: Study) -> str:
    """What was added to the parameters of the forks."""
    kinds = {
        "std": "of standard deviation {:g} on each parameter",
        "l2": "of L2 norm {:g}",
        "relative": "of {:g} times the parameters' norm",
    }
    perturbations = (model.chaos.perturbation for model in models(study, "chaos").values())
    asked = dict.fromkeys(kinds[each.kind].format(each.size) for each in perturbations)
    return "Gaussian noise " + " or ".join(asked)


def logarithmic(ax: Axes) -> None:
    """A logarithmic y axis, if the lines drawn span a factor of ten; zeros are left out of it."""
    drawn = np.concatenate([line.get_ydata() for line in ax.lines])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if len(drawn) and drawn.max() > 10 * drawn.min():
        ax.set_yscale("log", nonpositive="mask")


def note(figure: Figure, study: Study, text: str) -> None:
    """Small print under the figure: the study's title, and the paragraphs of `text`, wrapped."""
    title = study.title.replace("$", r"\$")  # text, and never mathematics
    paragraphs = f"{title}.\n{text}".splitlines()
    text = "\n".join(textwrap.fill(p, COLUMNS, break_on_hyphens=False) for p in paragraphs)
    figure.supxlabel(text, fontsize="small", color="0.35", x=0.01, ha="left")
