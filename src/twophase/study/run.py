"""A run: one model of a study from one seed, with all that starts from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twophase.study.model import Model, Study


@dataclass(frozen=True)
class Run:
    """One base run of a study, with all that starts from it.

    `only` names points of stages that are done without the others: (stage, its points). Without it
    each stage does all of its points.
    """

    study: Study
    name: str  # of the model
    seed: int
    only: tuple[tuple[str, tuple], ...] = ()

    @property
    def model(self) -> Model:
        """The model's network and sections."""
        return self.study.models[self.name]

    def among(self, stage: str, points: Sequence) -> list:
        """Those of a stage's points that the run does."""
        chosen = dict(self.only).get(stage)
        return [point for point in points if chosen is None or point in chosen]

    @property
    def identity(self) -> dict[str, str | int]:
        """What stands in each of the run's tables."""
        return {"study": self.study.name, "model": self.name, "seed": self.seed}

    @property
    def shared(self) -> dict[str, str | int]:
        """What stands in each of the parts that its stages keep: in place of a swept model the one
        that the sweep is of, so that what is equal is there once.
        """
        swept = self.study.sweep.get(self.name)
        return self.identity | ({"model": swept.of} if swept else {})

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"


def runs(study: Study, section: str | None = None) -> list[Run]:
    """The base runs of a study: of all models, or of those that have the section."""
    return [
        Run(study, name, seed)
        for name, model in study.models.items()
        if section is None or getattr(model, section)
        for seed in study.seeds
    ]
