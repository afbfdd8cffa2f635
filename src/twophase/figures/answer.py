"""Figure `answer`: is it one transition? When chaos ends and when the cone begins, seed by seed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from twophase.estimators import phases
from twophase.estimators.phases import Times
from twophase.estimators.seeds import CannotSay, Estimate
from twophase.figures import names, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study

Both = dict[str, "Times | str"]  # of a model, `chaos` and `cone`
CONDITIONS = 3  # models from which a figure shows whether what moves one time moves the other
LOOKS = {"all": ("o", "full"), "half": ("s", "none")}  # of the two horizons
BEGINS, SLOWS = "cone begins (iteration)", "kernel has slowed down (iteration)"
HORIZONS = {"all": "whole horizon", "half": "half horizon"}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """Left: barriers over t0. Right: both times of every seed in one plane, at two horizons. Last:
    those of all models, if they are several.
    """
    titles, rows, told, means = names.titles(study), [], [], {}
    whole, half = (style.transitions(study, tables, each) for each in (False, True))
    for name, model in style.models(study, "chaos", "kernel").items():
        found, chaos = whole[name], whole[name]["chaos"]
        if isinstance(chaos, str):
            forks = style.of_main(study, style.wide(tables, "chaos", name))
            ends = style.at_ends(forks, model.chaos.ends())
        else:
            ends = chaos.ends
        rows.append([Panel(partial(_doses, study, name, ends, found), titles[name], height=2.2)])
        if _both(found):
            horizons = {"all": found} | ({"half": half[name]} if _both(half[name]) else {})
            title = "chaos ends / cone begins"
            rows[-1].append(Panel(partial(_plane, horizons), title, height=2.2, width=0.6))
            told.append(f"{titles[name]}: {_horizons(horizons)}.")
            means[name] = found
    if len(means) >= CONDITIONS:
        speeds = style.transitions(study, tables, reading="speed")
        slowed = {name: own for name, own in speeds.items() if _both(own)}
        both = [each for each in ((means, BEGINS), (slowed, SLOWS)) if each[0]]
        rows.append(
            [
                Panel(partial(_conditions, *each, each is both[-1]), "all networks", height=2.6)
                for each in both
            ]
        )
    return Page(
        rows,
        names.caption(
            study,
            "Is it one transition? Left: test loss barrier at the end of forks from t0, a colour "
            "for each seed; above the dashed line base run and fork end in different valleys of "
            "the loss, and chaos has ended where the lines fall below it. Right: for each seed the "
            "t0 at which chaos ends, and the iteration at which the kernel is half-way into its "
            "later cone. Bars: as far as the grid of t0 leaves a time open, with an arrow where "
            "it ends. The cross: mean over seeds, 95 % interval. One transition lies in the grey "
            "band, within a factor of two; the numbers are the end of chaos over the time of the "
            "cone, seed by seed.",
            *told,
            "Last: the means of all networks, by when the kernel enters its later cone and by when "
            "it has slowed down; if what moves the end of chaos moves the kernel as much, they lie "
            "along the band, and if the kernel stays, on a level." * (len(means) >= CONDITIONS),
            marks=whole,
        ),
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
    model = study.models[name]
    ends = ends.assign(value=ends["test_barrier"])
    sns.lineplot(ends, x="t0", y="value", hue="seed", palette=style.shades(ends["seed"]), ax=ax,
                 units="run", estimator=None, marker="o", linewidth=1, legend="full")  # fmt: skip
    unit = names.words(study).unit
    style.barriers(ax, ends, model.chaos.barrier_threshold, unit)
    means = [each.mean.value for each in found.values() if not isinstance(each, str)]
    times = [time for time in means if np.isfinite(time)]
    ax.set(
        ylabel=f"test loss barrier ({unit})", xlim=(0, 1.08 * max([1, ends["t0"].max(), *times]))
    )
    style.legend(ax, "seed")
    style.over_iterations(ax, "perturbed at iteration $t_0$", model, found, ends["t0"].unique())


def _plane(horizons: dict[str, Both], ax: Axes) -> None:
    low, high = _limits([time for own in horizons.values() for time in own.values()])
    _band(ax, low, high)
    entries = []
    for what, own in reversed(horizons.items()):
        chaos, cone = own["chaos"].each, own["cone"].each
        colours = style.shades(pd.Series(chaos.index))
        for seed in chaos.index.intersection(cone.index):
            looks = {"color": colours[seed], "alpha": 1 if what == "all" else 0.6}
            _point(ax, chaos.loc[seed], cone.loc[seed], low, high, LOOKS[what], looks)
        shape, fill = LOOKS[what]
        handle = ax.plot([], [], shape, fillstyle=fill, color="0.3", markeredgewidth=1)[0]
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
        axis.set_major_locator(LogLocator(subs=(1,) if high > 200 * low else (1, 3)))
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_formatter("")
    ax.set_box_aspect(1)
    ax.set_anchor("W")


def _point(
    ax: Axes, x: pd.Series, y: pd.Series, low: float, high: float, shape: tuple, looks: dict
) -> None:
    """What is known of the two times of a seed: a bar as long as each is open."""
    (x0, x1), (y0, y1) = (np.clip(each[["low", "high"]], low, high) for each in (x, y))
    middle = (x0 * x1) ** 0.5, (y0 * y1) ** 0.5
    ax.plot([x0, x1], [middle[1]] * 2, linewidth=1, zorder=2, **looks)
    ax.plot([middle[0]] * 2, [y0, y1], linewidth=1, zorder=2, **looks)
    for (at, level), sign, known in (
        ((x0, middle[1]), "<", x["low"] > low),
        ((x1, middle[1]), ">", x["high"] < high),
        ((middle[0], y0), "v", y["low"] > low),
        ((middle[0], y1), "^", y["high"] < high),
    ):
        if not known:
            ax.plot([at], [level], sign, clip_on=False, **looks)
    kind, fill = shape
    ax.plot(*middle, kind, fillstyle=fill, markeredgewidth=1, zorder=3, **looks)


def _cross(ax: Axes, x: Estimate, y: Estimate, low: float, high: float, **looks: object) -> None:
    """Means over seeds, with their intervals; nothing of a single seed."""
    if np.isnan([x.low, y.low]).any() or not 0 < x.value < np.inf:
        return
    (a, b), (c, d) = (np.clip([each.low, each.high], low, high) for each in (x, y))
    at = [np.clip(each.value, low, high) for each in (x, y)]
    ax.plot([a, b], [at[1]] * 2, linewidth=2.2, alpha=0.8, zorder=4, **looks)
    ax.plot([at[0]] * 2, [c, d], linewidth=2.2, alpha=0.8, zorder=4, **looks)


def _conditions(means: dict[str, Both], kernel: str, named: bool, ax: Axes) -> None:
    low, high = _limits([time for own in means.values() for time in own.values()])
    _band(ax, low, high, kernel)
    for color, (name, own) in zip(sns.color_palette("colorblind", len(means)), means.items(),
                                   strict=True):  # fmt: skip
        x, y = own["chaos"].mean, own["cone"].mean
        _cross(ax, x, y, low, high, color=color)
        ax.plot(*np.clip([[x.value], [y.value]], low, high), "o", color=color, label=name, zorder=5)
    if named:
        style.legend(ax)
