"""The findings: what a study shows, in numbers, as Markdown."""

import math

import pandas as pd

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study import Model, Study


def draw(study: Study, tables: dict[str, Result]) -> str:
    """The text, from the study's summaries."""
    summaries = {name: style.summary(tables, name.removesuffix("_summary")) for name in tables}
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
            lines += [""] + _chaos(own["chaos"], model)
        if model.kernel:
            lines += [""] + _cone(own["kernel_distance"], model)
        if model.linearized:
            lines += [""] + _linearized(own["linearized"], own["training"], model)
    return "\n".join(lines) + "\n"


def verdict(low: float, high: float, threshold: float) -> str:
    """Where all runs lie: above the threshold, below it, or on both sides."""
    if math.isnan(low) or math.isnan(high):
        return "diverged"
    if low > threshold:
        return "above"
    return "below" if high < threshold else "on both sides"


def _spread(row: pd.Series) -> str:
    spread = f" [{row['low']:.3g}, {row['high']:.3g}]" if row["runs"] > 1 else ""
    return f"{row['mean']:.3g}{spread}"


def _end(training: pd.DataFrame, model: Model) -> pd.DataFrame:
    """The base runs' measures at the end of training."""
    return training[training["t"] == model.training.iterations].set_index("measure")


def _training(training: pd.DataFrame, model: Model) -> list[str]:
    last = _end(training, model)
    return [
        f"Base runs end, at iteration {model.training.iterations}, with test accuracy "
        f"{_spread(last.loc['test_accuracy'])} and test loss {_spread(last.loc['test_loss'])}."
    ]


def _chaos(chaos: pd.DataFrame, model: Model) -> list[str]:
    last = max(model.chaos.compare)
    threshold = model.chaos.barrier_threshold
    lines = [
        f"Chaos: forks compared with the base run at iteration {last} "
        f"(runs each: {chaos['runs'].max()}).",
        "",
        f"| t0 | test loss barrier (nats) | runs against {threshold:g} | disagreement "
        "| dissimilarity |",
        "|---|---|---|---|---|",
    ]
    ends = chaos[(chaos["direction"] == "perturbed") & (chaos["t1"] == last)]
    for t0, rows in ends.groupby("t0"):
        rows = rows.set_index("measure")
        barrier = rows.loc["test_barrier"]
        side = verdict(barrier["low"], barrier["high"], threshold)
        lines.append(
            f"| {t0} | {_spread(barrier)} | {side} | {_spread(rows.loc['disagreement'])} "
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
    ends = ends[ends["measure"] == "test_accuracy"].sort_values("switch")
    last = _end(training, model)
    return [
        f"Linearised: test accuracy at iteration {model.training.iterations}.",
        "",
        "| switch | test accuracy |",
        "|---|---|",
        *(f"| {row['switch']} | {_spread(row)} |" for _, row in ends.iterrows()),
        f"| normal training | {_spread(last.loc['test_accuracy'])} |",
    ]
