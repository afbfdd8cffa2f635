"""Figure s1: how base run and forks part, step by step."""

from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.panels import Page, Panel
from twophase.store.artifacts import read_table
from twophase.store.paths import Result
from twophase.study.model import Model, Study

OWN = {
    "ulp": "one unit in the last place of one parameter",
    "noise": "other SGD noise and no perturbation",
    "control": "no perturbation at all",
}
BRANCHES = {"gates": "a ReLU gate", "winners": "a pooling winner"}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """A panel for each model and t0: distance over steps, with the first flips as dots."""
    rows, titles, flips = [], names.titles(study), set()
    told: dict[str, None] = {}
    for name, model in style.models(study, "growth").items():
        run = f"{name}/seed{study.seeds[0]}"
        growth, rates = (
            read_table(tables[f"{run}/{table}"]) for table in ("growth", "growth_rate")
        )
        flips.update(branches(growth))
        told |= dict.fromkeys(_told(model))
        first = growth.merge(rates[["t0", "precision", "perturbation", "first_flip"]])
        first = first[first["step"] == first["first_flip"]]
        rows.append(
            [
                Panel(
                    partial(_growth, growth, style.where(growth, t0=t0), style.where(first, t0=t0)),
                    f"{titles[name]}, from $t_0$ = {t0:,}",
                    share=name,
                )
                for t0 in model.growth.forks
            ]
        )
    seen = " or ".join(text for name, text in BRANCHES.items() if name in flips)
    return Page(
        rows,
        names.caption(
            study,
            f"How base run and forks part, step by step, with seed {study.seeds[0]}: distance of "
            f"the parameters after {', '.join(told)}.",
            f"Dots: the first step at which {seen} differs on a fixed batch." if seen else "",
        ),
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


def _growth(every: pd.DataFrame, steps: pd.DataFrame, first: pd.DataFrame, ax: Axes) -> None:
    style.scale(ax, every["l2"])
    palette = dict(zip(every["perturbation"].unique(), sns.color_palette(), strict=False))
    looks = {"hue": "perturbation", "palette": palette, "ax": ax}
    dashes = "precision" if every["precision"].nunique() > 1 else "perturbation"
    sns.lineplot(steps, x="step", y="l2", style=dashes, estimator=None, **looks)
    if len(first):  # in some studies nothing flips
        sns.scatterplot(first, x="step", y="l2", legend=False, s=28, zorder=3, **looks)
    ax.set(xlabel="step since $t_0$", ylabel="distance of the parameters")
    left_out = {"perturbation", "precision"}
    entries = zip(*ax.get_legend_handles_labels(), strict=True)
    style.legend(ax, entries=[each for each in entries if each[1] not in left_out])
