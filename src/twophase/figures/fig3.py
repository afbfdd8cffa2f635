"""Figure 3: the chaos effect, over perturbation time t0 and comparison time t1."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study

MEASURES = {
    "dissimilarity": "parameter dissimilarity $C$",
    "test_barrier": "test loss barrier (nats)",
    "disagreement": "test disagreement (share)",
}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: dissimilarity, loss barrier and disagreement, a line for each t0."""
    chaos = style.points(tables, "chaos").where(direction="perturbed")
    models = style.models(study, "chaos")
    figure, axes = style.grid(len(models), 3, 2.6)
    looks = style.looks({t0 for model in models.values() for t0 in model.chaos.forks})
    for row, (name, model) in zip(axes, models.items(), strict=True):
        for ax, (measure, label) in zip(row, MEASURES.items(), strict=True):
            points = chaos.where(model=name, measure=measure)
            for t0 in model.chaos.forks:
                style.line(ax, points.where(t0=t0), "t1", **looks[t0], clip_on=False, label=str(t0))
            ax.set(xlabel="compared at iteration $t_1$", ylabel=label, xlim=(0, None))
        row[0].set_title(name)
        style.logarithmic(row[0])
        style.barrier_axis(row[1], model.chaos.barrier_threshold)
        row[2].set_ylim(0, None)
        row[2].legend(title="perturbed\nat $t_0$", loc="center left", bbox_to_anchor=(1, 0.5))
    thresholds = dict.fromkeys(model.chaos.barrier_threshold for model in models.values())
    dashed = " or ".join(f"{each:g}" for each in thresholds)
    style.note(
        figure,
        study,
        f"Each run was perturbed at iteration $t_0$ by {style.perturbation_note(study)}, "
        "then trained on with the same batches, and at $t_1$ compared with its undisturbed self.\n"
        "$C$: 1 − cosine between the parameters of the two. Barrier: the most by which the test "
        "loss on the straight path between them exceeds the line between its ends. Disagreement: "
        "share of test images that the two classify differently. Above the dashed line "
        f"({dashed} nats) the two lie in different valleys of the loss.\n"
        f"{style.runs_note(study, forks=True).capitalize()}.",
    )
    return figure
