"""What quantities begin with: the tables of a source, at the comparisons and times that count."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd

from twophase.estimators import phases
from twophase.estimators.seeds import CannotSay, Scale
from twophase.study.chaos import CONTROL, named
from twophase.writeup.sources import Source

per_source = lru_cache(maxsize=64)  # many quantities begin with the same tables


def first_phase(source: Source, table: pd.DataFrame, needs: str = "") -> pd.DataFrame:
    """Rows of a table up to the first drop of the learning rate (`phases.first_phase`)."""
    return phases.first_phase(table, source.tables.get("training"), needs)


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
    return first_phase(source, comparisons(source), "comparison")


def waits(source: Source) -> list[int]:
    """For how long all forks were followed alike: every t1 - t0 that each t0 has."""
    return phases.waits(forks(source))


@per_source
def ends(source: Source) -> pd.DataFrame:
    """The last comparisons (`phases.last_comparisons`), with `above`."""
    return phases.judged(phases.last_comparisons(forks(source)), source.threshold)


def at_wait(source: Source, wait: int) -> pd.DataFrame:
    """The comparisons `wait` iterations after each fork's t0, with `above`."""
    table = forks(source)
    return phases.judged(table[table["wait"] == wait], source.threshold)


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


def scale(source: Source) -> Scale:
    """The scale on which times of this source are compared."""
    return Scale(phases.over_t0(ends(source))["t0"])


@per_source
def kernel_table(source: Source) -> pd.DataFrame:
    """Distances of all pairs of kernels, in the first phase of the learning rate; raises
    `CannotSay` if there are none.
    """
    return first_phase(source, source.table("kernel_distance"), "kernel")
