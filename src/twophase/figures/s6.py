"""Figure s6: the loss barrier modulo permutation, and the similarity of features."""

from functools import partial

import pandas as pd

from twophase.figures import names, style
from twophase.figures.lines import Lines, forks, row
from twophase.figures.panels import Page
from twophase.study.model import Study

BARRIERS = {
    "test_barrier": "as they are",
    "recalibrated_barrier": "batch norm measured again",
    "matched_barrier": "… and units matched",
}
OVER = partial(Lines, x="t0", markers=True)
BARRIER = OVER("barrier", "test loss barrier (nats)", threshold=True)
OTHERS = (
    OVER("cka", "CKA of last features", floor=True, top=1),
    OVER("moved", "share of units that move", floor=True, top=1),
)
MATCHED = ("matched_barrier", "moved")


def draw(study: Study, tables: style.Tables) -> Page:
    """One row per model and perturbation: barriers, CKA, and the share of moved units, over t0."""
    matching, rows = style.runs(tables, "matching"), []
    again, without = False, []
    for name, model, direction, title in forks(study, "matching"):
        asked, chaos = model.matching.compare, model.chaos
        last = {t: t1 for t in chaos.forks for t1 in chaos.after(t) if not asked or t1 in asked}
        own = style.at_ends(style.where(matching, model=name, direction=direction), last)
        unmatched = not style.where(own, measure="moved")["value"].notna().any()
        without += [name] * (unmatched and name not in without)
        own = own[~own["measure"].isin(MATCHED)] if unmatched else own
        barriers = _lines(own)
        again |= "recalibrated_barrier" in barriers
        each = [lines._replace(over=style.perturbed(last))
                for lines in (BARRIER._replace(each=barriers), *OTHERS)]  # fmt: skip
        rows.append(row(study, name, own, each, title=title))
    return names.page(
        study,
        rows,
        "Do forks end behind a barrier, or is it only that their units have other places? "
        "Left: loss barrier between base run and fork as they are"
        + ", with batch norm's statistics measured again along the path,"
        * again
        + " and after the fork's units were matched with the base run's; dashed: the study's "
        "threshold. Middle: linear CKA of their last hidden features, which no permutation "
        "changes. Right: share of units that the match moves.",
        f"Perturbed by {names.perturbed(study, every=True)}.",
        f"Without a match, for layers of which it is not known what they do to channels: "
        f"{', '.join(without)}." * bool(without),
        marks={},
        forks=True,
    )


def _lines(own: pd.DataFrame) -> dict[str, str]:
    """The barriers that differ: where nothing is changed by measuring batch norm again, it is not
    there, or the barrier is so measured already.
    """
    wide, found = own.pivot(index=["run", "t0"], columns="measure", values="value"), BARRIERS
    if wide["test_barrier"].equals(wide["recalibrated_barrier"]):
        found = {"test_barrier": "as they are", "matched_barrier": "units matched"}
    return {measure: line for measure, line in found.items() if measure in wide}
