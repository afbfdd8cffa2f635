"""Figure 3: the chaos effect, over perturbation time t0 and comparison time t1."""

import pandas as pd

from twophase.figures import names, style
from twophase.figures.lines import AGAINST, against, forks, row
from twophase.figures.panels import Page
from twophase.study.chaos import CONTROL, PERTURBED
from twophase.study.model import Study

MEASURES = (
    AGAINST("dissimilarity", "parameter dissimilarity $C$", log=True),
    AGAINST("test_barrier", "test loss barrier (nats)", threshold=True),
    AGAINST("disagreement", "test disagreement (share)"),
)


def draw(study: Study, tables: style.Tables) -> Page:
    """One row per model and perturbation: dissimilarity, loss barrier and disagreement, a line for
    each t0, or over t0.
    """
    chaos = style.runs(tables, "chaos")
    chaos = chaos[chaos["direction"] != CONTROL]
    marks, rows = style.transitions(study, tables), []
    for name, model, direction, title in forks(study):
        times = marks if direction == model.chaos.main() else {}
        rows.append(row(study, name, chaos, against(model, MEASURES), times, title, direction))
    return names.page(
        study,
        rows,
        "Does a tiny perturbation change where training ends? At iteration t0 a copy of "
        f"each base run got {_told(study, chaos)}. It then {names.then(study, every=True)}, "
        "and at t1 is compared with its undisturbed self. C: 1 − cosine between the parameters "
        "of the two. Barrier: the most by which the test loss on the straight path between "
        "them exceeds the line between its ends; above the dashed line the two lie in "
        f"different valleys of the loss. Disagreement: {names.words(study).disagreement}.",
        marks=marks,
        forks=True,
    )


def _told(study: Study, chaos: pd.DataFrame) -> str:
    """The perturbations in words, with their realised norms; those of one name may differ."""
    found, models = style.where(chaos, measure="perturbation_l2"), style.models(study, "chaos")
    if not any(model.chaos.perturbations for model in models.values()):
        return names.perturbed(study) + _norms(found["value"])
    of: dict[tuple[str, str], list[str]] = {}  # models, by the perturbation that they have
    for model, own in models.items():
        for name, kind in own.chaos.kinds().items():
            of.setdefault((name, names.noise(kind)), []).append(model)
    said = []
    for (name, noise), its in of.items():
        own = style.where(found, direction=name or PERTURBED)
        norms = _norms(own.loc[own["model"].isin(its), "value"])
        called = name + f" of {', '.join(its)}" * ([n for n, _ in of].count(name) > 1)
        said.append(f"{called}, {noise}{norms}".removeprefix(", "))
    return "one of these. " + ". ".join(said)


def _norms(norms: pd.Series) -> str:
    """Their range; nothing, where nothing was added."""
    if not norms.any():
        return ""
    ends = dict.fromkeys(f"{norm:.2g}" for norm in (norms.min(), norms.max()))
    return f"; after rounding its L2 norm was {' to '.join(ends)}"
