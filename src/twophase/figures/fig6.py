"""Figure 6: train normally to a switch, then the linearised network to the end."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """Test accuracy and loss at the end over the switch, with normal training for comparison."""
    ends, training = style.points(tables, "linearized"), style.points(tables, "training")
    models = style.models(study, "linearized")
    figure, axes = style.grid(2, len(models), 2.1, sharex="col")
    rows = {"test_accuracy": "test accuracy (share)", "test_loss": "test loss (nats)"}
    for row, (measure, label) in zip(axes, rows.items(), strict=True):
        for ax, (name, model) in zip(row, models.items(), strict=True):
            points = ends.where(model=name, measure=measure)
            style.line(ax, points, "switch", color="C0", marker="o", label="linearised from $t$ on")
            last = model.training.iterations
            full = training.where(model=name, measure=measure, t=last)
            mean = full.means["mean"].item()
            ax.axhline(mean, color="C1", linestyle="--", label="normal training")
            for value in full.each["value"]:
                ax.axhline(value, color="C1", linewidth=0.6, alpha=0.5, zorder=1)
            if measure == "test_loss":
                style.logarithmic(ax)
                ax.set_xlabel("switch $t$ (iteration)")
            else:
                ax.set(title=f"{name}: {last} iterations")
        row[0].set_ylabel(label)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", ncols=2)
    runs = style.runs_note(study).capitalize()
    style.note(figure, study, f"At the end of training, after so many iterations. {runs}.")
    return figure
