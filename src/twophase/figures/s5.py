"""Figure s5: the map of the trajectory through the space of parameters."""

from twophase.figures import maps, names, style
from twophase.figures.panels import Page
from twophase.study.model import Study

MAPS = {
    "cosine": r"$\cos(\theta_t, \theta_u)$",
    "displacement_cosine": r"$\cos(\theta_t - \theta_0, \theta_u - \theta_0)$",
    "l2": r"$|\theta_t - \theta_u|$",
}


def draw(study: Study, tables: style.Tables) -> Page:
    """One row per model: means over seeds of three maps of all pairs of checkpoints."""
    pairs, seeds = style.summary(tables, "trajectory"), study.seeds
    rows = [
        [
            maps.panel(study, name, style.where(pairs, measure=measure), "mean", label)
            for measure, label in MAPS.items()
        ]
        for name in style.models(study, "trajectory")
    ]
    return names.page(
        study,
        rows,
        "The way through the space of parameters: cosines of the parameters, cosines of their "
        "displacements from the start, and distances, between all pairs of checkpoints of a "
        "base run, one beside the other whatever the iterations between them.",
        f"Means over {len(seeds)} seeds." if len(seeds) > 1 else f"One run, seed {seeds[0]}.",
        marks={},
    )
