"""The findings: what a study shows, in numbers, as Markdown.

What holds for a share of the runs comes with an interval over seeds: single runs are those of the
kind of machine that made them.
"""

import math

import pandas as pd

from twophase.estimators.seeds import wilson
from twophase.figures import names, style
from twophase.figures.s1 import BRANCHES, branches
from twophase.store.artifacts import read_table
from twophase.store.paths import Result
from twophase.study.chaos import PERTURBED
from twophase.study.model import STUDIES, Model, Study


def draw(study: Study, tables: dict[str, Result]) -> str:
    """The text, from the study's summaries and the comparisons of each run."""
    summaries = {
        name: style.summary(tables, name.removesuffix("_summary"))
        for name in tables
        if name.endswith("_summary")
    }
    lines = [
        f"# {' '.join(study.title.split())}",
        "",
        f"Seeds {', '.join(map(str, study.seeds))}. Numbers are means, with the smallest and the "
        "largest run in brackets.",
    ]
    for name, model in study.models.items():
        own = {
            table.removesuffix("_summary"): s[s["model"] == name] for table, s in summaries.items()
        }
        lines += ["", f"## {name}", ""] + _training(own["training"], model)
        if model.chaos:
            ends = style.where(style.runs(tables, "chaos"), model=name)
            lines += [""] + _chaos(own["chaos"], ends, model, names.words(study).unit)
        if model.kernel:
            lines += [""] + _cone(own["kernel_distance"], model)
        if model.linearized:
            lines += [""] + _linearized(own["linearized"], own["training"], model)
        if model.growth:
            growth = tables.get(f"{name}/seed{study.seeds[0]}/growth")
            seen = branches(read_table(growth)) if growth else list(BRANCHES)
            lines += [""] + _growth(own["growth_rate"], model, seen)
    lines += [
        "",
        "What the paper claims, with a verdict on each claim by each published study: "
        "[paper/replication.html](../../paper/replication.html), made by `snakemake --cores 1 "
        f"paper/replication.html`. `twophase publish {STUDIES}/{study.name}.yaml` "
        "publishes this study.",
    ]
    return "\n".join(lines) + "\n"


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
    accuracy = (
        f"test accuracy {_spread(last.loc['test_accuracy'])} and "
        if "test_accuracy" in last.index
        else ""
    )
    return [
        f"Base runs end, at iteration {model.training.iterations}, with {accuracy}"
        f"test loss {_spread(last.loc['test_loss'])}."
    ]


def _chaos(chaos: pd.DataFrame, each: pd.DataFrame, model: Model, unit: str) -> list[str]:
    last = model.chaos.ends()
    one = len(set(last.values())) == 1
    threshold = model.chaos.barrier_threshold
    lines = [
        "Chaos: forks compared with the base run at "
        f"{f'iteration {max(last.values())}' if one else 'the last t1 of each'} "
        f"(runs each: {chaos['runs'].max()}). In brackets after a count of runs: the share, 95 % "
        "interval over seeds.",
        "",
        f"| {'t0' if one else 't0, t1'} | test loss barrier ({unit}) | runs above {threshold:g} "
        "| disagreement | dissimilarity |",
        "|---|---|---|---|---|",
    ]
    measured = each.query("direction != 'control' and measure == 'test_barrier'")
    for name in model.chaos.kinds():
        label = name or PERTURBED
        ends = chaos[(chaos["direction"] == label) & (chaos["t1"] == chaos["t0"].map(last))]
        own = measured[(measured["t1"] == measured["t0"].map(last))]
        own = own[own["direction"] == label]
        for t0, rows in ends.groupby("t0"):
            rows = rows.set_index("measure")
            point = f"{t0 if one else f'{t0}, {last[t0]}'}{f' ({name})' * bool(name)}"
            lines.append(
                f"| {point} | {_spread(rows.loc['test_barrier'])} "
                f"| {above(own[own['t0'] == t0], threshold)} | {_spread(rows.loc['disagreement'])} "
                f"| {_spread(rows.loc['dissimilarity'])} |"
            )
    control = chaos[(chaos["direction"] == "control") & (chaos["measure"] == "identical")]
    lines += [
        "",
        f"Control: at {len(control)} pairs (t0, t1), {int(control['runs'].sum())} forks without "
        f"perturbation compared, {int((control['mean'] * control['runs']).sum())} of them equal "
        "to the base run bit for bit.",
    ]
    return lines


def _cone(distances: pd.DataFrame, model: Model) -> list[str]:
    dt = model.kernel.intervals[0]
    near = distances[distances["u"] - distances["t"] == dt].sort_values("t")
    some = near.iloc[[0, len(near) // 4, len(near) // 2, 3 * len(near) // 4, -1]]
    chosen = some.drop_duplicates("t")
    return [
        f"Cone: distance of kernels {dt} iterations apart, at {len(chosen)} "
        f"of {len(near)} iterations t.",
        "",
        f"| t | S(t, t + {dt}) |",
        "|---|---|",
        *(f"| {row['t']} | {_spread(row)} |" for _, row in chosen.iterrows()),
    ]


def _linearized(ends: pd.DataFrame, training: pd.DataFrame, model: Model) -> list[str]:
    last = _end(training, model)
    measure = "test_accuracy" if "test_accuracy" in last.index else "test_loss"
    said = measure.replace("_", " ")
    ends = ends[ends["measure"] == measure].sort_values("switch")
    return [
        f"Linearised: {said} at iteration {model.training.iterations}.",
        "",
        f"| switch | {said} |",
        "|---|---|",
        *(f"| {row['switch']} | {_spread(row)} |" for _, row in ends.iterrows()),
        f"| normal training | {_spread(last.loc[measure])} |",
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
    lines = [
        f"Growth: base run and forks side by side for {model.growth.steps} steps from t0."
        + f" A flip is {flip} that differs on a fixed batch." * bool(seen)
        + " Never: not in these steps.",
        "",
        "| t0 | fork | precision | " + " | ".join(columns.values()) + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for point, rows in rates.groupby(["t0", "perturbation", "precision"], sort=False):
        rows = rows.set_index("measure")
        cells = [_spread(rows.loc[measure]) for measure in columns]
        lines.append("| " + " | ".join([*map(str, point), *cells]) + " |")
    return lines
