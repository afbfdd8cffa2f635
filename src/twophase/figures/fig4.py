"""Figure 4: kernel distance between all pairs of checkpoints."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """Above: the mean over seeds; below: how far they lie apart, if there are several. One column
    per model; of more than three models, one row, with the two side by side.
    """
    distances = style.summary(tables, "kernel_distance")
    distances = distances.assign(range=distances["high"] - distances["low"])
    models = style.models(study, "kernel")
    rows = [("mean", "mean over seeds"), ("range", "range over seeds (largest − smallest)")]
    if len(study.seeds) == 1:
        rows = [("mean", f"seed {study.seeds[0]}")]
    beside = len(models) > 3
    shape = (len(models), len(rows)) if beside else (len(rows), len(models))
    figure, grid = style.grid(*shape, 2.7, sharex="col", sharey="row" if beside else "col")
    figure.set_figwidth(min(style.WIDTH, 3.8 * shape[1]))  # the panels are square
    axes = grid.T if beside else grid
    for row, (value, label) in zip(axes, rows, strict=True):
        top = distances[value].max()
        for ax, name in zip(row, models, strict=True):
            points = distances[distances["model"] == name].pivot(
                index="t", columns="u", values=value
            )
            image = ax.pcolormesh(
                points.columns,
                points.index,
                points.to_numpy(),
                cmap=style.SEQUENTIAL,
                vmin=0,
                vmax=top,
                rasterized=True,
            )
            ax.set(title=name if value == "mean" else "", aspect="equal")
            style.kernel_times(ax, models[name], "xy")
        text = f"kernel distance $S$, {label}" if value == "mean" else label
        place = "top" if beside else "right"
        figure.colorbar(image, ax=row, label=text, location=place)
    for ax in grid[:, 0]:
        ax.set_ylabel("iteration $t$")
    for ax in grid[-1]:
        ax.set_xlabel("iteration $u$")
    seeds = f"Seed{'s' * (len(study.seeds) > 1)} {', '.join(map(str, study.seeds))}"
    style.note(figure, study, f"{seeds}.\nS: one minus the cosine of the kernels at t and u.")
    return figure
