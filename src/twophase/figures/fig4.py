"""Figure 4: kernel distance between all pairs of checkpoints."""

from twophase.figures import maps, names, paper, style
from twophase.figures.panels import Page
from twophase.study.model import Study


def draw(study: Study, tables: style.Tables) -> Page:
    """A row for each model: the mean over seeds, and how far these lie apart, if there are
    several.
    """
    distances = style.summary(tables, "kernel_distance")
    distances = distances.assign(range=distances["high"] - distances["low"])
    models, marks = style.models(study, "kernel"), style.transitions(study, tables)
    several = len(study.seeds) > 1
    shown = {"mean": "kernel distance $S$" + ", mean" * several}
    shown |= {"range": "range over seeds"} if several else {}
    rows = []
    for name, model in models.items():
        blocks = paper.marks(study, model, "blocks")
        looks = {"marks": marks[name], "blocks": blocks, "height": 2.4, "vmin": 0}
        rows.append(
            [
                maps.panel(
                    study, name, distances, value, label, vmax=distances[value].max(), **looks
                )
                for value, label in shown.items()
            ]
        )
    seeds = ", ".join(map(str, study.seeds))
    of = "mean over seeds, and their range (largest − smallest)" if several else f"seed {seeds}"
    return names.page(
        study,
        rows,
        "Kernel distance S, one minus the cosine, between the tangent kernels at all pairs of "
        f"iterations of a run: {of}. A dark block on the diagonal is a time in which the "
        "kernel keeps its direction.",
        f"Seeds {seeds}." * several,
        "A row and a column for each kernel, which are not evenly spaced in time."
        * any(model.kernel.times for model in models.values()),
        "Grey bars beside the axes: about where the paper's blocks meet."
        * any(paper.marks(study, model, "blocks") for model in models.values()),
        marks=marks,
    )
