import contextlib
import hashlib
import importlib
import io
import os
import pickle
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import get_args

import numpy as np
import pytest
import torch
import torchvision
from conftest import read_images
from PIL import Image

from twophase.datasets.cifar10 import download
from twophase.errors import RunError
from twophase.stages.data import data
from twophase.study import datasets, stages
from twophase.study.datasets import CIFAR10, Digits, ImageFolder, Images
from twophase.training.batches import load_data


def _png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


@pytest.fixture
def images():
    """Encoded images by name: two classes, six training and two test images of 4 x 4 pixels."""
    rng = np.random.default_rng(0)
    names = [f"train/{label}/{k}.png" for label in ("cat", "ant") for k in range(3)]
    names += ["test/cat/0.png", "test/ant/0.png"]
    return {name: _png(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for name in names}


def _digest(images):
    lines = [f"{hashlib.sha256(images[name]).hexdigest()}  {name}\n" for name in sorted(images)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.fixture
def options(images, tmp_path):
    """The study's `images` section for a folder."""

    def make(path, **changed):
        return ImageFolder(
            **{
                "source": "folder",
                "path": str(path),
                "sha256": _digest(images),
                "image_size": 4,
                "classes": 2,
                "train_examples": 6,
                "test_examples": 2,
                **changed,
            }
        )

    return make


def _write_folder(path, images):
    for name, content in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def _write_tar(path, images, mode="w:xz"):
    with tarfile.open(path, mode) as archive:
        for name, content in images.items():
            member = tarfile.TarInfo(f"some/where/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_digits_are_whole_and_evenly_split():
    tensors = read_images(Digits(source="digits", test_examples=500))
    assert tensors["train_images"].shape == (1297, 1, 8, 8)
    assert tensors["test_images"].shape == (500, 1, 8, 8)
    assert int(tensors["train_images"].max()) == 16
    assert all(45 <= count <= 55 for count in torch.bincount(tensors["test_labels"]))


def test_normalised_pixels_have_mean_0_and_deviation_1(smoke, in_tmp):
    data(smoke)
    read = load_data(stages.data_file(smoke), smoke.data.images, torch.device("cpu"))
    pixels = read.normalised(read.train.images)
    assert abs(float(pixels.mean())) < 1e-5
    assert abs(float(pixels.std()) - 1) < 1e-5


def test_a_folder_and_its_archives_give_what_torchvisions_image_folder_gives(
    images, options, tmp_path
):
    root = _write_folder(tmp_path / "plain", images)
    (root / "README.md").write_text("not an image")
    read = read_images(options(root))
    for split in ("train", "test"):
        theirs = torchvision.datasets.ImageFolder(root / split)
        expected = {(np.asarray(image).tobytes(), label) for image, label in theirs}
        ours = zip(read[f"{split}_images"], read[f"{split}_labels"], strict=True)
        assert {(i.permute(1, 2, 0).numpy().tobytes(), int(y)) for i, y in ours} == expected
    # Mixed, so that the first examples are not all of one class.
    assert read["train_labels"].tolist() not in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    backwards = dict(reversed(images.items()))
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tar.xz", "w:xz")):
        same = read_images(options(_write_tar(tmp_path / name, backwards, mode)))
        assert all(torch.equal(same[key], read[key]) for key in read)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_cut_or_changed_archive_is_refused_by_name(images, options, tmp_path, mode):
    path = _write_tar(tmp_path / "images.tar", images, mode)
    whole = path.read_bytes()
    used = len(whole) if mode != "w" else len(images) * 1024  # a plain tar ends in padding
    rng = np.random.default_rng(1)
    for cut in [0, 1, *rng.integers(0, used - 20, 20)]:
        path.write_bytes(whole[:cut])
        with pytest.raises(RunError, match=r"images\.tar: "):
            read_images(options(path))
    path.write_bytes(whole)
    expected = read_images(options(path))
    for place in rng.integers(0, used, 40):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        with contextlib.suppress(RunError):
            read = read_images(options(path))
            # A byte that no image depends on, such as a date.
            assert all(torch.equal(tensor, expected[key]) for key, tensor in read.items())


def test_what_is_not_as_the_study_says_is_refused(images, options, tmp_path):
    path = _write_folder(tmp_path / "images", images)
    for changed, expected in (
        ({"classes": 3}, r"holds 2 classes \(ant, cat\); data.images.classes = 3"),
        ({"train_examples": 7}, "holds 6 images in train/"),
        ({"image_size": 5}, "has 4 x 4 pixels; data.images.image_size = 5"),
        ({"sha256": 64 * "0"}, f"its images have the digest {_digest(images)}"),
        ({"path": "nowhere"}, "nowhere: no such file or folder"),
    ):
        with pytest.raises(RunError, match=expected):
            read_images(options(**{"path": path, **changed}))
    (path / "train/cat/1.png").write_bytes(images["train/cat/1.png"][:-30])
    with pytest.raises(RunError, match=r"train/cat/1\.png: cannot be decoded"):
        read_images(options(path))
    (path / "train/cat/1.png").unlink()
    with pytest.raises(RunError, match="holds 5 images in train/"):
        read_images(options(path))


def test_the_digest_is_that_of_sha256sum(images, options, tmp_path):
    root = _write_folder(tmp_path / "images", images)
    command = f"cd {root} && find train test -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    assert os.popen(command).read().split()[0] == options(root).sha256


def test_an_archive_cannot_write_outside_its_folder(images, options, tmp_path):
    (tmp_path / "inner").mkdir()
    archive = tmp_path / "inner" / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("../evil.png", "/tmp/evil.png", "../../train/cat/9.png"):
            member = tarfile.TarInfo(name)
            member.size = len(images["test/cat/0.png"])
            tar.addfile(member, io.BytesIO(images["test/cat/0.png"]))
        link = tarfile.TarInfo("train/cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError):
        read_images(options(archive))
    assert sorted(tmp_path.rglob("*")) == before


class _Server(BaseHTTPRequestHandler):
    """Serves `content`, at most `most` bytes a request, and notes where each request starts."""

    content, most, starts = b"", 0, []

    def do_GET(self):
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.starts.append(start)
        rest = self.content[start:]
        self.send_response(206 if rest else 416)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.most])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """A web server on this machine, and its address."""
    _Server.starts = []
    with HTTPServer(("127.0.0.1", 0), _Server) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield _Server, f"http://127.0.0.1:{web.server_port}/"
        web.shutdown()


def test_a_download_goes_on_where_it_was_cut(server, tmp_path):
    handler, address = server
    handler.content, handler.most = bytes(range(256)) * 40, 6000
    file = tmp_path / "folder" / "archive"
    with pytest.raises(OSError, match="ended after 6,000 bytes"):
        download(address, file)
    assert not file.exists()
    download(address, file)
    assert file.read_bytes() == handler.content
    assert handler.starts == [0, 6000]
    download(address, file)  # is there: nothing is asked
    assert len(handler.starts) == 2


@pytest.fixture
def tiny_cifar10(server, monkeypatch):
    """Torchvision's CIFAR-10 with two training images and one test image, on our server."""
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    base, lists = "cifar-10-batches-py", {}
    contents = {
        "train": {"data": rng.integers(0, 256, (2, 3072), dtype=np.uint8), "labels": [3, 1]},
        "test": {"data": rng.integers(0, 256, (1, 3072), dtype=np.uint8), "labels": [2]},
        "meta": {"label_names": list("abcdefghij")},
    }
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in contents.items():
            file = pickle.dumps(content)
            member = tarfile.TarInfo(f"{base}/{name}")
            member.size = len(file)
            archive.addfile(member, io.BytesIO(file))
            lists[name] = [name, hashlib.md5(file).hexdigest()]
    handler, address = server
    handler.content, handler.most = out.getvalue(), 10**9
    theirs = torchvision.datasets.CIFAR10
    monkeypatch.setattr(theirs, "url", address)
    monkeypatch.setattr(theirs, "tgz_md5", hashlib.md5(handler.content).hexdigest())
    monkeypatch.setattr(theirs, "train_list", [lists["train"]])
    monkeypatch.setattr(theirs, "test_list", [lists["test"]])
    meta = {"filename": "meta", "key": "label_names", "md5": lists["meta"][1]}
    monkeypatch.setattr(theirs, "meta", meta)
    return contents


def test_cifar10_is_downloaded_once_and_read(tiny_cifar10, server, tmp_path):
    options = CIFAR10(source="cifar10", folder=str(tmp_path))
    for _ in range(2):
        read = read_images(options)
        assert read["train_images"].shape == (2, 3, 32, 32)
        assert np.array_equal(read["train_images"].flatten(1), tiny_cifar10["train"]["data"])
        assert read["train_labels"].tolist() == [3, 1]
        assert read["test_labels"].tolist() == [2]
    assert server[0].starts == [0]


def test_cifar10_without_a_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://127.0.0.1:9/")
    with pytest.raises(RunError, match=r"cifar-10-python\.tar\.gz: cannot be downloaded.*by hand"):
        read_images(CIFAR10(source="cifar10", folder=str(tmp_path)))


def test_a_false_cifar10_is_never_unpickled(tiny_cifar10, server, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", 32 * "0")
    monkeypatch.setattr(pickle, "load", lambda *_: pytest.fail("unpickled"))
    with pytest.raises(RunError, match="cannot be downloaded"):
        read_images(CIFAR10(source="cifar10", folder=str(tmp_path)))


def test_every_source_of_a_study_can_be_read():
    names = set()
    for record in get_args(get_args(Images)[0]):
        (source,) = get_args(record.model_fields["source"].annotation)
        module = datasets.module(record.model_construct(source=source))
        assert callable(importlib.import_module(f"twophase.{module}").read)
        names.add(source)
    images = {"digits", "cifar10", "folder", "torchvision", "function"}
    assert names == images | {"vectors", "tokens", "text"}
