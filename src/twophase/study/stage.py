"""What a stage is: a row that says what it reads, what makes its results, and what it leaves.

A stage leaves *parts*, which are kept one by one in a folder (a state, a kernel, a comparison), and
*tables*, written last, which gather them. A part is made by less than a table: a new point in a
grid asks for a new table, and the stage then adds only what the folder lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from twophase.store import paths
from twophase.store.code import Place, code_digest, digests
from twophase.store.paths import Maker, Result, digest, recipe
from twophase.study.run import Run

if TYPE_CHECKING:
    from twophase.study.model import Study

Keys = tuple[str, ...]
Code = tuple[str | Place, ...]  # modules of this package, and the user's own files


class Work(NamedTuple):
    """What making one result takes: a part, or the tables of a stage without parts.

    The units are the stage's own: `plan` measures what one costs, on a small piece of the study,
    where it may have fewer examples.
    """

    iterations: int = 0  # steps of an optimizer
    rest: float = 1.0  # all else
    disk: float = 1.0  # the file's size


@dataclass(frozen=True, eq=False)
class Stage:
    """A row of the table of stages. `options` and `grid` are JSON values of a run."""

    name: str
    help: str
    # One job for each run, or one for the study. Of a study's, tables are still of each run.
    scope: Literal["study", "run"]
    reads: tuple[Stage, ...]  # the stages whose results it needs
    # Its tables, with the columns that tell apart the points of each. The first is what shows that
    # the stage has ended.
    tables: dict[str, Keys]
    options: Callable[[Run], Any]  # what makes a part, beside code and what the stage reads
    parts: Callable[[Run], list[Result]]
    grid: Callable[[Run], Any]  # what else makes the tables: the points that they hold
    work: Callable[[Run, Result], Work]  # that a part is, or where there are none the tables
    section: str | None = None  # of a model; without it the model does without this stage
    # The sections of a study file that `options` are of, where it is not the stage's own, and what
    # the values of `grid` are.
    named: Keys = ()
    points: Keys = ("points",)
    code: Callable[[Run], Code] | None = None  # what makes a part; else the stage's own module
    summarised: Keys = ()  # tables of which there is a summary over all runs
    keeps_time: bool = False  # keeps its state every few minutes
    shared: bool = False  # its parts are shared out to several jobs of a run
    always: Callable[[Run], float] = lambda run: 0  # work that it does whatever parts are there
    memory_mb: int = 4000
    minutes: int = 30


def part(stage: Stage, kind: str, run: Run, suffix: str, **point: int | str) -> Result:
    """The part of a run's stage at a point."""
    maker = part_maker(stage, run)
    found = paths.part(stage.name, kind, run.shared, maker, suffix, **point)
    return replace(found, read_as=run.name) if run.study.sweep else found


def unfinished(kept: Result) -> Result:
    """The state between two kept ones that a stage leaves every few minutes; `kept` is one of
    those.
    """
    identity = {key: kept.identity[key] for key in kept.identity if key not in ("t", "t1")}
    return replace(kept, path=kept.path.with_name("unfinished.safetensors"), identity=identity)


def part_maker(stage: Stage, run: Run) -> Maker:
    """What makes a stage's parts; the seed is no part of it."""
    return _part_maker(stage, run.study, run.name)


@lru_cache(maxsize=4096)
def _part_maker(stage: Stage, study: Study, name: str) -> Maker:
    run = Run(study, name, study.seeds[0])
    before = {each.name: part_maker(each, run) for each in stage.reads}
    modules = stage.code(run) if stage.code else (f"stages.{stage.name}",)
    options, makers = stage.options(run), before.values()
    return Maker(
        digest([options, [maker.options for maker in makers]]),
        digest([code_digest(*modules), [maker.code for maker in makers]]),
        recipe(_named(stage, options), digests(*modules), before),
        before,
    )


def table_maker(stage: Stage, run: Run) -> Maker:
    """What makes a stage's tables. Other than parts they also say what made all before them: there
    are few of them, and states and kernels may be gone.
    """
    parts, grid = part_maker(stage, run), stage.grid(run)
    module = f"stages.{stage.name}"
    said = parts.recipe | {"code": parts.recipe["code"] | digests(module)}
    points = dict(zip(stage.points, [grid] if len(stage.points) == 1 else grid, strict=True))
    behind = parts.behind()
    return Maker(
        digest([parts.options, grid]),
        digest([parts.code, code_digest(module)]),
        said | {"points": points} | ({"behind": behind} if behind else {}),
        parts.before,
    )


def _named(stage: Stage, options: Any) -> dict[str, Any]:
    """The options of a stage by the names of their sections in a study file."""
    if options is None:
        return {}
    if len(stage.named) < 2:
        return {stage.named[0] if stage.named else stage.section: options}
    if len(options) < len(stage.named):  # the last is of several sections itself
        options = [*options[:-1], *options[-1]]
    return dict(zip(stage.named, options, strict=True))


def since(t: int, start: int, kept: list[int]) -> int:
    """Iterations to t from the last one that is kept, or from the start."""
    return t - max([start, *(each for each in kept if start <= each < t)])
