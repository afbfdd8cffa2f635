"""The optimizers that a study can name: their options here, each update in its own file.

This module imports no PyTorch, because the Snakefile reads studies. A new optimizer is a record
here and a file `<optimizer>.py` with `STATE`, the names of what it keeps for each parameter, and a
function `update`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import Field

from twophase.records import Count, Mistakes, Number, Positive, Record, must_rise


class Training(Record):
    """What any optimizer takes. `lr` is divided by 10 at each iteration in `lr_drops`."""

    iterations: Count
    batch_size: Count
    lr: Positive
    weight_decay: Annotated[Number, Field(ge=0)]
    lr_drops: list[Count]

    def mistakes(self, model: Any) -> Mistakes:
        """Drops outside of training."""
        yield from must_rise("lr_drops", self.lr_drops)
        for drop in self.lr_drops:
            if drop >= self.iterations:
                yield (
                    "lr_drops",
                    f"= {drop}: lies after the end of training; "
                    f"must be less than training.iterations = {self.iterations}",
                )


class SGD(Training):
    """SGD with momentum; weight decay is part of the gradient."""

    optimizer: Literal["sgd"] = "sgd"
    momentum: Annotated[Number, Field(ge=0, lt=1)]


class AdamW(Training):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    optimizer: Literal["adamw"]
    betas: Annotated[
        list[Annotated[Number, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)
    ] = [0.9, 0.999]
    eps: Positive = 1e-8


Optimizer = Annotated[SGD | AdamW, Field(discriminator="optimizer")]


def module(training: Training) -> str:
    """The module of this package that holds the update of the study's optimizer."""
    return f"optimizers.{training.optimizer}"


def load(training: Training) -> ModuleType:
    """That module, imported."""
    return importlib.import_module(f"twophase.{module(training)}")
