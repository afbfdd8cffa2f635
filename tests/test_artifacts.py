import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from twophase.errors import ArtifactError, RunError
from twophase.store.artifacts import (
    check_origin,
    read_header,
    read_table,
    read_tensors,
    whole_file,
    write_table,
    write_tensors,
)
from twophase.store.origin import FEWER, ORIGIN, origin
from twophase.store.paths import FORMAT, Maker, Result

IDENTITY = {"kind": "state", "model": "vgg", "t": 3}
TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(7)}
TABLE = pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]})


@pytest.fixture
def tensors(tmp_path):
    return Result(tmp_path / "x.safetensors", IDENTITY)


@pytest.fixture
def table(tmp_path):
    return Result(tmp_path / "x.parquet", IDENTITY)


def test_tensors_come_back_bit_for_bit(tensors):
    odd = torch.tensor([0.0, -0.0, float("nan"), float("inf"), 1e-45])
    write_tensors(tensors, {"odd": odd})
    back = read_tensors(tensors)["odd"]
    assert torch.equal(back.view(torch.int32), odd.view(torch.int32))


def test_channels_last_tensors_are_written(tensors):
    image = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    write_tensors(tensors, {"image": image})
    assert torch.equal(read_tensors(tensors)["image"], image)


def test_the_same_content_has_the_same_bytes(tensors, table):
    for result, write, content in (
        (tensors, write_tensors, TENSORS),
        (table, write_table, pd.DataFrame({"x": [1.5, None]})),
    ):
        write(result, content)
        first = result.path.read_bytes()
        write(result, content)
        assert result.path.read_bytes() == first


def test_a_file_says_what_made_it(tensors, table):
    maker = Maker("options", "code")
    for result, write, content in ((tensors, write_tensors, TENSORS), (table, write_table, TABLE)):
        write(Result(result.path, IDENTITY, maker), content)
        header = read_header(result.path)
        assert header["maker"] == {"options": "options", "code": "code"}
        assert header["identity"] == IDENTITY
        assert header["format"] == FORMAT


def test_nothing_half_written_gets_the_name(tmp_path):
    def fail():
        with whole_file(tmp_path / "folder" / "x") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("kind", ["tensors", "table"])
def test_every_flipped_byte_is_noticed(kind, tmp_path):
    # No suffix: readers do not guess from names.
    result = Result(tmp_path / "x", IDENTITY)
    if kind == "tensors":
        write_tensors(result, TENSORS)
        read = read_tensors
    else:
        write_table(result, TABLE)
        read = read_table
    path = result.path
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ArtifactError) as caught:
            read(result)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 9, 100, -1])
def test_a_truncated_file_is_refused(length, tensors, table):
    write_tensors(tensors, TENSORS)
    write_table(table, TABLE)
    for result, read in ((tensors, read_tensors), (table, read_table)):
        result.path.write_bytes(result.path.read_bytes()[:length])
        with pytest.raises(ArtifactError, match="cannot be used"):
            read(result)


def test_a_file_of_something_else_is_refused(tensors, table, tmp_path):
    write_tensors(tensors, TENSORS)
    write_table(table, TABLE)
    for result, read in ((tensors, read_tensors), (table, read_table)):
        with pytest.raises(ArtifactError, match="t 3 instead of 4") as caught:
            read(Result(result.path, {**IDENTITY, "t": 4}))
        assert "delete it" in str(caught.value)
    with pytest.raises(ArtifactError, match="is missing"):
        read_table(Result(tmp_path / "nowhere", {}))


def test_a_file_that_does_not_say_all_that_it_should_be_is_refused(tensors, table):
    silent = {"kind": "state", "model": "vgg"}
    write_tensors(Result(tensors.path, silent), TENSORS)
    write_table(Result(table.path, silent), TABLE)
    for result, read in ((tensors, read_tensors), (table, read_table)):
        with pytest.raises(ArtifactError, match="t None instead of 3"):
            read(result)


def test_what_changes_bits_of_training_must_be_the_same_and_no_more(tensors, smoke):
    made = origin(smoke.compute.model_dump())
    ORIGIN.update(made)
    write_tensors(tensors, TENSORS)
    for key in made:
        other = made | {key: "another"}
        if key in ("matplotlib", "pandas"):
            check_origin(tensors.path, other, "this run")
        else:
            with pytest.raises(RunError, match=f"was made with {key} "):
                check_origin(tensors.path, other, "this run")
    assert {"torch", "numpy", "python", "machine", "device", "threads", "precision"} < made.keys()


def test_processors_of_one_name_differ_by_their_vector_instructions(monkeypatch, tensors, smoke):
    compute, name = smoke.compute.model_dump(), "model name\t: AMD EPYC\n"
    for variable in FEWER:
        monkeypatch.delenv(variable, raising=False)

    def on(flags: str) -> dict:
        monkeypatch.setattr("twophase.store.origin._cpuinfo", lambda: f"{name}flags\t\t: {flags}\n")
        return origin(compute)

    wide, narrow = on("fpu avx2 avx512f sse"), on("fpu avx2 sse")
    assert [key for key in wide if wide[key] != narrow[key]] == ["vector_instructions"]
    assert (
        wide["vector_instructions"],
        narrow["vector_instructions"],
        on("sse")["vector_instructions"],
    ) == ("AVX-512", "AVX2", "?")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert on("avx2 avx512f")["vector_instructions"] == "AVX-512, ATEN_CPU_CAPABILITY=avx2"

    ORIGIN.update(wide)
    write_tensors(tensors, TENSORS)
    with pytest.raises(
        RunError, match="was made with vector_instructions 'AVX-512', this run with 'AVX2'"
    ):
        check_origin(tensors.path, narrow, "this run")
    del ORIGIN["vector_instructions"]  # as results of before
    write_tensors(tensors, TENSORS)
    check_origin(tensors.path, narrow, "this run")


def test_results_of_another_format_have_another_name(monkeypatch):
    before = Maker("options", "code").fingerprint
    monkeypatch.setattr("twophase.store.paths.FORMAT", FORMAT + 1)
    assert Maker("options", "code").fingerprint != before


@pytest.mark.parametrize(
    ("shapes", "odd"),
    [
        ({"b": (2, 3)}, "a is missing, or should be"),
        ({"b": (2, 3), "a": (), "c": (1,)}, "c is missing, or should be"),
        ({"b": (3, 2), "a": ()}, r"b is \(2, 3\) instead of \(3, 2\)"),
        ({"b": (2, 3, 1), "a": ()}, r"b is \(2, 3\) instead of \(2, 3, 1\)"),
    ],
)
def test_tensors_of_other_names_or_shapes_are_refused(shapes, odd, tensors):
    write_tensors(tensors, TENSORS)
    assert set(read_tensors(tensors, {"b": (-1, 3), "a": ()})) == set(TENSORS)
    with pytest.raises(ArtifactError, match=odd):
        read_tensors(tensors, shapes)


def test_a_result_in_the_place_of_another_is_refused(in_tmp):
    here, there = Path("results/mine/base-1/t-3"), Path("results/mine/base-2/t-3")
    write_tensors(Result(here, IDENTITY), TENSORS)
    there.parent.mkdir()
    shutil.copy(here, there)
    with pytest.raises(ArtifactError, match="path 'results/mine/base-1/t-3' instead of"):
        read_tensors(Result(there, IDENTITY))
    # The folder of all results may lie anywhere.
    shutil.copytree("results", "elsewhere/results")
    os.chdir("elsewhere")
    assert set(read_tensors(Result(here, IDENTITY))) == set(TENSORS)


def test_a_newer_format_is_refused(tensors, monkeypatch):
    monkeypatch.setattr("twophase.store.artifacts.FORMAT", FORMAT + 1)
    write_tensors(tensors, TENSORS)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        read_tensors(tensors)
