"""What functions of the user's own must be, tried before training: the same again, and fit for the
tables that the study will have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from twophase.errors import RunError
from twophase.figures import pictures
from twophase.store.artifacts import read_table, write_table
from twophase.study import stages
from twophase.study.model import Model, Study
from twophase.study.run import Run
from twophase.study.sizes import sized
from twophase.training.batches import Data
from twophase.training.loop import initial_state
from twophase.training.tensors import bits


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
    parts = []
    for name, own in table.groupby("model") if "model" in table else ():
        for column, values in _asked(study, study.models[name], own).items():
            if column in own and values:
                last = own[own[column] == own[column].iloc[-1]]
                own = pd.concat([last.assign(**{column: value}) for value in values])
        if chaos := study.models[name].chaos if {"seed", "direction"} <= {*own} else None:
            first = own[own["direction"].str.endswith("1")]
            stem = first["direction"].str.slice(stop=-1)
            more = [first.assign(direction=stem + str(n)) for n in range(2, chaos.directions + 1)]
            own = pd.concat([own, *more])
        parts.append(own[own["t0"] < own["t1"]] if {"t0", "t1"} <= {*own} else own)
    return pd.concat(parts, ignore_index=True) if parts else table


def _asked(study: Study, model: Model, table: pd.DataFrame) -> dict[str, Sequence]:
    """What stands in columns of a table once all is done, where a trial has less."""
    if "stage" in table:  # of the user's own, which got states of the study's iterations
        return {"seed": study.seeds}
    chaos, growth, kept = model.chaos, model.growth, model.checkpoints()
    forks = growth if "precision" in table else chaos
    return {
        "seed": study.seeds,
        "t0": forks.forks if forks else [],
        "t1": chaos.compared() if chaos else [],
        "t": kept,
        "u": kept,
        "switch": model.linearized.switches if model.linearized else [],
        "step": range(growth.steps + 1) if growth else [],
        "size": sorted({sized(model).size, *model.sizes.values}) if model.sizes else [],
    }
