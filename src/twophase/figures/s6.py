"""Figure s6: the loss barrier modulo permutation, and the similarity of features."""

from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.chaos import PERTURBED
from twophase.study.model import Model, Study

BARRIERS = {
    "test_barrier": "as they are",
    "recalibrated_barrier": "batch norm measured again",
    "matched_barrier": "… and units matched",
}
MATCHED = ("matched_barrier", "moved")
OTHERS = {"cka": "linear CKA of last features", "moved": "share of units that move"}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model and perturbation: barriers, CKA, and the share of moved units, over t0."""
    matching = style.runs(tables, "matching")
    titles, rows, again = names.titles(study), [], False
    without: list[str] = []
    models = style.models(study, "matching")
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
        lines = {key: line for key, line in _lines(own).items() if key in {*own["measure"]}}
        again |= "recalibrated_barrier" in lines
        title = f"{titles[name]}{f': {kind}' * bool(kind)}, {style.when(last)}"
        rows.append(
            [Panel(partial(_barriers, model, own, lines), title, share="barrier")]
            + [
                Panel(partial(_other, model, own, measure), title, measure)
                for measure in OTHERS
                if measure in {*own["measure"]}
            ]
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
            names.every(study, forks=True),
            f"Without a match, for layers of which it is not known what they do to channels: "
            f"{', '.join(without)}." * bool(without),
            style.lost(
                matching[~(matching["model"].isin(without) & matching["measure"].isin(MATCHED))]
            ),
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


def _barriers(model: Model, own: pd.DataFrame, lines: dict[str, str], ax: Axes) -> None:
    shown = own.assign(line=own["measure"].map(lines)).dropna(subset="line")
    palette = dict(zip(lines.values(), sns.color_palette(), strict=False))
    style.curves(ax, shown, "t0", "line", palette, markers=True, dashes=True)
    style.barriers(ax, shown, model.chaos.barrier_threshold)
    style.legend(ax, columns=1)
    style.over_iterations(ax, "perturbed at iteration $t_0$", model)


def _other(model: Model, own: pd.DataFrame, measure: str, ax: Axes) -> None:
    shown = style.where(own, measure=measure)
    style.curves(ax, shown, "t0", marker="o")
    ax.set(ylabel=OTHERS[measure], ylim=(min(0, shown["value"].min()), 1))
    style.over_iterations(ax, "perturbed at iteration $t_0$", model)
