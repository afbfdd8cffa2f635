"""The findings: what a study shows, in numbers, as Markdown.

What holds for a share of the runs comes with an interval over seeds: single runs are those of the
kind of machine that made them.
"""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from twophase.estimators.seeds import wilson
from twophase.figures import names, style
from twophase.figures.s1 import BRANCHES, branches
from twophase.study.chaos import CONTROL, PERTURBED
from twophase.study.model import STUDIES, Model, Study


def draw(study: Study, tables: style.Tables) -> str:
    """The text, from the study's summaries and the comparisons of each run."""
    lines = [
        f"# {' '.join(study.title.split())}",
        "",
        f"Seeds {', '.join(map(str, study.seeds))}. Numbers are means, with the smallest and the "
        "largest run in brackets.",
    ]
    for name, model in study.models.items():

        def own(table: str, name: str = name) -> pd.DataFrame:
            return style.where(style.summary(tables, table), model=name)

        lines += ["", f"## {name}", "", *_training(own("training"), model)]
        if model.chaos:
            each = style.where(style.runs(tables, "chaos"), model=name)
            lines += ["", *_chaos(own("chaos"), each, model, names.words(study).unit)]
        if model.kernel:
            lines += ["", *_cone(own("kernel_distance"), model)]
        if model.linearized:
            lines += ["", *_linearized(own("linearized"), own("training"), model)]
        if model.growth:
            growth = style.wide(tables, "growth", f"{name}/seed{study.seeds[0]}")
            lines += ["", *_growth(own("growth_rate"), model, branches(growth))]
    lines += [
        "",
        "What the paper claims, with a verdict on each claim by each published study: "
        "[paper/replication.html](../../paper/replication.html), made by `snakemake --cores 1 "
        f"paper/replication.html`. `twophase publish {STUDIES}/{study.name}.yaml` "
        "publishes this study.",
    ]
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence]) -> list[str]:
    """A table in Markdown."""
    cells = [f"| {' | '.join(map(str, row))} |" for row in (columns, *rows)]
    return ["", cells[0], "|---" * len(columns) + "|", *cells[1:]]


def above(barriers: pd.DataFrame, threshold: float) -> str:
    """How many runs are above the threshold, such as "9 of 10 [0.60, 0.98]".

    `barriers` has a row for each run, with `seed` and `value`; a run that diverged is not above.
    """
    values = barriers["value"]
    count, runs = int((values > threshold).sum()), len(values)
    low, high = wilson(count / runs, barriers["seed"].nunique())
    diverged = int(values.isna().sum())
    return f"{count} of {runs} [{low:.2f}, {high:.2f}]" + f", {diverged} diverged" * (diverged > 0)


def _spread(row: pd.Series) -> str:
    """Mean and range; of what does not happen in all runs, or has no value in one, that."""
    if math.isinf(row["low"]):
        return "never"
    if math.isinf(row["high"]):
        return f"from {row['low']:.3g} on, or never"
    if math.isnan(row["mean"]):
        return "–"
    spread = f" [{row['low']:.3g}, {row['high']:.3g}]" if row["runs"] > 1 else ""
    return f"{row['mean']:.3g}{spread}"


def _end(training: pd.DataFrame, model: Model) -> pd.DataFrame:
    """The base runs' measures at the end of training."""
    return training[training["t"] == model.training.iterations].set_index("measure")


def _training(training: pd.DataFrame, model: Model) -> list[str]:
    last = _end(training, model)
    measures = [m for m in ("test_accuracy", "test_loss") if m in last.index]
    told = " and ".join(f"{m.replace('_', ' ')} {_spread(last.loc[m])}" for m in measures)
    return [f"Base runs end, at iteration {model.training.iterations}, with {told}."]


def _chaos(chaos: pd.DataFrame, each: pd.DataFrame, model: Model, unit: str) -> list[str]:
    last, threshold = model.chaos.ends(), model.chaos.barrier_threshold
    one = len(set(last.values())) == 1
    when = f"iteration {max(last.values())}" if one else "the last t1 of each"
    measured = style.at_ends(style.where(each, measure="test_barrier"), last)
    barrier, above_it = f"test loss barrier ({unit})", f"runs above {threshold:g}"
    columns = ["t0" if one else "t0, t1", barrier, above_it, "disagreement", "dissimilarity"]
    cells = []
    for name in model.chaos.kinds():
        own = {"direction": name or PERTURBED}
        for t0, rows in style.at_ends(style.where(chaos, **own), last).groupby("t0"):
            rows = rows.set_index("measure")
            spreads = [_spread(rows.loc[m]) for m in ("test_barrier", *columns[-2:])]
            point = f"{t0 if one else f'{t0}, {last[t0]}'}{f' ({name})' * bool(name)}"
            count = above(style.where(measured, t0=t0, **own), threshold)
            cells.append([point, spreads[0], count, *spreads[1:]])
    control = style.where(chaos, direction=CONTROL, measure="identical")
    return [
        f"Chaos: forks compared with the base run at {when} (runs each: {chaos['runs'].max()}). In "
        "brackets after a count of runs: the share, 95 % interval over seeds.",
        *_table(columns, cells),
        "",
        f"Control: at {len(control)} pairs (t0, t1), {int(control['runs'].sum())} forks without "
        f"perturbation compared, {int((control['mean'] * control['runs']).sum())} of them equal "
        "to the base run bit for bit.",
    ]


def _cone(distances: pd.DataFrame, model: Model) -> list[str]:
    dt = model.kernel.intervals[0]
    near = distances[distances["u"] - distances["t"] == dt].sort_values("t")
    some = near.iloc[[0, len(near) // 4, len(near) // 2, 3 * len(near) // 4, -1]]
    chosen = some.drop_duplicates("t")
    return [
        f"Cone: distance of kernels {dt} iterations apart, at {len(chosen)} "
        f"of {len(near)} iterations t.",
        *_table(["t", f"S(t, t + {dt})"], ((r["t"], _spread(r)) for _, r in chosen.iterrows())),
    ]


def _linearized(ends: pd.DataFrame, training: pd.DataFrame, model: Model) -> list[str]:
    last = _end(training, model)
    measure = "test_accuracy" if "test_accuracy" in last.index else "test_loss"
    said = measure.replace("_", " ")
    ends = style.where(ends, measure=measure).sort_values("switch")
    cells = [(row["switch"], _spread(row)) for _, row in ends.iterrows()]
    return [
        f"Linearised: {said} at iteration {model.training.iterations}.",
        *_table(["switch", said], [*cells, ("normal training", _spread(last.loc[measure]))]),
    ]


def _growth(rates: pd.DataFrame, model: Model, seen: list[str]) -> list[str]:
    """`seen` are the branches that the network has."""
    columns = {
        "first_flip": "first flip",
        "steps_apart": "steps to distance 0.1",
        "flip_free_factor": "growth of a step" + " without flips" * bool(seen),
        "finite_size_rate": "rate from 0.03 to 0.3",
    }
    if not seen:
        del columns["first_flip"]
    flip = " or ".join(BRANCHES[name] for name in seen)
    cells = []
    for point, rows in rates.groupby(["t0", "perturbation", "precision"], sort=False):
        rows = rows.set_index("measure")
        cells.append([*point, *(_spread(rows.loc[measure]) for measure in columns)])
    return [
        f"Growth: base run and forks side by side for {model.growth.steps} steps from t0."
        + f" A flip is {flip} that differs on a fixed batch." * bool(seen)
        + " Never: not in these steps.",
        *_table(["t0", "fork", "precision", *columns.values()], cells),
    ]
