"""Figure 3: the chaos effect, over perturbation time t0 and comparison time t1."""

from pathlib import Path

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.study import Study

MEASURES = {
    "dissimilarity": "parameter dissimilarity $C$",
    "test_barrier": "test loss barrier (nats)",
    "disagreement": "test disagreement (share)",
}


def draw(study: Study, tables: dict[str, Path]) -> Figure:
    """One row per model: dissimilarity, loss barrier and disagreement, a line for each t0."""
    chaos = style.summary(study, tables, "chaos").query("direction == 'perturbed'")
    figure, axes = style.grid(len(study.models), 3, 2.2)
    for row, (name, plan) in zip(axes, study.models.items(), strict=True):
        colors = style.shades(plan.chaos.forks)
        for ax, (measure, label) in zip(row, MEASURES.items(), strict=True):
            points = chaos[(chaos["model"] == name) & (chaos["measure"] == measure)]
            for marker, t0 in zip(style.MARKERS * len(colors), plan.chaos.forks, strict=False):
                style.line(
                    ax,
                    points[points["t0"] == t0],
                    "t1",
                    color=colors[t0],
                    marker=marker,
                    label=str(t0),
                )
            ax.set(xlabel="compared at iteration $t_1$", ylabel=label, xlim=(0, None))
        row[0].set(title=name, yscale="log")
        threshold = plan.chaos.barrier_threshold
        row[1].axhline(threshold, color="0.4", linestyle="--", linewidth=0.8)
        label = f"threshold {threshold:g}"
        row[1].annotate(
            label,
            (0.01, threshold),
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize="x-small",
        )
        for ax in row[1:]:
            ax.set_ylim(0, None)
        row[2].legend(title="perturbed\nat $t_0$", loc="center left", bbox_to_anchor=(1, 0.5))
    style.note(figure, style.runs_note(study, forks=True).capitalize() + ".")
    return figure
