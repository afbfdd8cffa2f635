"""Figure s2: the chaos effect over the size of the perturbation."""

from functools import partial

from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.lines import Lines, row
from twophase.figures.panels import Page
from twophase.study.model import Model, Study
from twophase.study.sizes import sized, sized_name

OVER = partial(Lines, x="size", over="", hue="t0", markers=True, xlog=True)
MEASURES = (
    OVER("test_barrier", "test loss barrier (nats)", threshold=True),
    OVER("disagreement", "test disagreement (share)"),
    OVER("l2", "distance of the parameters", log=True),
)


def draw(study: Study, tables: style.Tables) -> Page:
    """One row per model: barrier, disagreement and distance over size, a line for each t0."""
    sizes, rows = style.runs(tables, "sizes"), []
    for name, model in style.models(study, "sizes").items():
        when = style.perturbed(model.chaos.ends(), " ")
        then = partial(_sizes, model)
        each = [lines._replace(legend=when, then=then) for lines in MEASURES]
        rows.append(row(study, name, sizes, each))
    return names.page(
        study,
        rows,
        "Does the size of the perturbation matter? Each run was perturbed at t0 in the same "
        "directions by several sizes, trained on with the same batches, and compared at the "
        f"last t1. Dotted: the size of all other figures, {_told(study)}. Above the dashed "
        "line the two lie in different valleys of the loss.",
        forks=True,
    )


def _told(study: Study) -> str:
    """The perturbations whose sizes these are, in words, with their names where there are more."""
    asked = style.models(study, "sizes").values()
    told = [names.called(sized_name(model), sized(model)) for model in asked]
    return " or ".join(dict.fromkeys(told))


def _sizes(model: Model, ax: Axes) -> None:
    kind, called = sized(model), sized_name(model)
    ax.axvline(kind.size, color="0.6", linestyle=":", linewidth=0.8)
    said = f"{called}, {kind.kind}" if called else kind.kind
    ax.set_xlabel(f"size of the perturbation ({said})")
