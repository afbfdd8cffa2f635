"""Figure 6: train normally to a switch, then the linearised network to the end."""

from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from twophase.figures import names, paper, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study

MEASURES = {"test_accuracy": "test accuracy (share)", "test_loss": "test loss (nats)"}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """Test accuracy and loss at the end over the switch, with normal training for comparison."""
    ends = style.runs(tables, "linearized").assign(how="linearised from $t$ on")
    normal = style.runs(tables, "training").assign(how="normal training")
    titles, rows = names.titles(study), []
    for name, model in style.models(study, "linearized").items():
        last = style.where(normal, model=name, t=model.training.iterations)
        switches = model.linearized.switches
        level = [last.assign(switch=each) for each in {switches[0], switches[-1]}]
        shown = pd.concat([style.where(ends, model=name), *level], ignore_index=True)
        rows.append(
            [
                Panel(
                    partial(_ends, study, name, shown, ends, measure),
                    f"{titles[name]}: at iteration {model.training.iterations:,}",
                    share=measure,
                )
                for measure in MEASURES
            ]
        )
    return Page(
        rows,
        names.caption(
            study,
            "Training is normal up to the switch t. From there to the end the first-order Taylor "
            "model in the parameters at t is trained instead, the network in evaluation mode. Test "
            "accuracy and loss (cross-entropy) at the end.",
            names.every(study),
            names.rates(study),
            paper.said(study, "test_accuracy").replace("; of forks, those from its first t0", "")
            + style.lost(ends[ends["measure"].isin(MEASURES)]),
        ),
    )


def _ends(
    study: Study, name: str, shown: pd.DataFrame, ends: pd.DataFrame, measure: str, ax: Axes
) -> None:
    own = style.where(shown, measure=measure)
    if measure == "test_loss":
        style.scale(ax, [*style.where(ends, measure=measure)["value"], *own["value"]])
    palette = dict(zip(own["how"].unique(), sns.color_palette(n_colors=2), strict=True))
    style.curves(ax, own, "switch", "how", palette, markers=True)
    ax.set_ylabel(MEASURES[measure])
    paper.mark(ax, study, study.models[name], measure)
    style.legend(ax)
    style.over_iterations(ax, "switch $t$ (iteration)", study.models[name])
