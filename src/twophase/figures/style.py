"""What all figures share: looks, tidy tables, lines with their runs, axes that hide nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator
from matplotlib.transforms import ScaledTranslation

from twophase.estimators import phases
from twophase.estimators.phases import Times
from twophase.store.artifacts import read_table
from twophase.store.paths import Result
from twophase.study.chaos import named
from twophase.study.model import Model, Study
from twophase.study.stages import SUMMARISED

WIDTH = 7.2  # inches: the text width of a two-column page
SEQUENTIAL = "viridis"  # readable in grey and by colour-blind people
MARKERS = ["o", "s", "D", "^", "v", "P", "*", "X"]
FEW = 12  # thin lines that a panel can hold, or twice as many if it has few points; of more
# runs, their range is a band
GREY = "0.55"
BAR_BESIDE = (0.12, 0.045, 0.76)  # of a bar of colours beside axes: its bottom, width and height
BAR = 5  # points that the bar of a transition takes above its axes
DROP = {"color": GREY, "linestyle": (0, (1, 1.5)), "linewidth": 0.9, "label": "_drop"}
UNEVEN = 7  # the widest gap of points over the narrowest, from which on an axis is logarithmic
Tables = dict[str, Result]  # by the names that they are published under
Transitions = dict[str, dict[str, "Times | str"]]  # of each model: a time, or why there is none
COLOURS, SIGNS = {"chaos": "#d55e00", "cone": "#3b3b98"}, {"chaos": "D", "cone": "o"}
SAID = {"chaos": "chaos ends", "cone": "the kernel enters its later cone", "drop": "lr / 10"}
SIZE = 8.0  # points, in print
LOOKS = {
    "font.sans-serif": ["DejaVu Sans"],
    "axes.titlelocation": "left",
    "axes.labelpad": 2,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.title_fontsize": SIZE - 0.7,
    "legend.frameon": False,
    "legend.handlelength": 1.3,
    "legend.columnspacing": 1.0,
    "legend.handletextpad": 0.5,
    "lines.markersize": 4,
    "lines.markeredgewidth": 0,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
}


@contextmanager
def theme(sheet: Path | None = None) -> Iterator[None]:
    """The looks of all figures, whatever a matplotlibrc says, then those of a style `sheet`;
    afterwards the caller's are as they were.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        # Its labels have 9.6 points. Its short names of colours would stay.
        sns.set_theme("paper", "ticks", "colorblind", font_scale=SIZE / 9.6, color_codes=False,
                      rc=LOOKS)  # fmt: skip
        if sheet:
            mpl.style.use(sheet)
        mpl.rcParams["figure.autolayout"] = False  # `panels.composed` lays them out
        mpl.rcParams["figure.constrained_layout.use"] = False
        yield


def models(study: Study, *sections: str) -> dict[str, Model]:
    """The models of a study that have all these sections, by name."""
    return {
        name: model
        for name, model in study.models.items()
        if all(getattr(model, section) for section in sections)
    }


def wide(tables: Tables, table: str, model: str = "") -> pd.DataFrame | None:
    """The table called `table` of every run, or of those of a `model`; None if there is none. Of
    tables of forks each direction of a seed is a `run`, and `direction` its perturbation's name.
    """
    begins = f"{model}/" * bool(model)
    names = [name for name in tables if name.startswith(begins) and name.endswith(f"/{table}")]
    if not names:
        return None
    each = pd.concat([read_table(tables[name]) for name in names], ignore_index=True)
    each = each.assign(run=each["seed"].astype(str))
    if "direction" in each:
        each["run"] += "/" + each["direction"]
        each["direction"] = each["direction"].map(named)
    return each


def runs(tables: Tables, table: str) -> pd.DataFrame:
    """The same of every run, tidy: its keys, `model`, `seed`, `run`, `measure` and `value`."""
    each = wide(tables, table)
    keys = ["study", "model", "seed", "run", *SUMMARISED.get(table, ())]
    measures = [name for name in each if name not in keys and each[name].dtype.kind in "biuf"]
    return each.astype(dict.fromkeys(measures, float)).melt(keys, measures, "measure")


def where(frame: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows in which each of these columns has this value."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def of_main(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each model's main perturbation."""
    main = {name: model.chaos.main() for name, model in models(study, "chaos").items()}
    return frame[frame["direction"] == frame["model"].map(main)]


def summary(tables: Tables, table: str) -> pd.DataFrame:
    """The summary of the table called `table`."""
    return read_table(tables[f"{table}_summary"])


def shades(values: pd.Series) -> dict[Any, tuple]:
    """A colour for each value: of numbers from dark (smallest) to light (largest), of words those
    that people tell apart, in their order.
    """
    if values.dtype.kind in "iuf":
        ordered = sorted(set(values))
        return dict(zip(ordered, sns.color_palette(SEQUENTIAL, len(ordered)), strict=True))
    return dict(zip(values.dropna().unique(), sns.color_palette(), strict=False))


def signs_of(levels: Iterable) -> dict[Any, str]:
    """A marker for each of these levels of a colour."""
    return dict(zip(levels, itertools.cycle(MARKERS), strict=False))


def few_ticks(axis: Axis, low: float, high: float) -> None:
    """Of a logarithmic axis from about `low` to `high`: labels at powers of ten; also at their
    threefold, all as plain numbers, where those would be too few.
    """
    short = high <= 500 * low
    axis.set_major_locator(LogLocator(subs=(1, 3) if short else (1,)))
    if short:
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    else:
        axis.minorticks_off()


def scale(ax: Axes, values: pd.Series) -> None:
    """A y axis for these values: logarithmic if they span a factor of ten. Where some are zero or
    negative, it is linear around zero, so that none of them is hidden.
    """
    found = np.asarray(values, float)
    found = found[np.isfinite(found)]
    sizes = np.abs(found[found != 0])
    if not len(sizes) or sizes.max() <= 10 * sizes.min():
        return
    if found.min() > 0:
        ax.set_yscale("log")
        return
    smallest, largest = (math.floor(math.log10(each)) for each in (sizes.min(), sizes.max()))
    below = bool(found.min() < 0)
    smallest = max(smallest, largest - 2) if below else smallest  # decades on both sides
    decades = largest - smallest
    ax.set_yscale("symlog", linthresh=10.0**smallest, linscale=max(0.5, decades / 10))
    ticks = [10.0**each for each in range(largest, smallest - 1, -max(1, -(-decades // 4)))]
    ax.yaxis.set_major_locator(FixedLocator([0.0, *ticks, *(-each for each in ticks if below)]))
    ax.axhline(0, color="0.8", linewidth=0.6, zorder=0)


def curves(
    ax: Axes, data: pd.DataFrame, x: str, hue: str, palette: dict, markers: bool = False
) -> None:
    """A thick line through the runs' means, or on a logarithmic axis their medians, for each value
    of `hue`, those of words with dashes of their own; behind it thin lines, the runs, or if these
    are many a band, their range.
    """
    data = data.assign(value=data["value"].replace([np.inf, -np.inf], np.nan))
    center = "mean" if ax.get_yscale() == "linear" else "median"
    each = data.groupby(hue)["run"].nunique()
    many = each.sum() > FEW * (2 if markers else 1)
    shared = {"data": data, "x": x, "y": "value", "hue": hue, "palette": palette, "ax": ax}
    sns.lineplot(**shared, style=hue, markers=markers and signs_of(palette),
                 dashes=any(isinstance(level, str) for level in palette), estimator=center,
                 errorbar=("pi", 100) if many else None, legend="full",
                 err_kws={"alpha": 0.18, "linewidth": 0} if many else None)  # fmt: skip
    if not many and each.max() > 1:
        sns.lineplot(**shared, units="run", estimator=None, legend=False, linewidth=0.6,
                     alpha=0.55, zorder=1)  # fmt: skip
    for line in ax.lines:
        line.set_clip_on(not len(line.get_xdata()))  # a marker on an axis is whole
    alone = data.groupby(hue).filter(lambda own: own[x].nunique() == 1)
    if each.max() > 1 and alone[x].nunique() == 1:  # a line through one point cannot be seen
        sns.scatterplot(alone, x=x, y="value", hue=hue, palette=palette, marker="_", s=36,
                        linewidth=0.8, ax=ax, legend=False)  # fmt: skip


def drops(ax: Axes, model: Model) -> None:
    """Where the learning rate is divided by 10, if the axis, of iterations, comes that far."""
    low, high = sorted(ax.get_xlim())
    for drop in model.training.lr_drops:
        if low < drop < high:
            ax.axvline(drop, **DROP, zorder=0)


def transitions(
    study: Study, tables: Tables, half: bool = False, reading: str = "entry"
) -> Transitions:
    """When chaos ends in each model, and when its kernel enters its later cone (or by the `reading`
    "speed": has slowed down), as the estimators have it, of all of the training or of `half` of it;
    where they cannot say, why.
    """
    found: Transitions = {}
    for name, model in study.models.items():
        chaos, kernels, training = (
            wide(tables, table, name) for table in ("chaos", "kernel_distance", "training")
        )
        found[name] = {}
        if chaos is not None:
            asked = of_main(study, chaos), training, model.chaos.barrier_threshold, half
            found[name]["chaos"] = phases.attempted(phases.chaos_end, *asked)
        if kernels is not None:
            asked = kernels, training, reading, half
            found[name]["cone"] = phases.attempted(phases.kernel_time, *asked)
    return found


def mark_transitions(
    ax: Axes, found: dict[str, Times | str], place: Callable | None = None
) -> None:
    """A bar above an axis of iterations for each transition: its interval with its mean over seeds;
    or where that has no end, the times that its seeds may have, with no mean. `place` says where an
    iteration lies, if that is not its number.
    """
    limits, known = ax.get_xlim(), {k: v for k, v in found.items() if not isinstance(v, str)}
    for row, (what, time) in enumerate(known.items()):
        value, ends = time.mean.value, time.mean[1:3]
        bounded = bool(np.isfinite(ends).all()) and value > 0
        if not bounded:
            ends = time.each["low"].min(), time.each["high"].max()
        shown = np.nan_to_num([value, *ends], posinf=limits[1])
        value, low, high = np.clip(place(shown) if place else shown, *limits)
        place_above = ax.get_xaxis_transform() + above(ax, BAR * (row + 0.5))
        looks = {"color": COLOURS[what], "transform": place_above, "clip_on": False}
        looks["label"] = f"_{what}"  # known to `signs`, and in no legend
        ax.hlines(1, low, high, linewidth=2.2, alpha=0.6, **looks)
        if bounded or low == high:
            ax.scatter(value, 1, s=20, marker=SIGNS[what], linewidths=0.6, edgecolors="white",
                       zorder=6, **looks)  # fmt: skip
    ax.set_xlim(limits)


def above(ax: Axes, points: float) -> ScaledTranslation:
    """So many points upwards."""
    return ScaledTranslation(0, points / 72, ax.figure.dpi_scale_trans)


def bars(ax: Axes) -> float:
    """Points that bars of transitions take above the axes."""
    return BAR * len(SIGNS.keys() & {*signs([ax])})


def signs(axes: Sequence[Axes]) -> list[str]:
    """What is marked on these axes, in the order of the legend."""
    drawn = {each.get_label() for ax in axes for each in (*ax.collections, *ax.lines)}
    return [what for what in SAID if f"_{what}" in drawn]


def signs_legend(figure: Figure) -> int:
    """Above all panels, what is marked in them. Returns how many lines it takes."""
    found = signs(figure.axes)
    if not found:
        return 0
    bars = {w: {"color": COLOURS[w], "marker": SIGNS[w], "linewidth": 2.2} for w in SIGNS}
    entries = [Line2D([], [], **bars.get(what, DROP)) for what in found]
    columns = 3 if figure.get_figwidth() > 4 else 2
    figure.legend(entries, [SAID[what] for what in found], loc="outside upper left", ncols=columns)
    return -(-len(found) // columns)


def over_iterations(
    ax: Axes,
    label: str,
    model: Model,
    marks: dict[str, Times | str] | None = None,
    points: Sequence[int] = (),
) -> None:
    """What an x axis of iterations has. Where the `points` on it lie closer at first, the axis is
    logarithmic, with 0 on it.
    """
    gaps, first = np.diff(sorted(set(points))), 0
    ax.set_xlabel(label)
    if len(gaps) and gaps.max() > UNEVEN * gaps.min():
        first = min(point for point in points if point > 0)
        ax.set_xscale("symlog", linthresh=first, linscale=0.3)
    else:
        ax.locator_params(axis="x", nbins=5, integer=True, min_n_ticks=1)
    # Below the first point labels would meet.
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= first or not x else "")
    mark_transitions(ax, marks or {})
    drops(ax, model)


def at_ends(frame: pd.DataFrame, ends: dict[int, int]) -> pd.DataFrame:
    """The rows of each t0 at its last t1, as `ends` has it."""
    return frame[frame["t1"] == frame["t0"].map(ends)]


def perturbed(ends: dict[int, int], gap: str = "\n") -> str:
    """What an axis or a legend of t0 says: when forks began, and when all or each are compared."""
    last = set(ends.values())
    when = f"{last.pop():,}" if len(last) == 1 else "the last $t_1$"
    return f"perturbed at $t_0$,{gap}compared at {when}"


def barriers(ax: Axes, data: pd.DataFrame, threshold: float, unit: str = "nats") -> None:
    """The threshold of barriers, in the `unit` of the loss, as a dashed line; of a network that has
    none above it, a sentence.
    """
    ax.axhline(threshold, color="0.4", linestyle="--", linewidth=0.8)
    low, high = ax.get_ylim()
    largest = data["value"].max()
    ax.set_ylim(min(0, data["value"].min()), max(2 * threshold, high))
    if largest <= threshold:
        text = f"no barrier above\n{threshold:g} {unit}:\nthe largest is {largest:.2g}"
        ax.text(0.5, 0.58, text, transform=ax.transAxes, ha="center", fontsize=SIZE - 1,
                color="0.3", bbox={"color": "white", "alpha": 0.8, "pad": 0.5})  # fmt: skip


def legend(ax: Axes, title: str = "", entries: list | None = None) -> None:
    """The legend above the axes, for below it are data; it is read line by line."""
    entries = entries or list(zip(*ax.get_legend_handles_labels(), strict=True))
    if not entries:
        return
    handles, labels = zip(*entries, strict=True)
    labels = [f"{int(each):,}" if each.isdigit() else each for each in labels]
    inches = 1.15 * ax.get_position().width * ax.figure.get_figwidth()
    fitting = int(inches / (0.29 + 0.065 * max(len(each.replace("$", "")) for each in labels)))
    lines = -(-len(labels) // max(1, fitting))
    columns = -(-len(labels) // lines)
    order = [at for first in range(columns) for at in range(first, len(labels), columns)]
    ax.legend([handles[at] for at in order], [labels[at] for at in order], title=title or None,
              loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, alignment="left",
              ncols=columns)  # fmt: skip
