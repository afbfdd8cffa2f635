"""Every kind of result, damaged in every way: the stage that reads it refuses, in one line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from twophase.errors import ArtifactError
from twophase.figures import drawing
from twophase.stages.base import base
from twophase.stages.chaos import chaos
from twophase.stages.cone import cone
from twophase.stages.curvature import curvature
from twophase.stages.fork import fork
from twophase.stages.growth import growth
from twophase.stages.kernel import kernel
from twophase.stages.linearized import linearized
from twophase.stages.matching import matching
from twophase.stages.summary import summary
from twophase.stages.trajectory import trajectory
from twophase.store import artifacts
from twophase.store.artifacts import (
    read_header,
    read_table,
    read_tensors,
    write_table,
    write_tensors,
)
from twophase.store.paths import Result
from twophase.study import stages
from twophase.study.curvature import curvature_steps
from twophase.study.run import Run

# Each kind of result: one file of it, another of its kind (or of the same stage), the stage that
# reads it, and what must be gone for that stage to read it.
READERS = {
    "data": (
        lambda run: stages.data_file(run.study),
        lambda run: stages.base_state(run, 0),
        base,
        lambda run: [],
    ),
    "base state": (
        lambda run: stages.base_state(run, 0),
        lambda run: stages.base_state(run, 4),
        fork,
        lambda run: [stages.perturbation(run, 0, "1")],
    ),
    "base state that training resumes from": (
        lambda run: stages.base_state(run, 8),
        lambda run: stages.base_state(run, 6),
        base,
        lambda run: [stages.base_state(run, 12)],
    ),
    "state kept by time": (
        lambda run: stages.unfinished(stages.base_state(run, 0)),
        lambda run: stages.base_state(run, 4),
        base,
        lambda run: [stages.base_state(run, t) for t in (6, 8, 12)],
    ),
    "base state of a comparison": (
        lambda run: stages.base_state(run, 6),
        lambda run: stages.fork_state(run, 0, "1", 6),
        chaos,
        lambda run: [stages.comparison(run, 0, "1", 6)],
    ),
    "base state of the trajectory's map": (
        lambda run: stages.base_state(run, 4),
        lambda run: stages.base_state(run, 8),
        trajectory,
        lambda run: [],
    ),
    "base state of a switch": (
        lambda run: stages.base_state(run, 6),
        lambda run: stages.base_state(run, 12),
        linearized,
        lambda run: [stages.linearized_end(run, 6)],
    ),
    "base state of a kernel": (
        lambda run: stages.base_state(run, 4),
        lambda run: stages.base_state(run, 8),
        kernel,
        lambda run: [stages.kernel_file(run, 4)],
    ),
    "fork state": (
        lambda run: stages.fork_state(run, 0, "1", 6),
        lambda run: stages.fork_state(run, 0, "2", 6),
        chaos,
        lambda run: [stages.comparison(run, 0, "1", 6)],
    ),
    "fork state that training resumes from": (
        lambda run: stages.fork_state(run, 0, "1", 6),
        lambda run: stages.base_state(run, 6),
        fork,
        lambda run: [stages.fork_state(run, 0, "1", 12)],
    ),
    "perturbation": (
        lambda run: stages.perturbation(run, 0, "1"),
        lambda run: stages.perturbation(run, 0, "2"),
        chaos,
        lambda run: [stages.comparison(run, 0, "1", 6)],
    ),
    "comparison": (
        lambda run: stages.comparison(run, 0, "1", 6),
        lambda run: stages.comparison(run, 0, "1", 12),
        chaos,
        lambda run: [],
    ),
    "kernel": (
        lambda run: stages.kernel_file(run, 4),
        lambda run: stages.kernel_file(run, 8),
        cone,
        lambda run: [],
    ),
    "curvature at a point": (
        lambda run: stages.curvature_at(run, 0),
        lambda run: stages.curvature_at(run, curvature_steps(run)[1]),
        curvature,
        lambda run: [],
    ),
    "growth from a point": (
        lambda run: stages.growth_part(run, 0, "float32"),
        lambda run: stages.growth_part(run, 6, "float32"),
        growth,
        lambda run: [],
    ),
    "match": (
        lambda run: stages.match(run, 0, "1", 12),
        lambda run: stages.match(run, 0, "2", 12),
        matching,
        lambda run: [],
    ),
    "fork state of a match": (
        lambda run: stages.fork_state(run, 0, "1", 12),
        lambda run: stages.fork_state(run, 0, "2", 12),
        matching,
        lambda run: [stages.match(run, 0, "1", 12)],
    ),
    "linearized state": (
        lambda run: stages.linearized_state(run, 0, 10),
        lambda run: stages.linearized_state(run, 0, 12),
        linearized,
        lambda run: [stages.linearized_end(run, 0)],
    ),
    "linearized end": (
        lambda run: stages.linearized_end(run, 0),
        lambda run: stages.linearized_end(run, 6),
        linearized,
        lambda run: [],
    ),
    "chaos": (
        lambda run: stages.run_table(run, "chaos"),
        lambda run: stages.run_table(run, "barrier_path"),
        lambda run: summary(run.study, "chaos"),
        lambda run: [],
    ),
    "kernel distance": (
        lambda run: stages.run_table(run, "kernel_distance"),
        lambda run: stages.run_table(run, "kernel"),
        lambda run: summary(run.study, "kernel_distance"),
        lambda run: [],
    ),
    "kernel projection": (
        lambda run: stages.run_table(run, "kernel_projection"),
        lambda run: stages.run_table(run, "kernel_distance"),
        lambda run: drawing.draw(run.study, "fig5", Path("figures")),
        lambda run: [],
    ),
    "summary": (
        lambda run: stages.summary_table(run.study, "chaos"),
        lambda run: stages.summary_table(run.study, "training"),
        lambda run: drawing.draw(run.study, "findings", Path("figures")),
        lambda run: [],
    ),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory, trained):
    """A run, and a folder in which it has gone through every stage."""
    from conftest import CONFIG

    from twophase.study import studyfile

    study = studyfile.load(CONFIG / "smoke.yaml")
    study = study.model_copy(update={"models": {"resnet": study.models["resnet"]}})
    run = Run(study, "resnet", 0)
    folder = tmp_path_factory.mktemp("damage")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage, row in stages.STAGES.items():
            if row.scope == "run" and stages.runs_of(study, stage):
                stages.imported(stage)(run)
        for table in stages.tables_of(study):
            summary(study, table)
        # As an interruption leaves it.
        state = read_tensors(stages.base_state(run, 6)) | {"step": torch.tensor(5)}
        write_tensors(stages.unfinished(stages.base_state(run, 0)), state)
    return run, folder


def _rewritten(file, change):
    """Write `file` again, whole and sealed, with its content or header changed."""
    result = Result(file, read_header(file)["identity"])
    if file.suffix == ".safetensors":
        tensors = read_tensors(result)
        change(result.identity, tensors)
        write_tensors(result, tensors)
    else:
        table = read_table(result)
        change(result.identity, table)
        write_table(result, table)


def _newer(file):
    with pytest.MonkeyPatch.context() as patch:
        result = Result(file, read_header(file)["identity"])
        tensors = file.suffix == ".safetensors"
        content = read_tensors(result) if tensors else read_table(result)
        patch.setattr(artifacts, "FORMAT", artifacts.FORMAT + 1)
        (write_tensors if tensors else write_table)(result, content)


def _double(tensors):
    name = min(tensors)
    tensors[name] = torch.stack([tensors[name], tensors[name]])


def _damages(result, other, rng):
    """Names of damages, and functions that do them to the file of `result`."""
    file, whole = result.path, result.path.read_bytes()

    def flip(place):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])

    for place in rng.integers(0, len(whole), 4):
        yield f"byte {place} flipped", lambda place=place: flip(place)
    for length in (*rng.integers(1, len(whole), 2), len(whole) - 1):
        yield f"cut to {length} bytes", lambda length=length: file.write_bytes(whole[:length])
    yield "empty", lambda: file.write_bytes(b"")
    yield "longer", lambda: file.write_bytes(whole + b"\0")
    yield "zeros", lambda: file.write_bytes(bytes(len(whole)))
    yield "text", lambda: file.write_text("<html>not found</html>")
    yield "newer format", lambda: _newer(file)
    yield "another in its place", lambda: shutil.copy(other, file)
    for key, value in result.identity.items():  # the header may tell more than is asked of it
        if key == "kind":
            continue
        odd = value + 1 if isinstance(value, int) else f"{value}2"
        yield f"another {key}", lambda odd={key: odd}: _rewritten(file, lambda i, _: i.update(odd))
    if file.suffix == ".safetensors":
        yield "wrong shape", lambda: _rewritten(file, lambda _, tensors: _double(tensors))
        yield "a tensor less", lambda: _rewritten(file, lambda _, t: t.pop(min(t)))


@pytest.mark.parametrize("kind", READERS)
def test_every_damage_is_refused(kind, results, tmp_path, monkeypatch):
    run, folder = results
    shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    file_of, other_of, read, gone = READERS[kind]
    for result in gone(run):
        result.path.unlink()
    result, other = file_of(run), other_of(run).path
    file, whole = result.path, result.path.read_bytes()
    others = {path: path.read_bytes() for path in Path("results").rglob("*.parquet")}
    done = 0
    for damage, do in _damages(result, other, np.random.default_rng(0)):
        do()
        with pytest.raises(ArtifactError) as caught:
            read(run)
        message = str(caught.value)
        assert message.startswith(f"{file}: "), damage
        assert message.endswith("; delete it and run the same command again"), damage
        assert "\n" not in message, damage
        file.write_bytes(whole)
        done += 1
    assert done >= 14
    # A stage that refused has left no table changed.
    assert all(path.read_bytes() == content for path, content in others.items())
    read(run)  # and with the file put right it runs
    assert all(result.path.exists() for result in gone(run))


def test_damages_are_many_and_of_every_kind_of_file(results):
    run, folder = results
    count, kinds = 0, set()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for file_of, other_of, _, _ in READERS.values():
            rng = np.random.default_rng(0)
            count += len(list(_damages(file_of(run), other_of(run).path, rng)))
            kinds.add(file_of(run).identity["kind"])
    assert count >= 200
    # Tables are all read by the same reader, most of them by the stage `summary`.
    # Nothing reads the mark of the check.
    there = {result.identity["kind"] for result in stages.every(run.study)} - {"check"}
    assert there <= kinds | set(stages.STAGE_OF)
