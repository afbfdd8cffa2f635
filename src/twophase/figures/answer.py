"""Figure `answer`: is it one transition? When chaos ends and when the cone begins, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from twophase.estimators import phases
from twophase.estimators.phases import Times
from twophase.estimators.seeds import CannotSay, Estimate
from twophase.figures import names, style
from twophase.figures.panels import Page, Panel
from twophase.study.model import Study

Both = dict[str, "Times | str"]  # of a model, `chaos` and `cone`
CONDITIONS = 3  # models from which a figure shows whether what moves one time moves the other
FILLS = {"all": "full", "half": "none"}  # of the signs of the two horizons
BEGINS, SLOWS = "cone begins (iteration)", "kernel has slowed down (iteration)"
HORIZONS = {"all": "whole horizon", "half": "half horizon"}


def draw(study: Study, tables: style.Tables) -> Page:
    """Barriers over t0, each beside both times of every seed in one plane, at two horizons; those
    of networks that have no plane; and the times of all models, if they are several.
    """
    titles, rows, alone, told, means = names.titles(study), [], [], [], {}
    whole, half = (style.transitions(study, tables, each) for each in (False, True))
    for name, model in style.models(study, "chaos", "kernel").items():
        found, chaos = whole[name], whole[name]["chaos"]
        if isinstance(chaos, str):
            forks = style.of_main(study, style.wide(tables, "chaos", name))
            ends = style.at_ends(forks, model.chaos.ends())
        else:
            ends = chaos.ends
        doses = Panel(partial(_doses, study, name, ends, found), titles[name])
        if not _both(found):
            alone.append(doses)
            continue
        horizons = {"all": found} | ({"half": half[name]} if _both(half[name]) else {})
        plane = Panel(partial(_plane, horizons), "chaos ends / cone begins", height=2.2, width=0.6)
        rows.append([doses, plane])
        told.append(f"{titles[name]}: {_horizons(horizons)}.")
        means[name] = found
    rows += [alone[at : at + 2] for at in range(0, len(alone), 2)]
    if len(means) >= CONDITIONS:
        speeds = style.transitions(study, tables, reading="speed")
        slowed = {name: own for name, own in speeds.items() if _both(own)}
        both = [partial(_conditions, *each) for each in ((means, BEGINS), (slowed, SLOWS))]
        rows.append([Panel(each, "all networks", height=2.6) for each in both[: 1 + bool(slowed)]])
    return names.page(
        study,
        rows,
        "Is it one transition? Test loss barrier at the end of forks from t0, a colour and a sign "
        "for each seed; above the dashed line both runs lie in different valleys of the loss, and "
        "chaos has ended where the lines fall below it.",
        "Right of it, where both times are known: for each seed the t0 at which chaos ends, and "
        "the iteration at which the kernel is half-way into its later cone. Bars: as far as the "
        "grid of t0 leaves a time open, with an arrow where it ends. The cross: mean over seeds, "
        "95 % interval. One transition lies in the grey band, within a factor of two; the numbers "
        "are the end of chaos over the time of the cone, seed by seed." * bool(means),
        *told,
        "Last: the means of all networks, by when the kernel enters its later cone and by when "
        "it has slowed down; if what moves the end of chaos moves the kernel as much, they lie "
        "along the band, and if the kernel stays, on a level." * (len(means) >= CONDITIONS),
        marks=whole,
    )


def _both(found: Both) -> bool:
    return len(found) == 2 and not any(isinstance(each, str) for each in found.values())


def _horizons(horizons: dict[str, Both]) -> str:
    """Until when times were looked at."""
    chaos, cone = (
        " or ".join(f"{own[what].horizon:,}" for own in horizons.values())
        for what in ("chaos", "cone")
    )
    followed = horizons["all"]["chaos"].ends["t1"].nunique() > 1
    return f"forks {'followed for' if followed else 'compared at'} {chaos}, kernels until {cone}"


def _doses(study: Study, name: str, ends: pd.DataFrame, found: Both, ax: Axes) -> None:
    model, unit = study.models[name], names.words(study).unit
    ends = ends.assign(value=ends["test_barrier"])
    colours = style.shades(ends["seed"])
    sns.lineplot(ends, x="t0", y="value", hue="seed", palette=colours, style="seed", dashes=False,
                 markers=style.signs_of(colours), ax=ax, units="run", estimator=None, linewidth=1,
                 legend="full")  # fmt: skip
    style.barriers(ax, ends, model.chaos.barrier_threshold, unit)
    means = [each.mean.value for each in found.values() if not isinstance(each, str)]
    last = max([1, ends["t0"].max(), *filter(np.isfinite, means)])
    ax.set(ylabel=f"test loss barrier ({unit})", xlim=(0, 1.08 * last))
    style.legend(ax, "seed")
    style.over_iterations(ax, "perturbed at iteration $t_0$", model, found, ends["t0"].unique())


def _plane(horizons: dict[str, Both], ax: Axes) -> None:
    low, high = _limits([time for own in horizons.values() for time in own.values()])
    _band(ax, low, high)
    entries = []
    for what, own in reversed(horizons.items()):
        chaos, cone = own["chaos"].each, own["cone"].each
        colours = style.shades(pd.Series(chaos.index))
        signs = style.signs_of(colours)
        for seed in chaos.index.intersection(cone.index):
            _point(ax, chaos.loc[seed], cone.loc[seed], low, high, color=colours[seed],
                   marker=signs[seed], fillstyle=FILLS[what])  # fmt: skip
        handle = ax.plot([], [], "o", color="0.3", markeredgewidth=1, fillstyle=FILLS[what])[0]
        entries.insert(0, (handle, f"{HORIZONS[what]}: {_ratio(own)}"))
    chaos, cone = (horizons["all"][each].mean for each in ("chaos", "cone"))
    _cross(ax, chaos, cone, low, high, color="0.15")
    style.legend(ax, entries=entries)


def _ratio(own: Both) -> str:
    try:
        value, low, high, _ = phases.ratio(own["chaos"], own["cone"])
    except CannotSay as reason:
        return str(reason)
    said = f" [{low:.2g}, {high:.2g}]" if np.isfinite(value) and not np.isnan(low) else ""
    return f"{value:.2g}{said}".replace("inf", "∞")


def _limits(times: list[Times]) -> tuple[float, float]:
    values = np.concatenate([each.each.to_numpy().ravel() for each in times])
    values = values[np.isfinite(values) & (values > 0)]
    return values.min() / 2.5, values.max() * 2.5


def _band(ax: Axes, low: float, high: float, kernel: str = BEGINS) -> None:
    line = np.array([low, high])
    ax.fill_between(line, line / 2, line * 2, color="0.9", linewidth=0, zorder=0)
    ax.plot(line, line, color="0.7", linewidth=0.8, zorder=0)
    ax.text(0.97, 0.86, "one transition", transform=ax.transAxes, rotation=45, ha="right", va="top",
            color="0.4", fontsize=style.SIZE - 1)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high),
           xlabel="chaos ends (iteration $t_0$)", ylabel=kernel)  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        style.few_ticks(axis, low, high)
        axis.set_major_formatter("{x:,.0f}")
    ax.set_box_aspect(1)
    ax.set_anchor("W")


def _point(ax: Axes, x: pd.Series, y: pd.Series, low: float, high: float, **looks: Any) -> None:
    """What is known of the two times of a seed: a bar as long as each is open, with an arrow where
    it has no end.
    """
    (x0, x1), (y0, y1) = (np.clip(each[["low", "high"]], low, high) for each in (x, y))
    middle = (x0 * x1) ** 0.5, (y0 * y1) ** 0.5
    _bars(ax, middle, (x0, x1), (y0, y1), color=looks["color"], linewidth=1)
    ends = {
        "<": (x0, middle[1], x["low"] > low),
        ">": (x1, middle[1], x["high"] < high),
        "v": (middle[0], y0, y["low"] > low),
        "^": (middle[0], y1, y["high"] < high),
    }
    for sign, (*place, known) in ends.items():
        if not known:
            ax.plot(*place, clip_on=False, **(looks | {"marker": sign}))
    ax.plot(*middle, markeredgewidth=1, zorder=3, **looks)


def _bars(ax: Axes, at: Sequence, x: Sequence, y: Sequence, **looks: object) -> None:
    """A cross at a place, from end to end of both intervals."""
    ax.hlines(at[1], *x, **looks)
    ax.vlines(at[0], *y, **looks)


def _cross(ax: Axes, x: Estimate, y: Estimate, low: float, high: float, color: Any) -> None:
    """Means over seeds, with their intervals; nothing of a single seed."""
    if np.isnan([x.low, y.low]).any() or not 0 < x.value < np.inf:
        return
    ends = [np.clip([each.low, each.high], low, high) for each in (x, y)]
    at = [np.clip(each.value, low, high) for each in (x, y)]
    _bars(ax, at, *ends, color=color, linewidth=2.2, alpha=0.8, zorder=4)


def _conditions(means: dict[str, Both], kernel: str, ax: Axes) -> None:
    low, high = _limits([time for own in means.values() for time in own.values()])
    _band(ax, low, high, kernel)
    colours = sns.color_palette("colorblind", len(means))
    signs = style.signs_of(means)
    for (name, own), color in zip(means.items(), colours, strict=True):
        x, y = own["chaos"].mean, own["cone"].mean
        _cross(ax, x, y, low, high, color=color)
        ax.plot(*np.clip([x.value, y.value], low, high), marker=signs[name], color=color,
                label=name, linestyle="none", zorder=5)  # fmt: skip
    style.legend(ax)
