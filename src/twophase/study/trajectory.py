"""The way through the space of parameters: section and stage `trajectory`."""

from __future__ import annotations

from twophase.study.base import BASE, checkpoints
from twophase.study.records import Section
from twophase.study.stage import Stage, Work


class Trajectory(Section):
    """The map of the base run's way through the space of parameters, at all its checkpoints."""


TRAJECTORY = Stage(
    "trajectory",
    "Map a base run's way through the space of parameters.",
    scope="run",
    reads=(BASE,),
    tables={"trajectory": ("t", "u")},
    options=lambda run: None,
    parts=lambda run: [],
    grid=checkpoints,
    work=lambda run, table: Work(rest=len(checkpoints(run))),  # each state is read
    section="trajectory",
    summarised=("trajectory",),
    minutes=120,
)
