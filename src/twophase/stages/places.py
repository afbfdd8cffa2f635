"""Where the parts of stages lie, and what makes them.

The table of stages has these names too: `stages.base_state` and the like.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import lru_cache

from twophase.store.fingerprint import code_digest
from twophase.store.own_code import digest_of
from twophase.store.paths import RESULTS, Maker, Result, digest, part, table
from twophase.study import Run, Study, runs


def data_file(study: Study) -> Result:
    """The data set of the study, in its canonical form."""
    maker, identity = part_maker("data", runs(study)[0]), {"source": study.data.images.source}
    return table(RESULTS / study.name, "data", identity, maker, ".safetensors", "data")


def check_mark(study: Study) -> Result:
    """What shows that the networks of the study have passed `check`: a table of what was tried."""
    maker = part_maker("check", runs(study)[0])
    return table(RESULTS / study.name, "check", {"study": study.name}, maker, ".parquet", "check")


def base_state(run: Run, t: int) -> Result:
    """The base run's state at iteration t."""
    return _part("base", "state", run, ".safetensors", t=t)


def fork_state(run: Run, t0: int, direction: str, t1: int) -> Result:
    """A fork's state at iteration t1."""
    return _part("fork", "fork", run, ".safetensors", t0=t0, direction=direction, t1=t1)


def perturbation(run: Run, t0: int, direction: str) -> Result:
    """A fork's perturbation, a table of one row; written when the fork has ended."""
    return _part("fork", "perturbation", run, ".parquet", t0=t0, direction=direction)


def comparison(run: Run, t0: int, direction: str, t1: int) -> Result:
    """The comparison of a fork with its base run at t1, a table of one row."""
    return _part("chaos", "comparison", run, ".parquet", t0=t0, direction=direction, t1=t1)


def kernel_file(run: Run, t: int) -> Result:
    """The kernel of the base run's state at iteration t."""
    return _part("kernel", "kernel_matrix", run, ".safetensors", t=t)


def curvature_at(run: Run, t: int) -> Result:
    """The curvature at iteration t, a table of one row."""
    return _part("curvature", "curvature_row", run, ".parquet", t=t)


def growth_part(run: Run, t0: int, precision: str) -> Result:
    """The steps from one t0 in one precision, a table."""
    return _part("growth", "growth_steps", run, ".parquet", t0=t0, precision=precision)


def match(run: Run, t0: int, direction: str, t1: int) -> Result:
    """A fork matched with its base run at t1, a table of one row."""
    return _part("matching", "match", run, ".parquet", t0=t0, direction=direction, t1=t1)


def linearized_state(run: Run, switch: int, t: int) -> Result:
    """The linearised network's state at iteration t."""
    return _part("linearized", "linearized_state", run, ".safetensors", switch=switch, t=t)


def linearized_end(run: Run, switch: int) -> Result:
    """The end of linearised training from a switch on, a table of one row."""
    return _part("linearized", "switch", run, ".parquet", switch=switch)


def _part(stage: str, kind: str, run: Run, suffix: str, **point: int | str) -> Result:
    found = part(stage, kind, run.shared, part_maker(stage, run), suffix, **point)
    return replace(found, read_as=run.name) if run.study.sweep else found


def unfinished(kept: Result) -> Result:
    """The state between two kept ones that a stage leaves every few minutes; `kept` is one of
    those.
    """
    identity = {key: kept.identity[key] for key in kept.identity if key not in ("t", "t1")}
    return replace(kept, path=kept.path.with_name("unfinished.safetensors"), identity=identity)


@lru_cache(maxsize=4096)
def _cached(stage: str, study: Study, name: str) -> Maker:
    from twophase.stages import STAGES  # late: the rows of the table name these places

    run, row = Run(study, name, study.seeds[0]), STAGES[stage]
    before = [part_maker(each, run) for each in row.reads]
    modules = row.code(run) if row.code else (f"stages.{stage}",)
    return Maker(
        digest([row.options(run), [maker.options for maker in before]]),
        digest([digest_of(*modules), [maker.code for maker in before]]),
    )


def part_maker(stage: str, run: Run) -> Maker:
    """What makes a stage's parts; the seed is no part of it."""
    return _cached(stage, run.study, run.name)


def table_maker(stage: str, run: Run) -> Maker:
    """What makes a stage's tables."""
    from twophase.stages import STAGES  # late: the rows of the table name these places

    parts = part_maker(stage, run)
    return Maker(
        digest([parts.options, STAGES[stage].grid(run)]),
        digest([parts.code, code_digest(f"stages.{stage}")]),
    )


def before_in_sweep(stage: str, run: Run) -> list[tuple[str, Run]]:
    """The stages of earlier models of the sweep that leave parts in a folder of this one: of two
    jobs that may make the same parts, one waits for the other.
    """
    from twophase.stages import STAGES  # late: the rows of the table name these places

    swept, own = run.study.sweep, _folders(stage, run)
    earlier = itertools.takewhile(lambda name: name != run.name, swept)
    others = [Run(run.study, n, run.seed) for n in earlier if swept[n].of == swept[run.name].of]
    rows = [name for name, row in STAGES.items() if row.scope == "run"]
    return [(each, other) for other in others for each in rows if own & _folders(each, other)]


@lru_cache(maxsize=4096)
def _folders(stage: str, run: Run) -> frozenset[str]:
    """The folders of a run in which a stage leaves its parts."""
    from twophase.stages import STAGES  # late: as above

    row = STAGES[stage]
    there = row.section is None or getattr(run.model, row.section)
    parts = row.parts(run) if there else []
    return frozenset(f"{part.command}-{part.maker.fingerprint}" for part in parts)
