"""Figure s2: the chaos effect over the size of the perturbation."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study

MEASURES = {
    "test_barrier": "test loss barrier (nats)",
    "disagreement": "test disagreement (share)",
    "l2": "distance of the parameters",
}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: barrier, disagreement and distance over size, a line for each t0."""
    sizes = style.points(tables, "sizes")
    models = style.models(study, "sizes")
    figure, axes = style.grid(len(models), 3, 2.35)
    for row, (name, model) in zip(axes, models.items(), strict=True):
        forks = model.sizes.forks or model.chaos.forks
        looks = style.looks(forks)
        for ax, (measure, label) in zip(row, MEASURES.items(), strict=True):
            points = sizes.where(model=name, measure=measure)
            for t0 in forks:
                style.line(
                    ax, points.where(t0=t0), "size", **looks[t0], clip_on=False, label=str(t0)
                )
            ax.axvline(model.chaos.perturbation.size, color="0.6", linestyle=":", linewidth=0.8)
            ax.set(xlabel=f"size of the perturbation ({model.chaos.perturbation.kind})")
            ax.set(xscale="log", ylabel=label)
        row[0].set_title(f"{name}: {style.when(model.chaos.ends())}")
        style.barrier_axis(row[0], model.chaos.barrier_threshold)
        row[1].set_ylim(0, None)
        style.logarithmic(row[2])
        row[2].legend(title="perturbed\nat $t_0$", loc="center left", bbox_to_anchor=(1, 0.5))
    style.note(
        figure,
        study,
        "Each run was perturbed at $t_0$ by the same noise times a size, and trained on with the "
        "same batches.\nDotted: the size of all other figures. Above the dashed line the two lie "
        "in different valleys of the loss.\n"
        f"{style.runs_note(study, forks=True).capitalize()}.",
    )
    return figure
