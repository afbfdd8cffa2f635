"""Figure s1: how base run and forks part, step by step."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.artifacts import read_table
from twophase.store.paths import Result
from twophase.study.model import Study

DASHES = {"float32": "-", "float64": ":"}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model, one column per t0: distance over steps, with the first flips as dots."""
    models = style.models(study, "growth")
    columns = max(len(model.growth.forks) for model in models.values())
    figure, axes = style.grid(len(models), columns, 2.2, sharey="row")
    for row, (name, model) in zip(axes, models.items(), strict=True):
        run = f"{name}/seed{study.seeds[0]}"
        growth, rates = (
            read_table(tables[f"{run}/{table}"]) for table in ("growth", "growth_rate")
        )
        for ax in row[len(model.growth.forks) :]:
            ax.axis("off")
        for ax, t0 in zip(row, model.growth.forks, strict=False):
            for index, perturbation in enumerate(model.growth.perturbations):
                for precision in model.growth.precisions:
                    own = (
                        f"t0 == {t0} and perturbation == @perturbation and precision == @precision"
                    )
                    steps, first = growth.query(own), rates.query(own)["first_flip"].item()
                    looks = {"color": f"C{index}", "linestyle": DASHES[precision]}
                    label = f"{perturbation}, {precision}"
                    ax.plot(steps["step"], steps["l2"], label=label, **looks)
                    flip = steps[steps["step"] == first]
                    ax.plot(flip["step"], flip["l2"], "o", color=f"C{index}")
            ax.set(title=f"{name}: from $t_0 = {t0}$", xlabel="step since $t_0$")
            style.logarithmic(ax)
        row[0].set_ylabel("distance of the parameters")
        row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="x-small")
    style.note(figure, study, f"One run, seed {study.seeds[0]}. Dots: first flip.")
    return figure
