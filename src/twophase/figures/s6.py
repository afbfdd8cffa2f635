"""Figure s6: the loss barrier modulo permutation, and the similarity of features."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.lines import Lines, panel
from twophase.figures.panels import Page
from twophase.store.paths import Result
from twophase.study.chaos import PERTURBED
from twophase.study.model import Study

BARRIERS = {
    "test_barrier": "as they are",
    "recalibrated_barrier": "batch norm measured again",
    "matched_barrier": "… and units matched",
}
OVER = partial(Lines, x="t0", over="perturbed at iteration $t_0$", markers=True)
BARRIER = OVER("barrier", "test loss barrier (nats)", hue="line", threshold=True)
OTHERS = (
    OVER("cka", "CKA of last features", floor=True),
    OVER("moved", "share of units that move", floor=True),
)
MATCHED = ("matched_barrier", "moved")


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model and perturbation: barriers, CKA, and the share of moved units, over t0."""
    matching, models = style.runs(tables, "matching"), style.models(study, "matching")
    rows, again = [], False
    without: list[str] = []
    each = [(name, kind) for name, model in models.items() for kind in model.chaos.kinds()]
    for name, kind in each:
        model = models[name]
        chosen, chaos = model.matching.compare, model.chaos
        last = {t: t1 for t in chaos.forks for t1 in chaos.after(t) if not chosen or t1 in chosen}
        found = style.where(matching, model=name, direction=kind or PERTURBED)
        own = style.at_ends(found, last)
        unmatched = not style.where(own, measure="moved")["value"].notna().any()
        without += [name] * (unmatched and name not in without)
        own = own[~own["measure"].isin(MATCHED)] if unmatched else own
        there = {*own["measure"]}
        said = {key: line for key, line in _lines(own).items() if key in there}
        again |= "recalibrated_barrier" in said
        barriers = own.assign(line=own["measure"].map(said), measure="barrier")
        barriers = barriers.dropna(subset="line")
        title = f"{names.titles(study)[name]}{f': {kind}' * bool(kind)}, {style.when(last)}"
        others = [lines for lines in OTHERS if lines.measure in there]
        rows.append(
            [panel(study, name, barriers, BARRIER, title=title)]
            + [panel(study, name, own, lines, title=title, then=_to_one) for lines in others]
        )
    return Page(
        rows,
        names.caption(
            study,
            "Do forks end behind a barrier, or is it only that their units have other places? "
            "Left: loss barrier between base run and fork as they are"
            + ", with batch norm's statistics measured again along the path,"
            * again
            + " and after the fork's units were matched with the base run's; dashed: the study's "
            "threshold. Middle: linear CKA of their last hidden features, which no permutation "
            "changes. Right: share of units that the match moves.",
            f"Perturbed by {names.all_perturbed(study)}.",
            f"Without a match, for layers of which it is not known what they do to channels: "
            f"{', '.join(without)}." * bool(without),
            style.lost(
                matching[~(matching["model"].isin(without) & matching["measure"].isin(MATCHED))]
            ),
            marks={},
            forks=True,
        ),
    )


def _lines(own: pd.DataFrame) -> dict[str, str]:
    """The barriers that differ: where nothing is changed by measuring batch norm again, it is not
    there, or the barrier is so measured already.
    """
    wide = own.pivot(index=["run", "t0"], columns="measure", values="value")
    if wide["test_barrier"].equals(wide["recalibrated_barrier"]):
        return {"test_barrier": "as they are", "matched_barrier": "units matched"}
    return BARRIERS


def _to_one(ax: Axes) -> None:
    ax.set_ylim(None, 1)
