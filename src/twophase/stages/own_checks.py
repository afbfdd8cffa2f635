"""What functions of the user's own must be, tried before training: the same again, and fit for the
tables that the study will have.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from twophase.errors import RunError
from twophase.figures import pictures
from twophase.store.artifacts import read_table, write_table
from twophase.study import stages
from twophase.study.model import Model, Study
from twophase.study.run import Run
from twophase.training.batches import Data
from twophase.training.loop import initial_state
from twophase.training.tensors import bits

ITERATIONS = ("t0", "t1", "t", "u")  # columns of tables


def same_again(run: Run, stage: str) -> None:
    """Do the work of `own_measures` or `own_stages` once more in place of the first.

    Raises `RunError` if its table is another.
    """
    (name,) = stages.STAGES[stage].tables
    table = stages.run_table(run, name)
    first = read_table(table)
    for file in [*stages.STAGES[stage].parts(run), table]:
        file.path.unlink()
    stages.imported(stage)(run)
    again = read_table(table)
    if not first.equals(again):
        alike = first.shape == again.shape and first.columns.equals(again.columns)
        columns = [c for c in first if alike and not first[c].equals(again[c])] or [name]
        raise RunError(
            f"{columns[0]} is another when the function is called again; draw random numbers from "
            "PyTorch, whose generators are seeded, and keep nothing between calls"
        )


def task(run: Run, data: Data, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Raise `RunError` if a function of the user's own task gives no tensor, or another when it is
    called again: losses are measured outside training, too, where no random numbers are shared.
    """
    model = initial_state(run.model, data, run.seed).model.eval()
    try:
        out = model(images)
    except Exception:  # a network is any code, and is tried by itself
        return
    called = {
        "loss": lambda: data.task.losses(out, labels),
        "prediction": lambda: data.task.prediction(out),
        "outputs": lambda: data.task.outputs(out),
    }
    for role, name in run.study.data.images.task.named().items():
        said = f"data.images.task.{role} = {name!r}"
        found, again = called[role](), called[role]()
        if not isinstance(found, torch.Tensor):
            raise RunError(f"{said}: returns a {type(found).__name__}; must return a tensor")
        if not torch.equal(bits(found), bits(again)):
            line = "draws random numbers, or keeps something between calls; draw them in the data"
            raise RunError(f"{said}: returns other numbers for the same outputs: it {line}")
        if role == "loss" and not found.requires_grad:
            raise RunError(f"{said}: does not depend on what the network gives; no `detach`")


def drawn(study: Study, few: Study, figure: str) -> None:
    """Draw a figure of the user's own from the tables of two iterations of `few`, or if it fails
    from as many rows as the `study` will have: it may ask for iterations by their numbers.
    """
    try:
        pictures.tried(few, figure)
        return
    except Exception:  # it is any code
        given = pictures.tables(few, figure)
    for key, result in given.items():
        path = Path("whole") / result.path
        path.parent.mkdir(parents=True, exist_ok=True)
        given[key] = replace(result, path=path)
        write_table(given[key], whole(study, read_table(result)))
    pictures.tried(few, figure, given)


def whole(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """A table of two iterations, with the rows of its last as those of all seeds, directions and
    iterations of the study: numbers that nothing has measured, for a trial.
    """
    if "model" not in table or table.empty:
        return table
    parts = [_whole(study, study.models[name], own) for name, own in table.groupby("model")]
    return pd.concat(parts, ignore_index=True)


def _whole(study: Study, model: Model, table: pd.DataFrame) -> pd.DataFrame:
    columns, chaos = table.columns, model.chaos
    key = [column for column in ITERATIONS if column in table]
    at = {
        "t0": chaos.forks if chaos else [],
        "t1": chaos.compared() if chaos else [],
        "t": model.checkpoints(),
        "u": model.checkpoints(),
    }
    points = pd.DataFrame(product(*(at[column] for column in key)), columns=key)
    if {"t0", "t1"} <= {*key}:
        points = points[points["t0"] < points["t1"]]
    if key and len(points):
        last = (table[key] == table[key].iloc[-1]).all(axis=1)
        table = table[last].drop(columns=key).merge(points, how="cross")
    if "seed" in table:
        table = table.drop(columns="seed").merge(pd.DataFrame({"seed": study.seeds}), how="cross")
    if "direction" in table and chaos:
        first = table[table["direction"].str.endswith("1")]
        others = [
            first.assign(direction=first["direction"].str.slice(stop=-1) + str(number))
            for number in range(2, chaos.directions + 1)
        ]
        table = pd.concat([table, *others], ignore_index=True)
    return table[columns]
