import pandas as pd
import pytest
import torch

from twophase.artifacts import (
    read_table,
    read_tensors,
    sha256,
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
    for name in ("1", "2"):
        write_tensors(tmp_path / name, TENSORS, IDENTITY)
        write_table(tmp_path / f"t{name}", pd.DataFrame({"x": [1.5, None]}), IDENTITY)
    assert sha256(tmp_path / "1") == sha256(tmp_path / "2")
    assert sha256(tmp_path / "t1") == sha256(tmp_path / "t2")


def test_nothing_half_written_gets_the_name(tmp_path):
    def fail():
        with whole_file(tmp_path / "folder" / "x") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list((tmp_path / "folder").iterdir()) == []


def test_every_flipped_byte_of_tensors_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, IDENTITY)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ArtifactError) as caught:
            read_tensors(path, IDENTITY)
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
