"""Figure s7: what depends on the options that the study sweeps."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from twophase.figures import names, style
from twophase.figures.lines import Lines, row
from twophase.figures.panels import Page
from twophase.study.model import Model, Study
from twophase.study.sweep import label

FORKS = partial(Lines, x="place", over="", hue="t0", legend="perturbed at $t_0$", markers=True)
# Of a table and a section of the model that it needs: what a panel shows over the models' places.
SHOWN = (
    ("training", "training", Lines("test_accuracy", "test accuracy (share)", "place", "")),
    ("training", "training", Lines("test_loss", "test loss (nats)", "place", "")),
    ("chaos", "chaos", FORKS("test_barrier", "test loss barrier (nats)", threshold=True)),
    ("chaos", "chaos", FORKS("disagreement", "disagreement (share)")),
    ("cone", "kernel", Lines("radius", "radius (degrees)", "place", "", "t",
                             "kernels from $t$ on", markers=True)),
)  # fmt: skip


def _points(frame: pd.DataFrame, model: Model, table: str) -> pd.DataFrame:
    """The end of training, the last comparisons, or the kernels from each reference on."""
    if table == "chaos":
        return style.at_ends(style.where(frame, direction=model.chaos.main()), model.chaos.ends())
    times = model.kernel.references if table == "cone" else [model.training.iterations]
    return frame[frame["t"].isin(times)]


def draw(study: Study, tables: style.Tables) -> Page:
    """One row per model that was swept: accuracy, barrier, disagreement and the cone's radius over
    the values, with a line for each t0 or t.
    """
    there = {table for table, *_ in SHOWN if f"{table}_summary" in tables}
    frames = {table: style.runs(tables, table) for table in there}
    scores = "test_accuracy" in set(frames["training"]["measure"])
    if scores:  # the loss is shown where the task has no accuracy
        frames["training"] = frames["training"][frames["training"]["measure"] != "test_loss"]
    rows = []
    for origin in dict.fromkeys(swept.of for swept in study.sweep.values()):
        models = {n: study.models[n] for n, swept in study.sweep.items() if swept.of == origin}
        first = next(iter(models))
        title = f"{names.network(models[first]).split(' (')[0]}, {names.images(study)}"
        rows.append([])
        for table, section, lines in SHOWN:
            measures = set(frames[table]["measure"]) if table in frames else ()
            if lines.measure in measures and all(getattr(m, section) for m in models.values()):
                parts = [
                    _points(style.where(frames[table], model=name), model, table).assign(place=at)
                    for at, (name, model) in enumerate(models.items())
                ]
                data = pd.concat(parts, ignore_index=True).assign(model=first)
                lines = lines._replace(then=partial(_places, study, list(models)))
                rows[-1] += row(study, first, data, [lines], title=title)
    said = {
        "chaos": "Barrier and disagreement: of base run and fork at the last t1, perturbed at "
        f"t0 by {names.perturbed(study)}; above the dashed line the two lie in different "
        "valleys of the loss.",
        "cone": "Radius: largest angle between a kernel from t on and their mean direction.",
    }
    return names.page(
        study,
        rows,
        "What depends on the options that the study sweeps, over their values."
        + f" {'Accuracy' if scores else 'Loss'}: at the end of training.",
        *(text for table, text in said.items() if table in there),
        forks="chaos" in there,
    )


def _places(study: Study, models: list[str], ax: Axes) -> None:
    values = [study.sweep[name].values for name in models]
    ticks = [", ".join(map(label, each.values())) for each in values]
    ax.set_xticks(range(len(ticks)), ticks, rotation=90 * (max(map(len, ticks)) > 5))
    ax.set_xlabel(", ".join(map(names.option, values[0])))
