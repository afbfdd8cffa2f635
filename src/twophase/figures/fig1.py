"""Figure 1: both effects at a glance, for each model."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """Left: an early and a late fork part from the base run. Right: the kernel's cone."""
    chaos = style.points(tables, "chaos").where(direction="perturbed", measure="test_barrier")
    models = style.models(study, "chaos", "kernel")
    figure, axes = style.grid(len(models), 2, 2.4, width_ratios=(1.25, 1))
    for (left, right), (name, model) in zip(axes, models.items(), strict=True):
        points = chaos.where(model=name)
        forks = dict.fromkeys((model.chaos.forks[0], model.chaos.forks[-1]))
        for t0, color, marker in zip(forks, ("C0", "C1"), "os", strict=False):
            label = f"perturbed at iteration {t0}"
            style.line(
                left,
                points.where(t0=t0),
                "t1",
                color=color,
                marker=marker,
                label=label,
                clip_on=False,
            )
            left.axvline(t0, color=color, linestyle=":", linewidth=1)
        style.barrier_axis(left, model.chaos.barrier_threshold)
        left.set_title(f"{name}: forks and base run", pad=16)
        left.set(xlabel="compared at iteration $t_1$", ylabel="test loss barrier (nats)")
        # Above the data: barriers may be anywhere.
        left.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=2, borderaxespad=0)

        cone = style.projection(study, tables, name)
        for x, y in zip(cone["x"], cone["y"], strict=True):
            right.plot([0, x], [0, y], color="0.85", linewidth=0.6, zorder=0)
        right.plot(cone["x"], cone["y"], color="0.5", linewidth=0.8, zorder=1)
        dots = right.scatter(cone["x"], cone["y"], c=cone["t"], cmap=style.SEQUENTIAL, s=12)
        right.plot(0, 0, "k+", markersize=7)
        right.set(
            title="the kernel's cone",
            xlabel=f"1st direction of $H/|H|$ ({cone['x_share'][0]:.0%})",
            ylabel=f"2nd ({cone['y_share'][0]:.0%})",
            aspect="equal",
        )
        figure.colorbar(dots, ax=right, label="iteration $t$")
    seed, runs = study.seeds[0], style.runs_note(study, forks=True)
    style.note(
        figure,
        study,
        f"Left: perturbed by {style.perturbation_note(study)}; {runs}.\n"
        f"Right: kernels of seed {seed}, scaled to norm 1; + is 0, the apex; %: share of squares.",
    )
    return figure
