"""Figure s3: the cone in numbers."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study import Study


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: the cone's radius beside its null, the exponent, the kernel's velocity."""
    cone = style.summary(tables, "cone")
    models = style.models(study, "kernel")
    figure, axes = style.grid(len(models), 3, 2.2)
    for (radius, exponent, velocity), name in zip(axes, models, strict=True):
        own = cone[cone["model"] == name]

        def points(measure: str, own=own):  # noqa: ANN001, ANN202
            return own[own["measure"] == measure].dropna(subset="mean")

        style.line(radius, points("radius"), "t", color="C0", label="kernels from $t$ on")
        null = points("null_radius")
        style.line(radius, null, "t", color="C1", linestyle="--", label="random walk")
        radius.set(title=name, ylabel="radius of the cone (degrees)", ylim=(0, None))
        radius.legend(fontsize="x-small")
        style.line(exponent, points("exponent"), "t", color="C0")
        for height, text in ((0, "confined"), (1, "free diffusion")):
            exponent.axhline(height, color="0.5", linestyle=":", linewidth=0.8)
            exponent.annotate(
                text, (1, height), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                fontsize="x-small", color="0.4",
            )  # fmt: skip
        exponent.set(ylabel="exponent of $S(t, t + dt)$ in $dt$")
        style.line(velocity, points("velocity"), "t", color="C0")
        velocity.set(ylabel="kernel velocity (1/iteration)")
        style.logarithmic(velocity)
        for ax in (radius, exponent, velocity):
            ax.set_xlabel("iteration $t$")
    style.note(
        figure,
        study,
        "Radius: largest angle between a kernel from t on and their mean direction.\n"
        f"{style.runs_note(study).capitalize()}.",
    )
    return figure
