"""What quantities begin with: the tables of a source, at the comparisons and times that count."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from twophase.estimators.seeds import CannotSay, Scale
from twophase.study.chaos import CONTROL, named
from twophase.writeup.sources import Source

per_source = lru_cache(maxsize=64)  # many quantities begin with the same tables
FEWEST_FORKS = 3  # perturbation times from which a change over them can be seen


def first_phase(source: Source, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table up to the first drop of the learning rate: a drop slows the kernel down and
    ends chaos by itself, and would be taken for the transition. A drop halves it, or more, between
    neighbouring points; a schedule that falls little by little has none until it is near 0.
    """
    if "training" not in source.tables:
        return table
    rates = source.tables["training"].groupby("t")["lr"].first()
    dropped = rates.index[rates <= rates.shift() / 2]
    if not len(dropped):
        return table
    times = [column for column in ("t", "u", "t1") if column in table]
    return table[(table[times] <= dropped[0]).all(axis=1)]


def of_main(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of forks with the main perturbation, which comes first in a table; those of others and
    of the control are left out.
    """
    names = table["direction"].map(named)
    perturbed = names[names != CONTROL]
    return table[names == perturbed.iloc[0]] if len(perturbed) else table[:0]


@per_source
def comparisons(source: Source) -> pd.DataFrame:
    """All comparisons of forks with the main perturbation. `wait` is t1 - t0."""
    return of_main(source.table("chaos")).assign(wait=lambda c: c["t1"] - c["t0"])


@per_source
def forks(source: Source) -> pd.DataFrame:
    """Those in the first phase of the learning rate; raises `CannotSay` if there are none."""
    found = first_phase(source, comparisons(source))
    if found.empty:
        raise CannotSay("has no comparison before the learning rate drops")
    return found


def waits(source: Source) -> list[int]:
    """For how long all forks were followed alike: every t1 - t0 that each t0 has."""
    each = [set(own["wait"]) for _, own in forks(source).groupby("t0")]
    return sorted(set.intersection(*each))


@per_source
def ends(source: Source) -> pd.DataFrame:
    """The last comparisons, with `above`: does a barrier part the two? Where forks were followed
    for the same time each (`chaos.follow`), the last time that all have; else those at the last t1.
    """
    table = forks(source)
    last = table.groupby("t0")["t1"].max()
    alike = waits(source)
    if last.nunique() > 1 and alike:
        return at_wait(source, alike[-1])
    return judged(source, table[table["t1"] == table["t1"].max()])


def at_wait(source: Source, wait: int) -> pd.DataFrame:
    """The comparisons `wait` iterations after each fork's t0, with `above`."""
    table = forks(source)
    return judged(source, table[table["wait"] == wait])


def judged(source: Source, table: pd.DataFrame) -> pd.DataFrame:
    """The same rows with `above`; raises `CannotSay` if that cannot be said of all of them."""
    if table["t0"].nunique() < 2:
        raise CannotSay("has but one perturbation time")
    if not np.isfinite(table["test_barrier"]).all():
        raise CannotSay("a fork ended with a loss that is no number")
    return table.assign(above=table["test_barrier"] > source.threshold)


def late_ends(source: Source, after: int) -> pd.DataFrame:
    """The last comparisons, if the last forks come at iteration `after` or later."""
    table = ends(source)
    if table["t0"].max() < after:
        raise CannotSay(f"has no forks from iteration {after} on")
    return table


def long_enough(source: Source) -> None:
    """Raises `CannotSay` if the last forks were followed for less time than the first took, in the
    mean over seeds, to show a barrier: then that they show none says nothing.
    """
    table, last = forks(source), ends(source)
    first = table[table["t0"] == table["t0"].min()]
    means = first.groupby("wait")["test_barrier"].mean()
    parted = means.index[means > source.threshold]
    if not len(parted):
        raise CannotSay("the first forks show no barrier, so nothing says how long that takes")
    if last.loc[last["t0"] == last["t0"].max(), "wait"].min() < parted[0]:
        raise CannotSay("the last forks were followed for less time than the first took to part")


def over_t0(table: pd.DataFrame) -> pd.DataFrame:
    """The same table, if it has perturbation times enough to see a change over them."""
    if table["t0"].nunique() < FEWEST_FORKS:
        raise CannotSay(f"has fewer than {FEWEST_FORKS} perturbation times")
    return table


def barriers_over_t0(table: pd.DataFrame) -> pd.DataFrame:
    """The same, if any run ends behind a barrier: without one there is no time to look for."""
    if not over_t0(table)["above"].any():
        raise CannotSay("no run ends behind a barrier")
    return table


def scale(source: Source) -> Scale:
    """The scale on which times of this source are compared."""
    return Scale(over_t0(ends(source))["t0"])


@per_source
def kernel_table(source: Source) -> pd.DataFrame:
    """Distances of all pairs of kernels, in the first phase of the learning rate."""
    return first_phase(source, source.table("kernel_distance"))
