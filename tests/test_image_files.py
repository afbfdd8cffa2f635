"""Links, names, folders and leftovers that people's images come with: followed, read, passed over,
or refused by name."""

import os
import tarfile

import pytest
import torch
from pictures import (
    as_torchvision,
    encoded,
    options,
    picture,
    plain,
    read,
    tarred,
    write,
)

from twophase.errors import RunError


@pytest.fixture(params=["folder", "tar"])
def packed(request, tmp_path):
    """A function that gives a folder as it is, or as a tar."""
    if request.param == "folder":
        return lambda root: root
    return lambda root: tarred(root, tmp_path / "images.tar.xz", "w:xz")


def test_links_are_followed(packed, tmp_path):
    files = plain()
    files["shelf/9.png"] = encoded(picture())
    files["all/c/0.png"], files["all/c/1.png"] = encoded(picture()), encoded(picture())
    root = write(tmp_path / "linked", files)
    (root / "train/a/soft.png").symlink_to("../../shelf/9.png")
    (root / "train/a/soft of soft.png").symlink_to("soft.png")
    os.link(root / "shelf/9.png", root / "test/b/hard.png")
    for split in ("train", "test"):
        (root / split / "c").symlink_to(os.path.join("..", "all", "c"))
    tensors = read(packed(root))
    assert len(tensors["train_labels"]) == 6 + 2 + 2
    assert as_torchvision(root, tensors)
    assert options(packed(root)).sha256 == options(root).sha256


def test_a_whole_split_may_be_a_link(packed, tmp_path):
    root = write(tmp_path / "linked", {f"version 1/{name}": x for name, x in plain().items()})
    for split in ("train", "test"):
        (root / split).symlink_to(f"version 1/{split}")
    tensors = read(packed(root))
    assert len(tensors["train_labels"]) == 6  # each image once, though two paths lead to it
    assert as_torchvision(root, tensors)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("train/a/gone.png", "nowhere.png"),
        ("train/c", "../elsewhere"),
        ("train/a/round.png", "round.png"),
        ("train/a/above", ".."),
        ("train/a/crossed", "../b"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(link, target, packed, tmp_path):
    root = write(tmp_path / "linked", plain())
    (root / link).symlink_to(target)
    (root / "train/b/crossed").symlink_to("../a")
    with pytest.raises(RunError, match=f"{link}.*: cannot be followed"):
        read(packed(root))


def test_a_link_out_of_a_tar_is_refused(tmp_path):
    (tmp_path / "outside.png").write_bytes(encoded(picture()))
    for target in (
        str(tmp_path / "outside.png"),
        "../../../../outside.png",
        "../../../outside.png",
    ):
        root = write(tmp_path / "linked", plain())
        (root / "train/a/out.png").symlink_to(target)
        expected = (
            r"train/a/out\.png: cannot be followed \((it leads out|the archive does not hold)"
        )
        with pytest.raises(RunError, match=expected):
            read(tarred(root, tmp_path / "x.tar"))
        (root / "train/a/out.png").unlink()


def test_a_tar_of_links_to_links_ends(tmp_path):
    """Each link goes through the one before twice: 2^60 steps for who follows them one by one."""
    with tarfile.open(tmp_path / "bomb.tar", "w") as archive:
        for k in range(1, 60):
            member = tarfile.TarInfo(f"train/a/{k}")
            member.type, member.linkname = tarfile.SYMTYPE, f"{k - 1}/../{k - 1}"
            archive.addfile(member)
        member = tarfile.TarInfo("train/a/0")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    with pytest.raises(RunError, match="holds 0 images in train/"):
        read(tmp_path / "bomb.tar")


def test_of_members_with_one_name_the_last_counts(tmp_path):
    root = write(tmp_path / "images", plain())
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(root, ".")
        write(root, {"train/a/0.png": encoded(picture())})
        archive.add(root / "train/a/0.png", "./train/a/0.png")
    assert as_torchvision(root, read(tmp_path / "x.tar"))


def test_what_systems_and_tools_leave_behind_is_passed_over(packed, tmp_path):
    clean = write(tmp_path / "clean", plain())
    root = write(tmp_path / "images", plain())
    for name in clean.rglob("*.png"):
        (root / name.relative_to(clean)).write_bytes(name.read_bytes())
    junk = [
        "train/.ipynb_checkpoints/0.png",
        "train/a/.ipynb_checkpoints/0-checkpoint.png",
        "__MACOSX/train/a/._0.png",
        "train/a/._0.png",
        "._train",
        "train/.DS_Store",
        "train/a/Thumbs.db",
        "train/__MACOSX/x.png",
        "README.md",
    ]
    write(root, dict.fromkeys(junk, b"no image"))
    tensors, expected = read(packed(root)), read(clean)
    assert all(torch.equal(tensors[key], expected[key]) for key in expected)


def test_files_with_one_stem_are_two_images(tmp_path):
    write(tmp_path, plain() | {"train/a/0.jpg": encoded(picture(), "jpeg")})
    tensors = read(tmp_path)
    assert len(tensors["train_labels"]) == 7
    assert as_torchvision(tmp_path, tensors)


def test_images_may_lie_deeper(packed, tmp_path):
    root = write(tmp_path / "deep", plain() | {"train/a/images/x.png": encoded(picture())})
    assert as_torchvision(root, read(packed(root)))


@pytest.mark.parametrize(
    "name", [b"caf\xe9", "caf\u00e9".encode(), b"two\nlines", "雪".encode(), b"\xff"]
)
def test_any_name_of_a_class_is_read(name, packed, tmp_path):
    files = plain()
    for split in ("train", "test"):
        files[f"{split}/{os.fsdecode(name)}/0.png"] = encoded(picture())
    root = write(tmp_path / "named", files)
    tensors = read(packed(root))
    assert sorted(set(tensors["test_labels"].tolist())) == [0, 1, 2]
    assert as_torchvision(root, tensors)


def test_a_damaged_image_of_an_odd_name_is_named_on_one_line(packed, tmp_path):
    root = write(tmp_path / "named", plain() | {"train/a/x\n\udce9.png": b"no image"})
    with pytest.raises(RunError, match=r"train/a/x\\n\\udce9\.png: cannot be decoded") as caught:
        read(packed(root))
    assert "\n" not in str(caught.value)


def test_a_class_without_training_images_is_refused_by_a_file(tmp_path):
    write(tmp_path, plain() | {"test/aa/odd.png": encoded(picture())})
    with pytest.raises(RunError, match=r"test/aa/odd\.png: no image in train/ is of this class"):
        read(tmp_path)
    (tmp_path / "test/aa").rename(tmp_path / "train/aa")
    assert sorted(set(read(tmp_path)["train_labels"].tolist())) == [0, 1, 2]


def test_a_class_whose_files_are_no_images_is_refused_by_a_file(tmp_path):
    write(tmp_path, plain() | {"train/c/x.gif": b"", "test/c/0.png": encoded(picture())})
    with pytest.raises(RunError, match=r"train/c/x\.gif: is no image"):
        read(tmp_path)


def test_two_folders_with_one_image_are_refused(tmp_path):
    write(tmp_path, {f"{set}/{name}": x for name, x in plain().items() for set in ("old", "new")})
    with pytest.raises(RunError, match=r"holds test/a/0\.png twice"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, r"holds 0 images in train/"),
        ({"train/a/0.png": b""}, r"holds 0 images in test/"),
        ({"train/a/0.png": b"", "test/a/0.png": b""}, r"holds one class, a;"),
    ],
)
def test_sets_that_are_none_are_refused(files, expected, tmp_path):
    with pytest.raises(RunError, match=expected):
        read(write(tmp_path, files))


def test_no_tar_is_refused_in_one_line(tmp_path):
    for name, content in (("x.zip", b"PK\3\4" + bytes(99)), ("x.txt", b"hello\n" * 99), ("x", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunError, match="cannot be read") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)
