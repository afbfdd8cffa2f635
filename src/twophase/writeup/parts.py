"""The write-up's parts that each published study gets: tables and panels, whatever it measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from twophase.estimators.seeds import CannotSay, Estimate, over_seeds, transformed
from twophase.study.model import Study
from twophase.study.tables import provenance
from twophase.writeup import quantities
from twophase.writeup.sources import Source, Sweep
from twophase.writeup.text import interval, number, table


def controls(source: Source) -> str:
    """How many forks without perturbation there are, and how many equal their base run."""
    if "chaos" not in source.tables:
        return source.withheld or "–"
    chaos = source.tables["chaos"]
    control = chaos[chaos["direction"] == "control"]
    return f"{number(int(control['identical'].sum()))} of {number(len(control))}"


def attempt(estimate: Callable[..., Estimate], *arguments: object) -> tuple[Estimate | None, str]:
    """An estimate and its text; in place of an estimate that cannot be given, why."""
    try:
        found = estimate(*arguments)
    except CannotSay as reason:
        return None, str(reason)
    return found, interval(found)


FORKS = {
    "barrier": (quantities.chaos_time, quantities.same_time_speed),
    "disagreement": (quantities.disagreement_transition, quantities.disagreement_ratio),
}


def courses(source: Source) -> list[str]:
    """The measures along base runs that a source has."""
    return [name for name, row in quantities.COURSES.items() if row[0] in source.tables]


def transitions(source: Source) -> str:
    """When each measure changes, how often, and at what ratio to the kernel's time."""
    rows = []
    for name, (when, ratio) in FORKS.items():
        rows.append([f"{name}, over t0", "–", attempt(when, source)[1], attempt(ratio, source)[1]])
    for name in courses(source):
        changes, why = attempt(lambda n=name: quantities.course_changes(source, n).number)
        cells = ["?", why, "–"]
        if changes:
            ratio = attempt(quantities.course_ratio, source, name)[1]
            cells = [why, attempt(quantities.course_time, source, name)[1], ratio]
        if name == "kernel distance":
            cells[-1] = "–"
        rows.append([f"{name}, over t", *cells])
    return table(["Measure", "Change points", "Time", "Over the kernel's time"], rows)


def beyond(source: Source) -> str:
    """What the paper does not show: numbers beside the claims, where the study has them."""
    chaos, where = quantities.chaos, "dissimilarity of {} from the first t0, at the {} t1"
    each = {"distance of late forks over their perturbation": (quantities.late_growth, source, 0)}
    for measure, of in (
        ("dissimilarity", "parameters"),
        ("state_dissimilarity", "the whole state"),
    ):
        if "chaos" in source.tables and measure in source.tables["chaos"]:
            for t1 in ("first", "last"):
                each[where.format(of, t1)] = (chaos, source, measure, "first", t1)
    each["disagreement of the last forks"] = (chaos, source, "disagreement", "last", "last")
    found = {what: attempt(*called) for what, called in each.items()}
    rows = [[what, told] for what, (estimate, told) in found.items() if estimate]
    return table(["Measure", "Mean, interval over seeds"], rows)


def growth(source: Source) -> str:
    """How forks part, step by step: a row for each t0, precision and perturbation."""
    if "growth_rate" not in source.tables:
        return ""
    rows = []
    rates = source.tables["growth_rate"]
    for point, own in rates.groupby(["t0", "precision", "perturbation"]):
        logs = own.assign(flip_free_factor=np.log(own["flip_free_factor"]))
        factor, text = attempt(lambda logs=logs: over_seeds(logs["flip_free_factor"]))
        cells = [_reached(own["first_flip"]), _reached(own["steps_apart"])]
        cells.append(interval(transformed(factor, np.exp)) if factor else text)
        rows.append([number(point[0]), *point[1:], *cells])
    head = [
        "t0", "Precision", "Perturbation", "Steps to the first flip", "Steps until apart",
        "Growth in a step without a flip",
    ]  # fmt: skip
    return table(head, rows)


def _reached(steps: pd.Series) -> str:
    """Steps to an event over seeds; if it does not come in all of them, in how many it does."""
    if np.isfinite(steps).all():
        return interval(over_seeds(steps))
    return f"reached in {number(int(np.isfinite(steps).sum()))} of {number(len(steps))}"


# What may depend on the options of a sweep.
DEPENDENT: dict[str, Callable[[Source], Estimate]] = {
    "test accuracy at the end": quantities.end_accuracy,
    "barrier of the first forks (nats)": lambda s: quantities.chaos(
        s, "test_barrier", "first", "last"
    ),
    "barrier of the last forks (nats)": lambda s: quantities.chaos(
        s, "test_barrier", "last", "last"
    ),
    "disagreement of the last forks": lambda s: quantities.chaos(s, "disagreement", "last", "last"),
    "distance of the last forks over their perturbation": lambda s: quantities.late_growth(s, 0),
    "barriers fall, at t0": quantities.chaos_time,
    "disagreement falls, at t0": quantities.disagreement_transition,
    "the kernel has slowed down, at t": quantities.speed_time,
    "the kernel enters its later cone, at t": quantities.entry_time,
    "barriers' time over when the kernel slows down": quantities.same_time_speed,
    "barriers' time over when it enters its later cone": quantities.same_time_entry,
    "disagreement's time over the kernel's": quantities.disagreement_ratio,
    "neighbouring kernels, first over later": quantities.speed_depth,
    "later kernels' spread over a random walk's": quantities.cone_radius,
    "exponent of later kernels less a random walk's": quantities.cone_exponent,
}


def dependence(sweep: Sweep) -> str:
    """What depends on the options that a study sweeps: estimates in rows, values in columns."""
    rows = [
        [what, *(attempt(estimate, source)[1] for source in sweep.sources.values())]
        for what, estimate in DEPENDENT.items()
    ]
    heads = [
        f"{value} (same runs as {source.same_as})" if source.same_as else value
        for value, source in sweep.sources.items()
    ]
    return table([sweep.keys, *heads], rows)


def origin(study: Study, file: Path) -> str:
    """Where a published study's numbers come from, and how to make each again."""
    said = provenance(file.parent)
    origins = [table["origin"] for table in said["tables"].values()]

    def each(*keys: str) -> str:
        found = {" ".join(str(origin.get(key, "?")) for key in keys) for origin in origins}
        return "; ".join(sorted(found))

    not_there = ", ".join(said.get("not_in_that_commit", []))
    without = not_there and f", which does not hold: <code>{not_there}</code>"
    seconds = sum(said["processor_seconds"].values())
    rows = [
        [
            "tables",
            f"<code>{file.parent}</code>, with their digests in <code>provenance.json</code>",
        ],
        ["published at commit", f"<code>{said['published_at_commit']}</code>{without}"],
        ["machine", each("machine")],
        ["vector instructions", each("vector_instructions")],
        ["threads, precision", each("threads", "precision")],
        ["Python, PyTorch, NumPy", each("python", "torch", "numpy")],
        ["processor time, of jobs whose logs were there", f"{number(round(seconds))} s"],
        [
            "this study's figures, from its tables",
            f"<code>snakemake --cores 1 paper/figures/{study.name}/all</code>",
        ],
        [
            "its tables, from nothing",
            f"<code>snakemake --cores all figures/{study.name}/all</code>",
        ],
    ]
    return table(["", ""], rows, "plain")
