"""Figure 3: the chaos effect, over perturbation time t0 and comparison time t1."""

import pandas as pd

from twophase.figures import names, paper, style
from twophase.figures.lines import AGAINST, against, row
from twophase.figures.panels import Page
from twophase.store.paths import Result
from twophase.study.chaos import CONTROL, PERTURBED
from twophase.study.model import Study

MEASURES = (
    AGAINST("dissimilarity", "parameter dissimilarity $C$", log=True),
    AGAINST("test_barrier", "test loss barrier (nats)", threshold=True),
    AGAINST("disagreement", "test disagreement (share)"),
)


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model and perturbation: dissimilarity, loss barrier and disagreement, a line for
    each t0, or over t0.
    """
    chaos = style.runs(tables, "chaos")
    chaos = chaos[chaos["direction"] != CONTROL]
    marks, measures = style.transitions(study, tables), [each.measure for each in MEASURES]
    rows = []
    for name, model in style.models(study, "chaos").items():
        for index, kind in enumerate(model.chaos.kinds()):
            title = names.titles(study)[name] + f": {kind}" * bool(kind)
            hidden = (chaos["model"] == name) & (chaos["direction"] != (kind or PERTURBED))
            shown = marks if index == 0 else {}  # times are those of the first
            title, each = against(model, title, MEASURES)
            rows.append(row(study, name, chaos[~hidden], each, shown, title=title))
    return Page(
        rows,
        names.caption(
            study,
            "Does a tiny perturbation change where training ends? At iteration t0 a copy of "
            f"each base run got {_told(study, chaos)}. It then {names.then(study, every=True)}, "
            "and at t1 is compared with its undisturbed self. C: 1 − cosine between the parameters "
            "of the two. Barrier: the most by which the test loss on the straight path between "
            "them exceeds the line between its ends; above the dashed line the two lie in "
            f"different valleys of the loss. Disagreement: {names.words(study).disagreement}.",
            paper.said(study, *measures),
            style.lost(chaos[chaos["measure"].isin(measures)]),
            marks=marks,
            forks=True,
        ),
    )


def _told(study: Study, chaos: pd.DataFrame) -> str:
    """The perturbations in words, with their realised norms."""
    found = style.where(chaos, measure="perturbation_l2")
    if not any(model.chaos.perturbations for model in style.models(study, "chaos").values()):
        return names.perturbed(study) + _norms(found["value"])
    said, every = [], names.perturbations(study)
    for name, kind, models in every:
        own = style.where(found, direction=name or PERTURBED)
        own = own[own["model"].isin(models)]
        several = [other for other, *_ in every].count(name) > 1
        called = name + f" of {', '.join(models)}" * several
        said.append(f"{called}, {names.noise(kind)}{_norms(own['value'])}".removeprefix(", "))
    return "one of these. " + ". ".join(said)


def _norms(norms: pd.Series) -> str:
    """Their range; nothing, where nothing was added."""
    if not norms.any():
        return ""
    ends = dict.fromkeys(f"{norm:.2g}" for norm in (norms.min(), norms.max()))
    return f"; after rounding its L2 norm was {' to '.join(ends)}"
