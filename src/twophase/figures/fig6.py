"""Figure 6: train normally to a switch, then the linearised network to the end."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study import Study


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """Test accuracy and loss at the end over the switch, with normal training for comparison."""
    ends, training = (
        style.summary(tables, "linearized"),
        style.summary(tables, "training"),
    )
    models = style.models(study, "linearized")
    figure, axes = style.grid(2, len(models), 2.1, sharex="col")
    rows = {"test_accuracy": "test accuracy (share)", "test_loss": "test loss (nats)"}
    for row, (measure, label) in zip(axes, rows.items(), strict=True):
        for ax, (name, model) in zip(row, models.items(), strict=True):
            points = ends[(ends["model"] == name) & (ends["measure"] == measure)]
            style.line(ax, points, "switch", color="C0", marker="o", label="linearised from $t$ on")
            last = model.training.iterations
            full = training[
                (training["model"] == name)
                & (training["measure"] == measure)
                & (training["t"] == last)
            ].iloc[0]
            ax.axhline(full["mean"], color="C1", linestyle="--", label="normal training")
            ax.axhspan(full["low"], full["high"], color="C1", alpha=0.18, linewidth=0)
            if measure == "test_loss":
                style.logarithmic(ax)
                ax.set_xlabel("switch $t$ (iteration)")
            else:
                ax.set(title=f"{name}: end of training, {last} iterations")
        row[0].set_ylabel(label)
    axes[0, 0].legend(loc="lower right")
    style.note(figure, study, style.runs_note(study).capitalize() + ".")
    return figure
