"""Figure s6: the loss barrier modulo permutation, and the similarity of features."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study

# Label, colour, dashes, marker and its size: lines that fall together are all to be seen.
BARRIERS = {
    "test_barrier": ("as they are", "C0", "-", "o", 7),
    "recalibrated_barrier": ("batch norm measured again", "C1", "--", "s", 4.5),
    "matched_barrier": ("… and units matched", "C2", ":", "D", 2),
}
LOOKS = ("label", "color", "linestyle", "marker", "markersize")
OTHERS = {"cka": "linear CKA of last features", "moved": "share of units that move"}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: three barriers, CKA, and the share of moved units, over t0."""
    matching = style.points(tables, "matching").where(direction="perturbed")
    models = style.models(study, "matching")
    figure, axes = style.grid(len(models), 3, 2.2)
    for row, (name, model) in zip(axes, models.items(), strict=True):
        chosen, chaos = model.matching.compare, model.chaos
        last = {t: t1 for t in chaos.forks for t1 in chaos.after(t) if not chosen or t1 in chosen}
        own = matching.where(model=name).at_ends(last)
        for measure, values in BARRIERS.items():
            looks = dict(zip(LOOKS, values, strict=True))
            style.line(row[0], own.where(measure=measure), "t0", clip_on=False, **looks)
        style.barrier_axis(row[0], model.chaos.barrier_threshold)
        row[0].set_ylabel("test loss barrier (nats)")
        row[0].set_title(f"{name}: {style.when(last)}")
        for ax, (measure, label) in zip(row[1:], OTHERS.items(), strict=True):
            points = own.where(measure=measure)
            style.line(ax, points, "t0", color="C0", marker="o", clip_on=False)
            ax.set(ylabel=label, ylim=(0, 1))
        for ax in row:
            ax.set(xlabel="perturbed at iteration $t_0$", xlim=(0, None))
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", ncols=3)
    runs = style.runs_note(study, forks=True)
    style.note(figure, study, f"Perturbed by {style.perturbation_note(study)}; {runs}.")
    return figure
