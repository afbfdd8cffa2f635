"""Whether what moves one quantity moves another: a slope over conditions in the order of a dose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from twophase.estimators.censored import over_intervals
from twophase.estimators.seeds import LEVEL, CannotSay, Estimate

STEEPEST, HALVINGS = 16.0, 24  # the largest slope that is looked for, and how often it is halved
CLOSE = 4 * STEEPEST / 2**HALVINGS  # beyond a slope that was found by more than it may be off

Bounds = tuple[np.ndarray, np.ndarray]  # low and high, each (seeds,)


def contrast(low: ArrayLike, high: ArrayLike) -> Bounds:
    """By how much a quantity rises along conditions, in each seed.

    `low` and `high` (seeds, conditions) are its bounds, conditions in the order of the dose. The
    weights are their places less the mean, so that a rise by one from each condition to the next is
    one, however many there are.

    Raises `CannotSay` if there are fewer than 2 conditions.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    if low.shape[1] < 2:
        raise CannotSay("has fewer than 2 conditions")
    place = np.arange(low.shape[1]) - (low.shape[1] - 1) / 2
    weights = place / (place @ place)
    used = weights != 0  # nothing is asked of the middle one, whose bounds may be infinite
    ends = [(weights[used] * each[:, used]) for each in (low, high)]
    return np.minimum(*ends).sum(1), np.maximum(*ends).sum(1)


def slope(moved: Bounds, by: Bounds, level: float = LEVEL) -> Estimate:
    """How much one quantity moves for each unit by which another moves: the ratio of two means over
    seeds, which are the independent draws, with the interval of Fieller (1954).

    `moved` and `by` are bounds of each seed's `contrast`. A slope b is in the interval if the mean
    over seeds of moved - b x by may be 0. So an error of either flattens no slope, as it would a
    regression of one on the other; bounds count as in `over_intervals`. An end beyond 16 is
    infinite. The value is not a number where bounds are too open to say one, as if the other
    quantity moves by an unknown amount in all seeds: then only the interval is known. One seed has
    a value and no interval; the direction is that of its middle.

    Raises `CannotSay` if conditions cannot be said to move the other quantity, in one direction.
    """
    over = over_intervals(*by, level)
    low, high = (over.low, over.high) if over.seeds > 1 else (over.value, over.value)
    if not (low > 0 or high < 0):
        raise CannotSay("the conditions move nothing that could be followed")
    if high < 0:
        moved, by = (_negative(each) for each in (moved, by))

    def left(b: float) -> Estimate:
        return unexplained(moved, by, b, level)

    value = _crossing(lambda b: left(b).value > 0)
    # Any slope but 0 times an infinite bound is infinite: a change of sign there is no value.
    if np.isfinite(value) and np.isinf([left(value + d).value for d in (-CLOSE, CLOSE)]).any():
        value = np.nan
    if len(by[0]) < 2:
        return Estimate(value, np.nan, np.nan, len(by[0]))
    low = _crossing(lambda b: left(b).low > 0)
    high = _crossing(lambda b: left(b).high >= 0)
    return Estimate(value, low, high, len(by[0]))


def unexplained(moved: Bounds, by: Bounds, b: float, level: float = LEVEL) -> Estimate:
    """Mean over seeds of moved - b x by: above 0 if the slope is more than b, and by moves up."""
    # No times an infinite bound is none.
    ends = [b * end if b else np.zeros_like(end) for end in by]
    low, high = np.minimum(*ends), np.maximum(*ends)
    return over_intervals(moved[0] - high, moved[1] - low, level)


def _negative(bounds: Bounds) -> Bounds:
    return -bounds[1], -bounds[0]


def _crossing(before: Callable[[float], bool]) -> float:
    """Where what holds at first no longer does; infinite if beyond the steepest."""
    low, high = -STEEPEST, STEEPEST
    if not before(low):
        return -np.inf
    if before(high):
        return np.inf
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if before(middle) else (low, middle)
    return (low + high) / 2
