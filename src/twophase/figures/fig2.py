"""Figure 2: our protocol, drawn over the training curves. It is not the paper's figure 2."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """Loss and accuracy of the base runs; under them the iterations that each stage uses."""
    training = style.points(tables, "training")
    figure, axes = style.grid(
        2 * len(study.models), 2, 1.35, sharex="row", height_ratios=(2, 1) * len(study.models)
    )
    for index, (name, model) in enumerate(study.models.items()):
        curves, marks = axes[2 * index], axes[2 * index + 1]
        for ax, measure, unit in zip(curves, ("loss", "accuracy"), ("nats", "share"), strict=True):
            for split, color, dashes in (("train", "C0", "--"), ("test", "C1", "-")):
                points = training.where(model=name, measure=f"{split}_{measure}")
                style.line(ax, points, "t", color=color, linestyle=dashes, label=split)
            ax.set(title=f"{name}: {measure}", ylabel=f"{measure} ({unit})")
            ax.legend()
        style.logarithmic(curves[0])
        rows: dict[str, tuple] = {}
        if model.chaos:
            rows["forks $t_0$"] = (model.chaos.forks, "C3", "v")
            rows["compared $t_1$"] = (model.chaos.compared(), "C0", "|")
        if model.kernel:
            rows["kernels $t$"] = (model.kernel.steps(), "C2", "|")
        if model.linearized:
            rows["linearised from"] = (model.linearized.switches, "C4", "D")
        for ax in marks:
            for height, (iterations, color, marker) in enumerate(rows.values()):
                ax.plot(iterations, [-height] * len(iterations), marker, color=color, clip_on=False)
            ax.set(xlabel="iteration", ylim=(-len(rows) + 0.4, 0.6))
            ax.set_yticks([-height for height in range(len(rows))], list(rows))
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
    style.note(
        figure,
        study,
        f"Protocol of this replication. {style.runs_note(study).capitalize()}.",
    )
    return figure
