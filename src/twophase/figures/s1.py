"""Figure s1: how base run and forks part, step by step."""

from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.panels import Page, Panel
from twophase.study.model import Model, Study

OWN = {
    "ulp": "one unit in the last place of one parameter",
    "noise": "other SGD noise and no perturbation",
    "control": "no perturbation at all",
}
BRANCHES = {"gates": "a ReLU gate", "winners": "a pooling winner"}


def draw(study: Study, tables: style.Tables) -> Page:
    """A panel for each model and t0: distance over steps, with the first flips as dots."""
    rows, titles, flips = [], names.titles(study), set()
    told: dict[str, None] = {}
    for name, model in style.models(study, "growth").items():
        run = f"{name}/seed{study.seeds[0]}"
        growth, rates = (style.wide(tables, table, run) for table in ("growth", "growth_rate"))
        flips.update(branches(growth))
        told |= dict.fromkeys(_told(model))
        first = growth.merge(rates[["t0", "precision", "perturbation", "first_flip"]])
        first = first[first["step"] == first["first_flip"]]
        rows.append(
            [
                Panel(partial(_growth, growth, first, t0), titles[name], share=name)
                for t0 in model.growth.forks
            ]
        )
    seen = " or ".join(text for name, text in BRANCHES.items() if name in flips)
    return names.page(
        study,
        rows,
        f"How base run and forks part, step by step, with seed {study.seeds[0]}: distance of "
        f"the parameters after {', '.join(told)}.",
        f"Dots: the first step at which {seen} differs on a fixed batch." * bool(seen),
    )


def _told(model: Model) -> list[str]:
    """A model's perturbations in words. Those of one name may differ from model to model."""
    kinds = model.chaos.perturbations if model.chaos else {}
    words = {name: names.called(name, kind) for name, kind in kinds.items()} | OWN
    asked = model.growth.perturbations
    return [words.get(each, f"Gaussian noise of deviation {each}") for each in asked]


def branches(growth: pd.DataFrame) -> list[str]:
    """Which of gates and winners a network has: those that differ somewhere. Forks with other SGD
    noise end far apart.
    """
    return [name for name in BRANCHES if growth[name].any()]


def _growth(growth: pd.DataFrame, first: pd.DataFrame, t0: int, ax: Axes) -> None:
    style.scale(ax, growth["l2"])
    looks = {"x": "step", "y": "l2", "hue": "perturbation", "ax": ax}
    looks["palette"] = style.shades(growth["perturbation"])
    dashes = "precision" if growth["precision"].nunique() > 1 else "perturbation"
    sns.lineplot(style.where(growth, t0=t0), style=dashes, estimator=None, **looks)
    flips = style.where(first, t0=t0)
    if len(flips):  # in some studies nothing flips
        sns.scatterplot(flips, legend=False, s=28, zorder=3, **looks)
    ax.set(xlabel=f"step since $t_0$ = {t0:,}", ylabel="distance of the parameters")
    left_out = {"perturbation", "precision"}
    entries = zip(*ax.get_legend_handles_labels(), strict=True)
    style.legend(ax, entries=[each for each in entries if each[1] not in left_out])
