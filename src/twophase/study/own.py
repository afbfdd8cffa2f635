"""Functions of the user's own beside the study file: measures, stages and figures.

What a function's text says, and what it imports, makes its own results and nothing else. Sections
`measures` and `stages` of a model, `figures` of the study; the stages `own_measures` and
`own_stages`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from twophase.store.code import Place
from twophase.store.paths import Result
from twophase.study import functions
from twophase.study.base import BASE, checkpoints, images
from twophase.study.chaos import FORK, alone, comparisons
from twophase.study.records import Arguments, Iterations, Record
from twophase.study.run import Run
from twophase.study.stage import Code, Stage, Work, part

if TYPE_CHECKING:
    from twophase.study.model import Study

# Of a measure, a stage or a figure of the user's own; it stands in columns, paths and rules.
OWN_NAME = r"^[A-Za-z][A-Za-z0-9_]*$"
OwnName = Annotated[str, Field(pattern=OWN_NAME)]
# How many arguments each kind of function gets by their places, beside its options.
TAKES = {"measures": 3, "stages": 2, "figures": 1}
# The names of the package's figures, and of what else lies beside them.
FIGURE = r"(fig|s)\d+|answer|findings|measures|all|manifest"
# Columns of the table of measures, and of what figures make of it.
COLUMNS = ("study", "model", "seed", "direction", "t0", "t1", "run", "measure", "value")


class OwnFunction(Record):
    """A `function` of a `file` beside the study file, or without a file `module:function` of an
    installed package. It takes `options`. What the code says counts, not where the file lies.
    """

    file: Annotated[str | None, Field(exclude=True)] = None
    function: str
    arguments: Arguments = {}


class OwnMeasure(OwnFunction):
    """A measure of one's own: `measure(base, fork, data)` of the two networks in eval mode returns
    a number, or several by name. `data.train` and `data.test` are the examples that `evaluation`
    names, each images and labels.
    """


class OwnStage(OwnFunction):
    """A stage of one's own: `stage(states, data)` returns a table. `states[t]` is the base run's
    network at iteration t, for each of `at`; without it, for each state that the run keeps.
    """

    at: Iterations | None = None


class OwnFigure(OwnFunction):
    """A figure of one's own: `draw(tables)` returns a `Page` of panels and a caption. `tables` are
    those named here, of all runs, by their names.
    """

    tables: Annotated[list[str], Field(min_length=1)]


Measures = dict[OwnName, OwnMeasure]
Stages = dict[OwnName, OwnStage]
Figures = dict[OwnName, OwnFigure]


def places(section: dict[str, OwnFunction] | None) -> tuple[Place, ...]:
    """Where the code of a section's functions lies, in the order of their names."""
    own = sorted((section or {}).items())
    return tuple(functions.place(each.file, each.function) for _, each in own)


def every(study: Study) -> Iterator[tuple[tuple[str, ...], OwnFunction]]:
    """All functions of a study, with the place of each in its file."""
    for name, model in study.models.items():
        for section in ("measures", "stages"):
            for key, each in (getattr(model, section) or {}).items():
                yield ("models", name, section, key), each
    for key, each in study.figures.items():
        yield ("figures", key), each


def placed(study: Study, folder: Path) -> Study:
    """The study, whose functions know where their files lie."""

    def at(section: dict[str, OwnFunction] | None) -> dict[str, OwnFunction] | None:
        return section and {
            key: each.model_copy(update={"file": str((folder / each.file).absolute())})
            if each.file
            else each
            for key, each in section.items()
        }

    models = {
        name: model.model_copy(update={s: at(getattr(model, s)) for s in ("measures", "stages")})
        for name, model in study.models.items()
    }
    return study.model_copy(update={"models": models, "figures": at(study.figures)})


def mistakes(study: Study, folder: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with a study's functions: the place of an option, and what a line says."""
    from twophase.study import stages  # late: it reads the table of stages

    there = {name for name, stage in stages.STAGE_OF.items() if stages.runs_of(study, stage)}
    there |= {f"{name}_summary" for name in stages.tables_of(study)}
    for key, each in every(study):
        count = TAKES[key[-2]]
        said = each.file, each.function, each.arguments, folder
        for option, line in functions.mistakes("function", *said, count=count):
            yield (*key, *option.split(".")), line
        if isinstance(each, OwnMeasure) and key[-1] in COLUMNS:
            yield key, f": is a column of tables; must be none of {', '.join(COLUMNS)}"
        if isinstance(each, OwnFigure):
            if re.fullmatch(FIGURE, key[-1]) or key[-1] in stages.STAGES:
                yield key, ": is the name of a figure or stage of the package; choose another"
            for table in each.tables:
                if table not in there:
                    known = ", ".join(sorted(there))
                    yield (*key, "tables"), f"= {table!r}: the study has no such table; has {known}"
        if isinstance(each, OwnStage) and each.at:
            last = study.models[key[1]].training.iterations
            if each.at != sorted(set(each.at)) or each.at[-1] > last:
                line = f"must rise, and be at most training.iterations = {last}"
                yield (*key, "at"), f"= {each.at}: {line}"


def asked(run: Run) -> dict[str, list[int]]:
    """The iterations of the states that each stage of one's own gets."""
    own = run.model.stages or {}
    return {name: each.at or checkpoints(run) for name, each in own.items()}


def own_measure(run: Run, t0: int, direction: str, t1: int) -> Result:
    """What a run's own measures say of a fork at t1, a table of one row."""
    run, direction = alone(run, direction)
    point = {"t0": t0, "direction": direction, "t1": t1}
    return part(OWN_MEASURES, "own_measure", run, ".parquet", **point)


def _options(section: str) -> Any:
    def options(run: Run) -> list:
        own = getattr(run.model, section) or {}
        # What a stage's states are at is its grid.
        said = {name: each.options(exclude={"at"}) for name, each in own.items()}
        return [said, run.model.evaluation.options()]

    return options


def _code(section: str) -> Any:
    def code(run: Run) -> Code:
        return (f"stages.own_{section}", *places(getattr(run.model, section)))

    return code


def check_code(study: Study) -> tuple[Place, ...]:
    """The user's code that a trial of all stages calls."""
    models = study.models.values()
    return tuple(p for m in models for own in (m.measures, m.stages) for p in places(own))


OWN_MEASURES = Stage(
    "own_measures",
    "Compare forks with their base run by measures of your own.",
    scope="run",
    reads=(BASE, FORK),
    tables={"own_measures": ("direction", "t0", "t1")},
    options=_options("measures"),
    parts=lambda run: [own_measure(run, *point) for point in comparisons(run)],
    grid=lambda run: comparisons(run) if run.model.chaos else [],
    work=lambda run, part: Work(rest=images(run)),
    code=_code("measures"),
    section="measures",
    named=("measures", "evaluation"),
    summarised=("own_measures",),
    memory_mb=8000,
    minutes=720,
)
OWN_STAGES = Stage(
    "own_stages",
    "Make tables of base runs by functions of your own.",
    scope="run",
    reads=(BASE,),
    tables={"own_stages": ("stage",)},
    options=_options("stages"),
    parts=lambda run: [],
    grid=asked,
    work=lambda run, table: Work(rest=images(run) * sum(map(len, asked(run).values()))),
    code=_code("stages"),
    section="stages",
    named=("stages", "evaluation"),
    memory_mb=8000,
    minutes=720,
)
