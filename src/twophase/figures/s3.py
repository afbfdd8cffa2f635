"""Figure s3: the cone in numbers."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: the cone's radius beside its nulls, the exponent, the velocity."""
    cone = style.points(tables, "cone")
    models = style.models(study, "kernel")
    figure, axes = style.grid(len(models), 3, 2.2)
    for (radius, exponent, velocity), (name, model) in zip(axes, models.items(), strict=True):
        own = cone.where(model=name)
        kernels, walk = own.where(measure="radius"), own.where(measure="null_radius")
        style.line(radius, kernels, "t", color="C0", label="kernels from $t$ on")
        style.line(radius, walk, "t", color="C1", linestyle="--", label="random walk")
        if model.across_seeds:
            seeds = style.points(tables, "across_seeds").where(model=name)
            style.line(radius, seeds, "t", color="C2", linestyle="-.", label="other seeds at $t$")
        radius.set(title=name, ylabel="radius of the cone (degrees)", ylim=(0, None))
        radius.legend(fontsize="x-small", loc="lower left")
        style.line(exponent, own.where(measure="exponent"), "t", color="C0")
        for height in (0, 1):
            exponent.axhline(height, color="0.5", linestyle=":", linewidth=0.8)
        exponent.set(ylabel="exponent of $S(t, t + dt)$ in $dt$")
        style.line(velocity, own.where(measure="velocity"), "t", color="C0")
        velocity.set(ylabel="kernel velocity (1/iteration)")
        style.logarithmic(velocity)
        for ax in (radius, exponent, velocity):
            ax.set_xlabel("iteration $t$")
            style.kernel_times(ax, model)
    others = (
        "\nOther seeds: angle of one seed's kernel at t with the mean direction of the others'."
    )
    others = others if style.models(study, "across_seeds") else ""
    style.note(
        figure,
        study,
        "Radius: largest angle between a kernel from t on and their mean direction; 0 where one is "
        f"left.\nExponent: 0 is confined, 1 free diffusion.{others}\n"
        f"{style.runs_note(study).capitalize()}.",
    )
    return figure
