"""Stage `own_stages`: tables of base runs by functions of the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import nn

from twophase.errors import Problem, RunError
from twophase.store.artifacts import write_table
from twophase.store.paths import Result
from twophase.study import functions, stages
from twophase.study.own import OwnFunction, asked
from twophase.study.run import Run
from twophase.training import switches
from twophase.training.batches import Data, load_data
from twophase.training.evaluation import Examples, evaluation_sets
from twophase.training.loop import initial_state, load_state
from twophase.training.machine import prepare


class Sets(NamedTuple):
    """The examples that `evaluation` names, normalised and without augmentation: of each split
    images (n, C, H, W) and labels (n,), on the study's device.
    """

    train: Examples
    test: Examples


class States(Mapping):
    """The networks of a base run by iteration, each read when it is asked for, in eval mode."""

    def __init__(self, run: Run, data: Data, at: list[int]) -> None:
        self._run, self._data, self._at = run, data, at

    def __getitem__(self, t: int) -> nn.Module:
        if t not in self._at:
            raise KeyError(f"no state at {t}; there are {', '.join(map(str, self._at))}")
        # In a trial of two iterations those after it are as its last.
        kept = min(t, self._run.model.training.iterations)
        return network_at(self._run, self._data, stages.base_state(self._run, kept), kept)

    def __iter__(self) -> Iterator[int]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)


def own_stages(run: Run) -> None:
    """Write the table `own_stages` of one base run: what each function of the section `stages`
    returned.

    Table: study, model, seed, stage (its name), then the columns of the tables that the functions
    returned; those of another stage are empty.

    Raises `RunError` if a function fails, or returns no table of numbers, words and truth values.
    """
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    found = []
    for name, at in sorted(asked(run).items()):
        key, own = f"stages.{name}", run.model.stages[name]
        table = called(key, own, States(run, data, at), examples(run, data))
        found.append(_checked(key, table).assign(**run.identity, stage=name))
    whole = pd.concat(found, ignore_index=True)
    for column in whole:
        if not _kept(whole[column]):
            line = "is of another kind in two of the tables; rename one, or return one kind"
            raise RunError(f"stages: column {column!r} {line}")
    first = [*run.identity, "stage"]
    write_table(stages.run_table(run, "own_stages"), whole[[*first, *whole.columns.drop(first)]])


def examples(run: Run, data: Data) -> Sets:
    """What functions of the user's own are given of the data: copies, which they may change."""
    sets = evaluation_sets(data, run.model.evaluation)
    return Sets(
        **{name: (images.clone(), labels.clone()) for name, (images, labels) in sets.items()}
    )


def network_at(run: Run, data: Data, file: Result, t: int) -> nn.Module:
    """A network of a run in the state of a file, in eval mode; made anew, as functions of the
    user's own may change it.
    """
    state = initial_state(run.model, data, run.seed)
    load_state(file, state, t)
    return state.model.eval()


def called(key: str, own: OwnFunction, *given: Any) -> Any:
    """What a function returns. Random numbers that it draws from PyTorch are the same in each call,
    and switches of PyTorch that it turns are set back.

    Raises `RunError`, one line that names the section `key`, where it fails.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with switches.kept(key), torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        try:
            return functions.imported(own.file, own.function)(*given, **own.arguments)
        except Problem:
            raise
        except Exception as error:  # whatever the user's code raises
            raise RunError(f"{key}: {own.function}: {functions.at_its_line(error)}") from error


def numbers(key: str, name: str, said: Any) -> dict[str, float]:
    """The columns of a measure called `name` that returned this. Raises `RunError` if that is
    neither a number nor several by name.
    """
    values = {f"{name}_{k}": v for k, v in said.items()} if isinstance(said, dict) else {name: said}
    found = {}
    for column, value in values.items():
        try:
            if isinstance(value, str):
                raise TypeError  # "7" is no number, though Python reads one from it
            found[column] = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            kind = type(value).__name__
            line = f"returns a {kind} for {column}; must return a number, or numbers by name"
            raise RunError(f"{key}: {line}") from None
    if not found:
        raise RunError(f"{key}: returns no number; must return a number, or numbers by name")
    return found


def _checked(key: str, table: Any) -> pd.DataFrame:
    """The table, if it is one that can be kept."""
    if not isinstance(table, pd.DataFrame):
        line = "must return a pandas DataFrame; for two tables make two stages"
        raise RunError(f"{key}: returns a {type(table).__name__}; {line}")
    # What rows are called, as after `groupby`, is a column; their numbers are not.
    index = [name for name in table.index.names if name is not None]
    if len({*index, *table.columns}) < len(index) + len(table.columns):
        raise RunError(f"{key}: its table has two columns of one name")
    table = table.reset_index(drop=not index)
    taken = {"study", "model", "seed", "stage"} & {*table.columns}
    if taken:
        raise RunError(f"{key}: its table has a column {min(taken)!r}, which is put in for it")
    for column in table:
        plain = table[column].dtype.kind in "biufOUT"
        plain = plain and not any(map(_odd, table[column])) and _kept(table[column])
        if not isinstance(column, str) or not plain:
            line = "must hold numbers, words or truth values, and have a word for its name"
            raise RunError(f"{key}: column {column!r} of its table {line}")
    return table


def _kept(column: pd.Series) -> bool:
    """Whether a column can be written: it is of one kind, which a table can hold."""
    try:
        pa.Table.from_pandas(column.to_frame())
    except (pa.ArrowException, OverflowError, TypeError):
        return False
    return True


def _odd(value: Any) -> bool:
    return not isinstance(value, str | bool | int | float | np.generic | None)
