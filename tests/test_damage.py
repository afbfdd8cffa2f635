"""Every kind of result, damaged in every way: the stage that reads it refuses, in one line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from twophase import artifacts, base, chaos, cone, figures, fork, kernel, linearized, paths, summary
from twophase.artifacts import read_header, read_table, read_tensors, write_table, write_tensors
from twophase.errors import ArtifactError
from twophase.sources import prepare_data

RUN = ("resnet", 0)
# Each kind of result: one file of it, another file of its kind, and the stage that reads it.
READERS = {
    "data": (
        lambda s: paths.data(s),
        lambda s: None,
        lambda s: base.train_base(s, *RUN),
    ),
    "base state": (
        lambda s: paths.checkpoint(paths.base(s, *RUN), 0),
        lambda s: paths.checkpoint(paths.base(s, *RUN), 4),
        lambda s: fork.train_forks(s, *RUN, 0),
    ),
    "base state that training goes on from": (
        lambda s: paths.checkpoint(paths.base(s, *RUN), 8),
        lambda s: paths.checkpoint(paths.base(s, *RUN), 6),
        lambda s: base.train_base(s, *RUN),
    ),
    "base state of a switch": (
        lambda s: paths.checkpoint(paths.base(s, *RUN), 6),
        lambda s: paths.checkpoint(paths.base(s, *RUN), 12),
        lambda s: linearized.train_linearized(s, *RUN),
    ),
    "fork state": (
        lambda s: paths.checkpoint(paths.fork(s, *RUN, 0, "1"), 6),
        lambda s: paths.checkpoint(paths.fork(s, *RUN, 0, "2"), 6),
        lambda s: chaos.compare_forks(s, *RUN),
    ),
    "kernel": (
        lambda s: paths.checkpoint(paths.kernel(s, *RUN), 4),
        lambda s: paths.checkpoint(paths.kernel(s, *RUN), 8),
        lambda s: cone.measure_cone(s, *RUN),
    ),
    "perturbation": (
        lambda s: paths.perturbation(s, *RUN, 0),
        lambda s: paths.training(s, *RUN),
        lambda s: chaos.compare_forks(s, *RUN),
    ),
    "chaos": (
        lambda s: paths.chaos(s, *RUN),
        lambda s: paths.barrier_path(s, *RUN),
        lambda s: summary.summarize(s, "chaos"),
    ),
    "kernel distance": (
        lambda s: paths.kernel_distance(s, *RUN),
        lambda s: paths.kernel_norm(s, *RUN),
        lambda s: summary.summarize(s, "kernel_distance"),
    ),
    "kernel projection": (
        lambda s: paths.kernel_projection(s, *RUN),
        lambda s: paths.kernel_distance(s, *RUN),
        lambda s: figures.draw(s, "fig5", Path("figures")),
    ),
    "switch": (
        lambda s: paths.switch(s, *RUN, 0),
        lambda s: paths.switch(s, *RUN, 6),
        lambda s: linearized.train_linearized(s, *RUN),
    ),
    "summary": (
        lambda s: paths.summary(s, "chaos"),
        lambda s: paths.summary(s, "training"),
        lambda s: figures.draw(s, "fig3", Path("figures")),
    ),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder in which the smoke study's ResNet has gone through every stage."""
    from conftest import CONFIG

    from twophase import study

    plan = study.load(CONFIG / "smoke.yaml")
    plan = plan.model_copy(update={"models": {"resnet": plan.models["resnet"]}})
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare_data(plan)
        base.train_base(plan, *RUN)
        fork.train_forks(plan, *RUN, 0)
        chaos.compare_forks(plan, *RUN)
        kernel.compute_kernels(plan, *RUN)
        cone.measure_cone(plan, *RUN)
        linearized.train_linearized(plan, *RUN)
        for table in paths.RUN_TABLES:
            summary.summarize(plan, table)
    return plan, folder


def _rewritten(file, change):
    """Write `file` anew, whole and sealed, with its content or header changed."""
    header = read_header(file)
    change(header["identity"])
    if file.suffix == ".safetensors":
        tensors = read_tensors(file, {})
        name = sorted(tensors)[0]
        if header["identity"].pop("wrong shape", False):
            tensors[name] = torch.cat([tensors[name], tensors[name]])
        if header["identity"].pop("lacking", False):
            del tensors[name]
        write_tensors(file, tensors, header["identity"])
    else:
        write_table(file, read_table(file, {}), header["identity"])


def _newer(file):
    with pytest.MonkeyPatch.context() as patch:
        tensors = file.suffix == ".safetensors"
        content = read_tensors(file, {}) if tensors else read_table(file, {})
        identity = read_header(file)["identity"]
        patch.setattr(artifacts, "FORMAT", artifacts.FORMAT + 1)
        (write_tensors if tensors else write_table)(file, content, identity)


def _damages(file, other, rng):
    """Names of damages, and functions that do them to `file`."""
    whole = file.read_bytes()

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
    if other:
        yield "another in its place", lambda: shutil.copy(other, file)
    identity = read_header(file)["identity"]
    if "study" in identity:
        yield "of another study", lambda: _rewritten(file, lambda i: i.update(study="other"))
    if "model" in identity:
        yield "of another model", lambda: _rewritten(file, lambda i: i.update(model="vgg"))
    if file.suffix == ".safetensors":
        mark = {"wrong shape": True}
        yield "wrong shape", lambda: _rewritten(file, lambda i: i.update(mark))
        yield "a tensor less", lambda: _rewritten(file, lambda i: i.update(lacking=True))


@pytest.mark.parametrize("kind", READERS)
def test_every_damage_is_refused(kind, results, tmp_path, monkeypatch):
    plan, folder = results
    shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    for path in Path("results").rglob("comparison*"):
        shutil.rmtree(path)
    if kind == "base state that training goes on from":
        paths.checkpoint(paths.base(plan, *RUN), 12).unlink()
    if kind == "base state of a switch":
        paths.switch(plan, *RUN, 6).unlink()
    file_of, other_of, read = READERS[kind]
    file, other = file_of(plan), other_of(plan)
    whole = file.read_bytes()
    others = {path: path.read_bytes() for path in Path("results").rglob("*.parquet")}
    done = 0
    for damage, do in _damages(file, other, np.random.default_rng(0)):
        do()
        with pytest.raises(ArtifactError) as caught:
            read(plan)
        message = str(caught.value)
        assert message.startswith(f"{file}: "), damage
        assert "delete it" in message, damage
        assert "\n" not in message, damage
        file.write_bytes(whole)
        done += 1
    assert done >= 12
    # A stage that refused has left no table changed.
    assert all(path.read_bytes() == content for path, content in others.items())
    read(plan)  # and with the file put right it runs


def test_damages_are_at_least_a_hundred(results):
    plan, folder = results
    count = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for file_of, other_of, _ in READERS.values():
            rng = np.random.default_rng(0)
            count += len(list(_damages(file_of(plan), other_of(plan), rng)))
    assert count >= 100
