"""Runs that are there more than once: studies may share them, bit for bit, and they count once."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

MEASURES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
Key = tuple[str, str]  # study and model
Course = dict[int, tuple[float, ...]]  # what a run's table of training says, by iteration


def runs(tables: Mapping[str, pd.DataFrame]) -> list[Course]:
    """The courses of a source's base runs, one for each seed."""
    if "training" not in tables:
        return []
    table = tables["training"]
    measures = [name for name in MEASURES if name in table]  # a task may have no accuracy
    return [
        dict(zip(own["t"], own[measures].itertuples(index=False, name=None), strict=True))
        for _, own in table.groupby("seed")
    ]


def equal(one: Course, other: Course) -> bool:
    """Whether two courses are of one run, which may be followed for longer in one of them: the same
    bits at all iterations, but the first, that both have.
    """
    both = (one.keys() & other.keys()) - {0}
    return bool(both) and all(one[t] == other[t] for t in both)


def repeated(each: dict[Key, list[Course]]) -> dict[Key, Key]:
    """The sources all of whose runs are those of another, with that other one: the one that has
    most runs, and follows them for longest, and comes first by name.
    """
    order = sorted(
        (key for key in each if each[key]),
        key=lambda key: (-len(each[key]), -max(max(course) for course in each[key]), key),
    )
    found: dict[Key, Key] = {}
    for index, key in enumerate(order):
        for other in order[:index]:
            if other not in found and all(
                any(equal(course, theirs) for theirs in each[other]) for course in each[key]
            ):
                found[key] = other
                break
    return found
