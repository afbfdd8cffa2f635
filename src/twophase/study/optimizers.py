"""The optimizers that a study can name: their options; updates are files of `optimizers/`.

A new optimizer is a record
here and a file `<optimizer>.py` with `STATE`, the names of what it keeps for each parameter, and a
function `update`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from twophase.study.records import (
    FEW,
    GIVEN,
    Count,
    Iteration,
    Mistakes,
    Positive,
    Record,
    Section,
    must_rise,
    show,
)

Share = Annotated[float, Field(ge=0, le=1)]


class Schedule(Record):
    """How the learning rate changes, from `lr` on. It first rises in equal parts to `lr` within
    `warmup` iterations: the first one has 1 / `warmup` of it.

    Then it is `constant`; or falls in `steps`, at `lr_drops`; or as a half `cosine`, or `linear`,
    to `end_factor` times `lr` at iteration `until`, without it at the end of training. There it
    stays.
    """

    kind: Literal["constant", "steps", "cosine", "linear"]
    warmup: Iteration = 0
    until: Count | None = None
    end_factor: Share = 0.0

    @property
    def falls(self) -> bool:
        """Whether it falls to an end."""
        return self.kind in ("cosine", "linear")


class Training(Section):
    """What any optimizer takes. `lr` is divided by 10 at each iteration in `lr_drops`, or changes
    as `schedule` says. Without `drop_last` the last, smaller batch of each epoch is used, too.
    """

    iterations: Count
    batch_size: Count
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    lr_drops: list[Count] = []
    schedule: Annotated[Schedule | None, GIVEN] = None
    drop_last: bool = True
    decay: ClassVar[float] = 0.0  # the weight decay that a study has without saying it
    least: ClassVar[dict[str, Any]] = {
        "iterations": 2,
        "batch_size": FEW,
        "lr_drops": [],
        "schedule": None,  # a warm-up may be longer
        "drop_last": True,
    }

    @property
    def schedule_end(self) -> int | None:
        """The iteration at which the learning rate has fallen; None if it does not fall to an
        end.
        """
        if self.schedule is None or not self.schedule.falls:
            return None
        return self.schedule.until or self.iterations

    def mistakes(self, model: Any) -> Mistakes:
        """Drops outside of training, and a schedule that does not fit them or itself."""
        yield from must_rise("lr_drops", self.lr_drops)
        for drop in self.lr_drops:
            if drop >= self.iterations:
                yield (
                    "lr_drops",
                    f"= {drop}: lies after the end of training; "
                    f"must be less than training.iterations = {self.iterations}",
                )
        if self.schedule is not None:
            yield from self._clashes(self.schedule)

    def _clashes(self, schedule: Schedule) -> Mistakes:
        """What of a schedule does not fit together."""
        if schedule.kind == "steps" and not self.lr_drops:
            yield "schedule.kind", "= 'steps': needs training.lr_drops, the iterations of its steps"
        if schedule.kind != "steps" and self.lr_drops:
            yield (
                "lr_drops",
                f"= {show(self.lr_drops)}: clashes with training.schedule.kind = "
                f"'{schedule.kind}'; must be [], or the kind 'steps'",
            )
        if not schedule.falls:
            for option in ("until", "end_factor"):
                if value := getattr(schedule, option):
                    line = f"= {value}: is of the kinds 'cosine' and 'linear'; leave it out"
                    yield f"schedule.{option}", line
        elif schedule.warmup >= self.schedule_end:
            yield (
                "schedule.warmup",
                f"= {schedule.warmup}: lasts to the end of the schedule; "
                f"must be less than {self.schedule_end}",
            )


class SGD(Training):
    """SGD with momentum, or with Nesterov's; weight decay is part of the gradient."""

    optimizer: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool = False
    decay = 1e-4

    def mistakes(self, model: Any) -> Mistakes:
        """Also Nesterov's momentum of zero."""
        yield from super().mistakes(model)
        if self.nesterov and not self.momentum:
            yield "nesterov", f"= {self.nesterov}: needs training.momentum above 0"


class Adam(Training):
    """Adam (Kingma and Ba 2015); weight decay is part of the gradient."""

    optimizer: Literal["adam"]
    betas: Annotated[
        list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)
    ] = [0.9, 0.999]
    eps: Positive = 1e-8


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    optimizer: Literal["adamw"]
    decay = 0.01


Optimizer = Annotated[SGD | Adam | AdamW, Field(discriminator="optimizer")]


def module(training: Training) -> str:
    """The module of this package that holds the update of the study's optimizer."""
    return f"optimizers.{training.optimizer}"


def imported(training: Training) -> ModuleType:
    """That module, imported."""
    return importlib.import_module(f"twophase.{module(training)}")
