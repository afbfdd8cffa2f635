"""Command `adopt`: take over results of older code, after a sample of the work gave the same bits.

A change of code gives results new names, even if it changes no number. Results of the same options
under their old names are not believed but tested: copies of them get their new names in a scratch
folder, a sample of the parts is taken away there, and the stages, as they are today, do that work
again from the states that are kept. Only if every bit is the same does everything take its new
name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from twophase.errors import ArtifactError, RunError
from twophase.store.artifacts import (
    check_origin,
    read_header,
    read_table,
    read_tensors,
    write_table,
    write_tensors,
)
from twophase.store.origin import ORIGIN
from twophase.store.paths import RESULTS, Result
from twophase.study import stages
from twophase.study.base import checkpoints
from twophase.study.chaos import compare_points, forks
from twophase.study.kernel import kernel_steps
from twophase.study.linearized import switches
from twophase.study.model import Study
from twophase.study.run import Run
from twophase.training.tensors import bits


class Adoption(NamedTuple):
    """A result that is missing, and the file of older code that may be the same."""

    stage: str
    run: Run
    result: Result
    old: Path


def adopt(study: Study, sample: float) -> None:
    """Adopt what the study asks for, is missing, and is there by older code.

    `sample` is the share of each stage's work, per run, that is done again; one part of each kind
    at least. Meanwhile the results take twice their space. Prints what it did.

    Tables that have other columns today are left to be made again, and so is what is made of them.

    Raises `RunError` if one bit differs, with the first difference: then nothing is adopted. Also
    if the old results were made by other packages or on another kind of machine.
    """
    found = list(_candidates(study))
    if not found:
        print(f"{study.name}: nothing to adopt")
        return
    for left in RESULTS.glob(".adopt-*"):  # by one that was killed
        shutil.rmtree(left)
    with _scratch(study) as scratch:
        for adoption in found:
            _copy(adoption, sample)
        proved: set[Path] = set()
        again = 0
        for adoptions in _by_stage_and_run(found):
            compared, believed = _prove(adoptions, sample)
            again += compared
            proved |= believed
        found = [adoption for adoption in found if adoption.result.path in proved]
        for adoption in found:
            (scratch.parents[1] / adoption.result.path).parent.mkdir(parents=True, exist_ok=True)
            adoption.result.path.replace(scratch.parents[1] / adoption.result.path)
    for adoption in found:
        adoption.old.unlink()
        for folder in adoption.old.parents:
            if any(folder.iterdir()):
                break
            folder.rmdir()
    print(f"{study.name}: {len(found)} results adopted; {again} done again, every bit the same")


def _candidates(study: Study) -> Iterator[Adoption]:
    """What is missing, with the file under an older name that was made by the same options.

    All parts of a run's stage that the same code makes come from one version of it, that which made
    most of them; so do all its tables.
    """
    seen: set[Path] = set()  # models of a sweep share parts
    for stage, row in stages.STAGES.items():
        its_runs = stages.runs_of(study, stage)
        for run in its_runs if row.scope == "run" else its_runs[:1]:
            parts = [part for part in row.parts(run) if part.path not in seen]
            seen |= {part.path for part in parts}
            # Stages that it has do its work; and each family of perturbations has code of its own.
            makers = dict.fromkeys(map(_made_by, parts))
            of_each = [[part for part in parts if _made_by(part) == maker] for maker in makers]
            for results in (*of_each, [stages.run_table(run, t) for t in row.tables]):
                versions: dict[str, list[Adoption]] = {}
                for result in results:
                    if not result.path.exists():
                        for code, old in _older(result):
                            adoption = Adoption(stage, run, result, old.absolute())
                            versions.setdefault(code, []).append(adoption)
                yield from max(versions.values(), key=len, default=[])


def _made_by(part: Result) -> tuple[str, str]:
    return part.command, part.maker.code


def _older(result: Result) -> Iterator[tuple[str, Path]]:
    """The files of the same options and identity under other fingerprints, with their code."""
    pattern = str(result.path).replace(f"-{result.maker.fingerprint}", "-????????")
    for file in sorted(Path().glob(pattern)):
        try:
            maker = read_header(file).get("maker", {})
        except ArtifactError:
            continue
        if maker.get("options") == result.maker.options:
            if result.command != "data":  # all images are read again, by no device
                check_origin(file, ORIGIN, "this proof")
            yield maker["code"], file


@contextmanager
def _scratch(study: Study) -> Iterator[Path]:
    """Work in a folder in which all that the study has already is there too."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix=".adopt-", dir=RESULTS) as name:
        folder = Path(name).absolute()
        for entry in before.iterdir():
            if entry.name != RESULTS.name:
                (folder / entry.name).symlink_to(entry)
        for result in stages.every(study):
            if result.path.exists():
                (folder / result.path).parent.mkdir(parents=True, exist_ok=True)
                os.link(result.path, folder / result.path)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def _copy(adoption: Adoption, sample: float) -> None:
    """Write the old file under its new name; it says what made it, and what was proved."""
    header = read_header(adoption.old)
    adopted = {"made_by_code": header["maker"]["code"], "sample": sample}
    said = {"origin": header["origin"], "adopted": adopted}
    old = Result(adoption.old, header["identity"])
    if adoption.old.suffix == ".parquet":
        write_table(adoption.result, read_table(old), **said)
    else:
        write_tensors(adoption.result, read_tensors(old), **said)


def _by_stage_and_run(found: list[Adoption]) -> list[list[Adoption]]:
    groups: dict[tuple, list[Adoption]] = {}
    for adoption in found:
        groups.setdefault((adoption.stage, str(adoption.run)), []).append(adoption)
    return list(groups.values())


def _prove(adoptions: list[Adoption], sample: float) -> tuple[int, set[Path]]:
    """Do a sample of one run's stage again and compare.

    Returns how many results were compared, and the paths of those that are believed: the parts of
    what has ended, if one of each kind was compared, and the tables that could be made again. What
    is not believed is gone from the scratch folder.
    """
    stage, run = adoptions[0].stage, adoptions[0].run
    row = stages.STAGES[stage]
    there = _as_far_as_ended(stage, run)
    ended = {part.path for part in row.parts(there)}
    if not all(path.exists() for path in ended) or (row.parts(run) and not ended):
        return _disbelieved(adoptions)
    if not ended and row.grid(there) != row.grid(run):  # a stage without parts gathers all or none
        return _disbelieved(adoptions)
    parts = [each.result for each in adoptions if each.result.path in ended]
    tables = [each.result for each in adoptions if each.result.identity["kind"] in row.tables]
    chosen = [*_sampled(stage, parts, sample, run.seed), *tables]
    for result in chosen:
        result.path.rename(_aside(result.path))
    try:
        stages.imported(stage)(there if row.scope == "run" else run.study)
    except ArtifactError as error:  # what the stage reads is gone
        print(f"{stage} of {run}: cannot be proved: {error}")
        for result in chosen:
            _aside(result.path).unlink()
        return _disbelieved(adoptions)
    # A run that has not ended gives a table of fewer points, which is another result.
    again = [result for result in chosen if result.path.exists()]
    other = {r.path: said for r in again if (said := _compare(r, _aside(r.path)))}
    for result in chosen:
        _aside(result.path).replace(result.path)
    whole = not any(part.path in other for part in parts)
    if other:
        told = "these are" if whole else "the stage is"
        print(f"{stage} of {run}: {next(iter(other.values()))}; {told} left to be made again")
    if not whole:
        return _disbelieved(adoptions)
    _disbelieved([adoption for adoption in adoptions if adoption.result.path in other])
    same = [result for result in again if result.path not in other]
    return len(same), {each.path for each in [*parts, *same]}


def _disbelieved(adoptions: list[Adoption]) -> tuple[int, set[Path]]:
    """Take the copies away, so that nothing is proved from them; what `_prove` returns then."""
    for adoption in adoptions:
        adoption.result.path.unlink(missing_ok=True)
    return 0, set()


def _aside(path: Path) -> Path:
    return path.with_name(f"old-{path.name}")


def _sampled(stage: str, parts: list[Result], sample: float, seed: int) -> list[Result]:
    """Of each kind of part, made by the same code, a random share of the work, `sample` of it, and
    one at least.

    A state costs the iterations since the one before it, any other part the same as its like. The
    first state drawn may cost a twentieth of all; if all cost more, it is the cheapest.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for kind in dict.fromkeys((part.identity["kind"], part.maker.code) for part in parts):
        alike = [p for p in parts if (p.identity["kind"], p.maker.code) == kind]
        costs = [_cost(stage, part, alike) for part in alike]
        budget = sample * sum(costs)
        order = rng.permutation(len(alike)).tolist()
        first = [i for i in order if 0 < costs[i] <= max(budget, sum(costs) / 20)]
        first = first or sorted((i for i in order if costs[i]), key=costs.__getitem__)
        taken = [i for i in order if not costs[i]] + first[:1]
        budget -= sum(costs[i] for i in taken)
        for i in order:
            if i not in taken and costs[i] <= budget:
                taken.append(i)
                budget -= costs[i]
        chosen += [alike[i] for i in taken]
    return chosen


def _cost(stage: str, part: Result, alike: list[Result]) -> int:
    """What it costs to make a part again, if all others of its kind are there."""
    t = _time(part)
    if not stages.STAGES[stage].keeps_time or t is None:
        return 1
    start = part.identity.get("t0", part.identity.get("switch", 0))
    earlier = [_time(other) for other in alike if other.path.parent == part.path.parent]
    return t - max([start, *(other for other in earlier if other < t)])


def _time(part: Result) -> int | None:
    return part.identity.get("t1", part.identity.get("t"))


def _as_far_as_ended(stage: str, run: Run) -> Run:
    """The run without the base states, forks, kernels and switches that have not ended.

    Other stages are proved where they have ended, or not at all.
    """
    states = [t for t in checkpoints(run) if stages.base_state(run, t).path.exists()]
    only = {"base": states if 0 in states else []}
    if run.model.chaos:
        part = stages.comparison if stage == "chaos" else stages.fork_state
        only["fork"] = [
            (t0, direction)
            for t0, direction in forks(run)
            if all(part(run, t0, direction, t1).path.exists() for t1 in compare_points(run, t0))
        ]
    if run.model.kernel:
        steps = kernel_steps(run)
        only["kernel"] = [t for t in steps if stages.kernel_file(run, t).path.exists()]
    if run.model.linearized:
        ends = {switch: stages.linearized_end(run, switch) for switch in switches(run)}
        only["linearized"] = [switch for switch, end in ends.items() if end.path.exists()]
    return replace(run, only=tuple((name, tuple(points)) for name, points in only.items()))


def _compare(result: Result, before: Path) -> str:
    """Compare a result, made again, with the file `before`. Returns in words how the columns of a
    table are others; nothing if all is the same.

    Raises `RunError` if one bit differs.
    """
    old = Result(before.absolute(), {})
    if result.path.suffix == ".parquet":
        tables = read_table(old), read_table(result)
        if other := _other_columns(*map(list, tables)):
            return other
        difference = _difference_of_tables(*tables)
    else:
        difference = _difference_of_tensors(read_tensors(old), read_tensors(result))
    if difference:
        raise RunError(
            f"{result.path}: made again by this code it differs from what older code made "
            f"({difference}); nothing was adopted"
        )
    return ""


def _other_columns(old: list[str], new: list[str]) -> str:
    gone, added = ", ".join(sorted({*old} - {*new})), ", ".join(sorted({*new} - {*old}))
    told = [gone and f"no longer have {gone}", added and f"have {added} now"]
    said = " and ".join(filter(None, told)) or "have their columns in another order now"
    return f"its tables {said}" if old != new else ""


def _difference_of_tables(old: pd.DataFrame, new: pd.DataFrame) -> str:
    if len(old) != len(new):
        return f"{len(old)} rows became {len(new)}"
    for column in old:
        for row, (a, b) in enumerate(zip(old[column], new[column], strict=True)):
            if not np.array_equal(a, b, equal_nan=isinstance(a, float)):
                return f"row {row}, {column}: {a!r} became {b!r}"
    return ""


def _difference_of_tensors(old: dict, new: dict) -> str:
    if old.keys() != new.keys():
        return f"tensor {sorted(old.keys() ^ new.keys())[0]} is in one of them only"
    for name, a in old.items():
        b = new[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{name}: {tuple(a.shape)} {a.dtype} became {tuple(b.shape)} {b.dtype}"
        different = (bits(a) != bits(b)).nonzero()
        if len(different):
            place = int(different[0]) // a.element_size()
            return f"{name}, entry {place}: {a.flatten()[place]} became {b.flatten()[place]}"
    return ""
