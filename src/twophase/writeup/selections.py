"""Quantities of any table, so that a claim needs no code: rows are selected, averaged for each
seed, and compared.

A selection (`where`) names columns of the table, one after another, and what they must be: a
number; a name, or a pattern of names; `first` or `last`, the smallest and largest that is left; or
`{from: 100, to: 500}`. Controls are left out unless `direction` is named. All end at the first drop
of the learning rate, as every quantity does.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import numpy as np
import pandas as pd
from pandas.core.groupby import SeriesGroupBy
from pydantic import AfterValidator
from scipy import stats
from typing_extensions import TypedDict  # that of Python 3.11 is refused by pydantic

from twophase.estimators.seeds import (
    LEVEL,
    CannotSay,
    Estimate,
    exact_share,
    over_seeds,
    transformed,
)
from twophase.study.stages import STAGE_OF
from twophase.writeup.readings import first_phase, of_main
from twophase.writeup.sources import Source

FEWEST_POINTS = 4  # along which a rank correlation says something


def _table(name: str) -> str:
    if name not in STAGE_OF:
        raise ValueError(f"must be a table: {', '.join(STAGE_OF)}")
    return name


def _where(chosen: dict) -> dict:
    for column, wanted in chosen.items():
        if isinstance(wanted, dict) and (not wanted or wanted.keys() - {"from", "to"}):
            raise ValueError(f"of {column} {wanted}: must have from, to, or both")
    return chosen


Table = Annotated[str, AfterValidator(_table)]
Where = Annotated[dict[str, bool | int | float | str | dict[str, float]], AfterValidator(_where)]


class Course(TypedDict):
    """A column of a table along another, for the rows of a selection."""

    table: Table
    column: str
    along: str
    where: Where


def rows_of(source: Source, table: str, where: Where, *columns: str) -> pd.DataFrame:
    """The rows of a selection, which must have some `columns` of numbers.

    Raises `CannotSay` if the table lacks a column, or nothing is selected.
    """
    each = [_counted(own, table, where) for own in source.conditions.values() or [source]]
    rows = pd.concat(each, ignore_index=True)
    for column in (*where, *columns):
        if column not in rows:
            raise CannotSay(f"table {table} has no column {column}")
    for column in columns:
        if not pd.api.types.is_numeric_dtype(rows[column]):
            raise CannotSay(f"column {column} of table {table} holds no numbers")
    for column, wanted in where.items():
        rows = rows[_is(rows[column], wanted)]
        if rows.empty:
            raise CannotSay(f"table {table} has nothing at {column} = {wanted}")
    return rows


def _counted(source: Source, table: str, where: Where) -> pd.DataFrame:
    """The rows of one model's table that count, before any is selected."""
    rows = first_phase(source, source.table(table))
    return of_main(rows) if "direction" in rows and "direction" not in where else rows


def _is(values: pd.Series, wanted: object) -> pd.Series:
    if wanted in ("first", "last") and not pd.api.types.is_string_dtype(values):
        return values == (values.min() if wanted == "first" else values.max())
    if isinstance(wanted, dict):
        low, high = wanted.get("from", -np.inf), wanted.get("to", np.inf)
        return values.between(low, high)
    if isinstance(wanted, str):
        return values.map(lambda value: fnmatchcase(str(value), wanted)).astype(bool)
    return values == wanted


def measured(
    source: Source, table: Table, column: str, where: Where, level: float = LEVEL
) -> Estimate:
    """A column's mean."""
    return over_seeds(_means(source, table, column, where), level=level)


def difference(
    source: Source,
    table: Table,
    column: str,
    where: Where,
    of: Where,
    less: Where,
    level: float = LEVEL,
) -> Estimate:
    """A column's mean where it is also `of`, less that where it is `less`, seed by seed."""
    one, other = _both(source, table, column, where | of, where | less)
    return over_seeds(one - other, level=level)


def ratio(
    source: Source,
    table: Table,
    column: str,
    where: Where,
    of: Where,
    over: Where,
    level: float = LEVEL,
) -> Estimate:
    """A column's mean where it is also `of`, over that where it is `over`, seed by seed; the mean
    over seeds is geometric.
    """
    one, other = _both(source, table, column, where | of, where | over)
    if not ((one > 0) & (other > 0)).all():
        raise CannotSay(f"{column} is 0 in a seed, whose ratio says nothing")
    return transformed(over_seeds(np.log(one / other), level=level), np.exp)


def share(
    source: Source, table: Table, column: str, where: Where, above: float, level: float = LEVEL
) -> Estimate:
    """The share of rows in which a column is above a number, with an exact interval over seeds."""
    rows = rows_of(source, table, where, column)
    if not np.isfinite(rows[column]).all():
        raise CannotSay(f"{column} is no number in a row")
    return exact_share((rows[column] > above).groupby(rows["seed"]).mean(), level)


def trend(
    source: Source, table: Table, column: str, along: str, where: Where, level: float = LEVEL
) -> Estimate:
    """Spearman's rank correlation of a column with another along which it is followed, in the mean
    over seeds: −1 if it always falls, 1 if it always rises.
    """
    course = Course(table=table, column=column, along=along, where=where)
    each = _courses(source, course)
    return over_seeds([_rank(own.index, own) for _, own in each.items()], level=level)


def together(source: Source, one: Course, other: Course, level: float = LEVEL) -> Estimate:
    """Spearman's rank correlation of two courses at the places that both have, in the mean over
    seeds: 1 if they rise and fall together.
    """
    first, second = _courses(source, one), _courses(source, other)
    if first.keys() != second.keys():
        raise CannotSay(f"tables {one['table']} and {other['table']} have other seeds")
    found = []
    for seed, own in first.items():
        both = pd.concat([own, second[seed]], axis=1, join="inner")
        found.append(_rank(both.iloc[:, 0], both.iloc[:, 1]))
    return over_seeds(found, level=level)


def _means(source: Source, table: str, column: str, where: Where) -> pd.Series:
    return _averaged(rows_of(source, table, where, column).groupby("seed")[column])


def _averaged(groups: SeriesGroupBy) -> pd.Series:
    """The mean of each group; not a number, where one of its values is none, as in summaries."""
    return groups.agg(lambda values: values.astype(float).mean(skipna=False))


def _both(
    source: Source, table: str, column: str, one: Where, other: Where
) -> tuple[pd.Series, pd.Series]:
    """The means of two selections for each seed that has both."""
    means = (_means(source, table, column, where) for where in (one, other))
    both = pd.concat(means, axis=1, join="inner")
    if both.empty:
        raise CannotSay(f"table {table} has no seed with both selections")
    return both.iloc[:, 0], both.iloc[:, 1]


def _courses(source: Source, course: Course) -> dict[int, pd.Series]:
    """For each seed the means of a column at each place along another."""
    column, along = course["column"], course["along"]
    rows = rows_of(source, course["table"], course["where"], column, along)
    return {seed: _averaged(own.groupby(along)[column]) for seed, own in rows.groupby("seed")}


def _rank(x: pd.Series | pd.Index, y: pd.Series) -> float:
    if len(y) < FEWEST_POINTS:
        raise CannotSay(f"has fewer than {FEWEST_POINTS} points along which to rank")
    if np.ptp(y) == 0 or np.ptp(x) == 0:
        return 0.0  # what does not change follows nothing
    return float(stats.spearmanr(x, y).statistic)
