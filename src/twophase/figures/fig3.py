"""Figure 3: the chaos effect, over perturbation time t0 and comparison time t1."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.chaos import CONTROL, PERTURBED
from twophase.study.model import Study

MEASURES = {
    "dissimilarity": "parameter dissimilarity $C$",
    "test_barrier": "test loss barrier (nats)",
    "disagreement": "test disagreement (share)",
}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model and perturbation: dissimilarity, loss barrier and disagreement, a line for
    each t0.
    """
    chaos = style.runs(tables, "chaos")
    chaos = chaos[chaos["direction"] != CONTROL]
    titles = names.titles(study)
    rows = [
        [
            Panel(
                partial(_measure, study, name, kind or PERTURBED, chaos, measure),
                f"{titles[name]}: {kind}" if kind else titles[name],
                share=measure,
            )
            for measure in MEASURES
        ]
        for name, model in style.models(study, "chaos").items()
        for kind in model.chaos.kinds()
    ]
    return Page(
        rows,
        names.caption(
            study,
            "Does a tiny perturbation change where training ends? At iteration t0 a copy of "
            f"each base run got {_told(study, chaos)}. It then {names.then(study, every=True)}, "
            "and at t1 is compared with its undisturbed self. C: 1 − cosine between the parameters "
            "of the two. Barrier: the most by which the test loss on the straight path between "
            "them exceeds the line between its ends; above the dashed line the two lie in "
            "different valleys of the loss. Disagreement: share of test images that the two "
            "classify differently.",
            names.every(study, forks=True),
            names.rates(study),
            paper.said(study, *MEASURES),
            style.lost(chaos[chaos["measure"].isin(MEASURES)]),
        ),
    )


def _told(study: Study, chaos: pd.DataFrame) -> str:
    """The perturbations in words, with their realised norms."""
    found = style.where(chaos, measure="perturbation_l2")
    if not any(model.chaos.perturbations for model in style.models(study, "chaos").values()):
        return names.perturbed(study) + _norms(found["value"])
    said = []
    for key, kind in names.perturbations(study).items():
        name, _, model = key.partition(" of ")
        own = style.where(found, direction=name or PERTURBED)
        own = style.where(own, model=model) if model else own
        said.append(f"{name}, {names.noise(kind)}{_norms(own['value'])}")
    return "one of these. " + ". ".join(said)


def _norms(norms: pd.Series) -> str:
    """Their range; nothing, where nothing was added."""
    if not norms.any():
        return ""
    return f"; after rounding its L2 norm was {norms.min():.2g} to {norms.max():.2g}"


def _measure(
    study: Study, name: str, kind: str, chaos: pd.DataFrame, measure: str, ax: Axes
) -> None:
    model, pooled = study.models[name], style.where(chaos, measure=measure)
    own = style.where(pooled, model=name, direction=kind)
    if measure == "dissimilarity":
        style.scale(ax, pooled["value"])
    style.curves(ax, own, "t1", "t0", style.shades(chaos["t0"]), markers=True)
    ax.set(xlim=(0, None), ylabel=MEASURES[measure])
    if measure == "test_barrier":
        style.barriers(ax, own, model.chaos.barrier_threshold)
    paper.mark(ax, study, model, measure)
    style.legend(ax, "perturbed at $t_0$")
    style.over_iterations(ax, "compared at iteration $t_1$", model)
