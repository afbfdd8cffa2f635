"""Where the parts of stages lie, and what makes them.

The table of stages has these names too: `stages.base_state` and the like.
"""

from __future__ import annotations

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
    return part("base", "state", run.identity, part_maker("base", run), ".safetensors", t=t)


def fork_state(run: Run, t0: int, direction: str, t1: int) -> Result:
    """A fork's state at iteration t1."""
    point = {"t0": t0, "direction": direction, "t1": t1}
    return part("fork", "fork", run.identity, part_maker("fork", run), ".safetensors", **point)


def perturbation(run: Run, t0: int, direction: str) -> Result:
    """A fork's perturbation, a table of one row; written when the fork has ended."""
    point = {"t0": t0, "direction": direction}
    return part("fork", "perturbation", run.identity, part_maker("fork", run), ".parquet", **point)


def comparison(run: Run, t0: int, direction: str, t1: int) -> Result:
    """The comparison of a fork with its base run at t1, a table of one row."""
    point = {"t0": t0, "direction": direction, "t1": t1}
    return part("chaos", "comparison", run.identity, part_maker("chaos", run), ".parquet", **point)


def kernel_file(run: Run, t: int) -> Result:
    """The kernel of the base run's state at iteration t."""
    return part(
        "kernel", "kernel_matrix", run.identity, part_maker("kernel", run), ".safetensors", t=t
    )


def curvature_at(run: Run, t: int) -> Result:
    """The curvature at iteration t, a table of one row."""
    maker = part_maker("curvature", run)
    return part("curvature", "curvature_row", run.identity, maker, ".parquet", t=t)


def growth_part(run: Run, t0: int, precision: str) -> Result:
    """The steps from one t0 in one precision, a table."""
    point = {"t0": t0, "precision": precision}
    return part(
        "growth", "growth_steps", run.identity, part_maker("growth", run), ".parquet", **point
    )


def match(run: Run, t0: int, direction: str, t1: int) -> Result:
    """A fork matched with its base run at t1, a table of one row."""
    point = {"t0": t0, "direction": direction, "t1": t1}
    return part("matching", "match", run.identity, part_maker("matching", run), ".parquet", **point)


def linearized_state(run: Run, switch: int, t: int) -> Result:
    """The linearised network's state at iteration t."""
    maker, point = part_maker("linearized", run), {"switch": switch, "t": t}
    return part("linearized", "linearized_state", run.identity, maker, ".safetensors", **point)


def linearized_end(run: Run, switch: int) -> Result:
    """The end of linearised training from a switch on, a table of one row."""
    maker = part_maker("linearized", run)
    return part("linearized", "switch", run.identity, maker, ".parquet", switch=switch)


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
