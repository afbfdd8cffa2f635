"""Figure 3: the chaos effect, over perturbation time t0 and comparison time t1."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study

MEASURES = {
    "dissimilarity": "parameter dissimilarity $C$",
    "test_barrier": "test loss barrier (nats)",
    "disagreement": "test disagreement (share)",
}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model: dissimilarity, loss barrier and disagreement, a line for each t0."""
    chaos = style.where(style.runs(tables, "chaos"), direction="perturbed")
    norms = style.where(chaos, measure="perturbation_l2")["value"]
    titles = names.titles(study)
    rows = [
        [
            Panel(partial(_measure, study, name, chaos, measure), titles[name], share=measure)
            for measure in MEASURES
        ]
        for name in style.models(study, "chaos")
    ]
    return Page(
        rows,
        names.caption(
            study,
            "Does a tiny perturbation change where training ends? At iteration t0 a copy of "
            f"each base run got {names.perturbed(study)}; after rounding its L2 norm was "
            f"{norms.min():.2g} to {norms.max():.2g}. It then saw the same batches, and at t1 "
            "is compared with its undisturbed self. C: 1 − cosine between the parameters of the "
            "two. Barrier: the most by which the test loss on the straight path between them "
            "exceeds the line between its ends; above the dashed line the two lie in different "
            "valleys of the loss. Disagreement: share of test images that the two classify "
            "differently.",
            names.every(study, forks=True),
            names.rates(study),
            paper.said(study, *MEASURES),
            style.lost(chaos[chaos["measure"].isin(MEASURES)]),
        ),
    )


def _measure(study: Study, name: str, chaos: pd.DataFrame, measure: str, ax: Axes) -> None:
    model, pooled = study.models[name], style.where(chaos, measure=measure)
    own = style.where(pooled, model=name)
    if measure == "dissimilarity":
        style.scale(ax, pooled["value"])
    style.curves(ax, own, "t1", "t0", style.shades(chaos["t0"]), markers=True)
    ax.set(xlim=(0, None), ylabel=MEASURES[measure])
    if measure == "test_barrier":
        style.barriers(ax, own, model.chaos.barrier_threshold)
    paper.mark(ax, study, model, measure)
    style.legend(ax, "perturbed at $t_0$")
    style.over_iterations(ax, "compared at iteration $t_1$", model)
