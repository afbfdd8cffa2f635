"""Figure s5: the map of the trajectory through the space of parameters."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.panels import Page, Panel
from twophase.store.paths import Result
from twophase.study.model import Study

MAPS = {
    "cosine": r"$\cos(\theta_t, \theta_u)$",
    "displacement_cosine": r"$\cos(\theta_t - \theta_0, \theta_u - \theta_0)$",
    "l2": r"$|\theta_t - \theta_u|$",
}


def draw(study: Study, tables: dict[str, Result]) -> Page:
    """One row per model: means over seeds of three maps of all pairs of checkpoints."""
    pairs = style.summary(tables, "trajectory")
    titles, seeds = names.titles(study), study.seeds
    rows = [
        [Panel(partial(_map, study, name, pairs, measure), titles[name]) for measure in MAPS]
        for name in style.models(study, "trajectory")
    ]
    return Page(
        rows,
        names.caption(
            study,
            "The way through the space of parameters: cosines of the parameters, cosines of their "
            "displacements from the start, and distances, between all pairs of checkpoints of a "
            "base run, one beside the other whatever the iterations between them.",
            f"Means over {len(seeds)} seeds." if len(seeds) > 1 else f"One run, seed {seeds[0]}.",
            marks={},
            drops="Dotted white",
        ),
    )


def _map(study: Study, name: str, pairs: pd.DataFrame, measure: str, ax: Axes) -> None:
    own = style.where(pairs, model=name, measure=measure)
    grid = own.pivot(index="t", columns="u", values="mean")
    style.pairs(ax, study.models[name], grid, MAPS[measure])
