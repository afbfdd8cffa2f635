"""Figure 3: the chaos effect, over perturbation time t0 and comparison time t1."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study import Study

MEASURES = {
    "dissimilarity": "parameter dissimilarity $C$",
    "test_barrier": "test loss barrier (nats)",
    "disagreement": "test disagreement (share)",
}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: dissimilarity, loss barrier and disagreement, a line for each t0."""
    chaos = style.points(tables, "chaos").where(direction="perturbed")
    models = style.models(study, "chaos")
    figure, axes = style.grid(len(models), 3, 2.2)
    for row, (name, model) in zip(axes, models.items(), strict=True):
        colors = style.shades(model.chaos.forks)
        for ax, (measure, label) in zip(row, MEASURES.items(), strict=True):
            points = chaos.where(model=name, measure=measure)
            for marker, t0 in zip(style.MARKERS * len(colors), model.chaos.forks, strict=False):
                style.line(
                    ax,
                    points.where(t0=t0),
                    "t1",
                    color=colors[t0],
                    marker=marker,
                    clip_on=False,
                    label=str(t0),
                )
            ax.set(xlabel="compared at iteration $t_1$", ylabel=label, xlim=(0, None))
        row[0].set_title(name)
        style.logarithmic(row[0])
        row[1].axhline(model.chaos.barrier_threshold, color="0.4", linestyle="--", linewidth=0.8)
        for ax in row[1:]:
            ax.set_ylim(0, None)
        row[2].legend(title="perturbed\nat $t_0$", loc="center left", bbox_to_anchor=(1, 0.5))
    thresholds = dict.fromkeys(model.chaos.barrier_threshold for model in models.values())
    runs = style.runs_note(study, forks=True, each=True)
    style.note(
        figure,
        study,
        f"{style.perturbation_note(study).capitalize()}; {runs}.\n"
        f"Dashed: barrier of {' or '.join(f'{each:g}' for each in thresholds)} nats.",
    )
    return figure
