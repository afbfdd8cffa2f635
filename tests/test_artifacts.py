import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from twophase.artifacts import (
    FORMAT,
    read_table,
    read_tensors,
    whole_file,
    write_table,
    write_tensors,
)
from twophase.errors import ArtifactError

IDENTITY = {"kind": "state", "model": "vgg", "step": 3}
TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(7)}


def test_tensors_come_back_bit_for_bit(tmp_path):
    odd = torch.tensor([0.0, -0.0, float("nan"), float("inf"), 1e-45])
    write_tensors(tmp_path / "x.safetensors", {"odd": odd}, IDENTITY)
    back = read_tensors(tmp_path / "x.safetensors", IDENTITY)["odd"]
    assert torch.equal(back.view(torch.int32), odd.view(torch.int32))


def test_channels_last_tensors_are_written(tmp_path):
    image = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    write_tensors(tmp_path / "x.safetensors", {"image": image}, IDENTITY)
    assert torch.equal(read_tensors(tmp_path / "x.safetensors", {})["image"], image)


def test_the_same_content_has_the_same_bytes(tmp_path):
    for name, write, content in (
        ("x.safetensors", write_tensors, TENSORS),
        ("x.parquet", write_table, pd.DataFrame({"x": [1.5, None]})),
    ):
        write(tmp_path / name, content, IDENTITY)
        first = (tmp_path / name).read_bytes()
        write(tmp_path / name, content, IDENTITY)
        assert (tmp_path / name).read_bytes() == first


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
    path = tmp_path / "x"
    if kind == "tensors":
        write_tensors(path, TENSORS, IDENTITY)
        read = read_tensors
    else:
        write_table(path, pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]}), IDENTITY)
        read = read_table
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ArtifactError) as caught:
            read(path, IDENTITY)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 9, 100, -1])
def test_a_truncated_file_is_refused(length, tmp_path):
    write_tensors(tmp_path / "x", TENSORS, IDENTITY)
    write_table(tmp_path / "t", pd.DataFrame({"x": [1.0]}), IDENTITY)
    for name, read in (("x", read_tensors), ("t", read_table)):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(ArtifactError, match="cannot be used"):
            read(path, IDENTITY)


def test_a_file_of_something_else_is_refused(tmp_path):
    write_tensors(tmp_path / "x", TENSORS, IDENTITY)
    write_table(tmp_path / "t", pd.DataFrame({"x": [1.0]}), IDENTITY)
    for name, read in (("x", read_tensors), ("t", read_table)):
        with pytest.raises(ArtifactError, match="step 3 instead of 4") as caught:
            read(tmp_path / name, {**IDENTITY, "step": 4})
        assert "delete it" in str(caught.value)
    with pytest.raises(ArtifactError, match="is missing"):
        read_table(tmp_path / "nowhere", {})


def test_a_result_in_the_place_of_another_is_refused(in_tmp):
    here, there = Path("results/mine/base-1/step3"), Path("results/mine/base-2/step3")
    write_tensors(here, TENSORS, IDENTITY)
    there.parent.mkdir()
    shutil.copy(here, there)
    with pytest.raises(ArtifactError, match="path 'results/mine/base-1/step3' instead of"):
        read_tensors(there, IDENTITY)
    # The folder of all results may lie anywhere.
    shutil.copytree("results", "elsewhere/results")
    os.chdir("elsewhere")
    assert set(read_tensors(here, IDENTITY)) == set(TENSORS)


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("twophase.artifacts.FORMAT", FORMAT + 1)
    write_tensors(tmp_path / "x", TENSORS, IDENTITY)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        read_tensors(tmp_path / "x", IDENTITY)
