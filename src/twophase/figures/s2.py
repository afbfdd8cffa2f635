"""Figure s2: the chaos effect over the size of the perturbation."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study
from twophase.study.sizes import sized, sized_name

MEASURES = {
    "test_barrier": "test loss barrier (nats)",
    "disagreement": "test disagreement (share)",
    "l2": "distance of the parameters",
}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model: barrier, disagreement and distance over size, a line for each t0."""
    sizes = style.runs(tables, "sizes")
    titles = names.titles(study)
    rows = [
        [
            Panel(
                partial(_measure, study, name, sizes, measure),
                f"{titles[name]}, {style.when(model.chaos.ends())}",
                share=measure,
            )
            for measure in MEASURES
        ]
        for name, model in style.models(study, "sizes").items()
    ]
    return Page(
        rows,
        names.caption(
            study,
            "Does the size of the perturbation matter? Each run was perturbed at t0 by the same "
            "noise times a size, trained on with the same batches, and compared at the last t1. "
            "Dotted: the size of all other figures, "
            f"{_told(study)}. Above the dashed line the two lie in different valleys of "
            "the loss.",
            names.every(study, forks=True),
            style.lost(sizes[sizes["measure"].isin(MEASURES)]),
        ),
    )


def _told(study: Study) -> str:
    """The perturbations whose sizes these are, in words."""
    kinds = [sized(model) for model in style.models(study, "sizes").values()]
    return " or ".join(dict.fromkeys(map(names.noise, kinds)))


def _measure(study: Study, name: str, sizes: pd.DataFrame, measure: str, ax: Axes) -> None:
    model, pooled = study.models[name], style.where(sizes, measure=measure)
    own = style.where(pooled, model=name)
    if measure == "l2":
        style.scale(ax, pooled["value"])
    ax.set_xscale("log")  # sizes are positive
    style.curves(ax, own, "size", "t0", style.shades(sizes["t0"]), markers=True)
    kind, called = sized(model), sized_name(model)
    ax.axvline(kind.size, color="0.6", linestyle=":", linewidth=0.8)
    said = f"{called}, {kind.kind}" if called else kind.kind
    ax.set(xlabel=f"size of the perturbation ({said})", ylabel=MEASURES[measure])
    if measure == "test_barrier":
        style.barriers(ax, own, model.chaos.barrier_threshold)
    style.legend(ax, "perturbed at $t_0$")
