"""Figure s5: the map of the trajectory through the space of parameters."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study

MAPS = {
    "cosine": r"$\cos(\theta_t, \theta_u)$",
    "displacement_cosine": r"$\cos(\theta_t - \theta_0, \theta_u - \theta_0)$",
    "l2": r"$|\theta_t - \theta_u|$",
}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: means over seeds of three maps of all pairs of checkpoints."""
    pairs = style.summary(tables, "trajectory")
    models = style.models(study, "trajectory")
    figure, axes = style.grid(len(models), 3, 1.8)
    for row, name in zip(axes, models, strict=True):
        for ax, (measure, label) in zip(row, MAPS.items(), strict=True):
            own = pairs[(pairs["model"] == name) & (pairs["measure"] == measure)]
            grid = own.pivot(index="t", columns="u", values="mean")
            image = ax.pcolormesh(
                grid.columns, grid.index, grid.to_numpy(), cmap=style.SEQUENTIAL, rasterized=True
            )
            ax.set(xlabel="iteration $u$", ylabel="iteration $t$", box_aspect=1)
            bar = figure.colorbar(image, ax=ax, label=label, shrink=0.7)
            bar.formatter.set_useOffset(False)
        row[0].set_title(name)
    seeds = study.seeds
    many = f"Means over {len(seeds)} seeds." if len(seeds) > 1 else f"One run, seed {seeds[0]}."
    style.note(figure, study, many)
    return figure
