"""Images from torchvision's sets and from functions of the user's own, from their own files."""

import hashlib
import json
import re
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
import torchvision
from conftest import read_images
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from twophase.datasets.arrays import arrangement
from twophase.errors import RunError, StudyError
from twophase.stages.check import check
from twophase.stages.data import data, digest
from twophase.study import stage as rows
from twophase.study import stages, studyfile
from twophase.study.beginning import own_files
from twophase.study.datasets import FunctionOfArrays, TorchvisionSet, Vectors
from twophase.study.run import runs
from twophase.training.batches import load_data

ANY = 64 * "0"
rng = np.random.default_rng(0)


def _idx(path, array):
    """Write an array in the format of MNIST's files (LeCun et al.)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path):
    """MNIST's files with nine training images and four test images of three classes."""
    found = {}
    for split, name, count in (("train", "train", 9), ("test", "t10k", 4)):
        images, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 3
        for folder, start, first in (("MNIST", "", 0), ("EMNIST", f"emnist-letters-{split}-", 1)):
            start = start or f"{name}-"
            _idx(tmp_path / folder / "raw" / f"{start}images-idx3-ubyte", images)
            _idx(tmp_path / folder / "raw" / f"{start}labels-idx1-ubyte", labels + first)
        found |= {f"{split}_images": images[:, None], f"{split}_labels": labels}
    return {name: torch.from_numpy(array) for name, array in found.items()}


def _digest(arrays):
    """As documented: of each array in the order of their names, its shape and its bytes."""
    parts = [
        f"{name} {tuple(arrays[name].shape)}\n".encode()
        + (arrays[name].byte() if "images" in name else arrays[name]).numpy().tobytes()
        for name in sorted(arrays)
    ]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _set(tmp_path, sha256=ANY, **options):
    return TorchvisionSet(
        source="torchvision",
        folder=str(tmp_path),
        sha256=sha256,
        **{"dataset": "MNIST", "image_size": 28, "channels": 1} | options,
    )


def _told(error):
    """The digest that a message tells."""
    return re.search(r"have the digest (\w{64})", str(error.value))[1]


def test_mnist_is_read_from_its_own_files_in_a_fixed_order(mnist, tmp_path):
    read = read_images(_set(tmp_path, _digest(mnist), classes=3, test_examples=4))
    for split in ("train", "test"):
        order = arrangement(len(mnist[f"{split}_labels"]))
        for kind in ("images", "labels"):
            assert torch.equal(read[f"{split}_{kind}"], mnist[f"{split}_{kind}"][order])
    assert read["train_images"].dtype == torch.uint8
    coloured = _set(tmp_path, _digest({**mnist, **_three_channels(mnist)}), channels=3)
    assert torch.equal(read_images(coloured)["test_images"][:, 1:2], read["test_images"])


def _three_channels(arrays):
    return {
        name: a.repeat_interleave(3, 1).contiguous() for name, a in arrays.items() if a.dim() == 4
    }


def test_a_set_gets_its_options_and_labels_without_gaps(mnist, tmp_path):
    emnist = _set(tmp_path, ANY, dataset="EMNIST", options={"split": "letters"})
    with pytest.raises(RunError, match="have the digest") as caught:
        read_images(emnist)
    found = _told(caught)
    read = read_images(emnist.model_copy(update={"sha256": found}))
    order = arrangement(9)
    assert read["train_labels"].tolist() == mnist["train_labels"][order].tolist()  # 1 to 3 there


def test_pictures_of_a_set_with_splits_are_resized(tmp_path):
    """Food-101, whose photographs are of many sizes, and whose splits are in a file."""
    folder = tmp_path / "food-101"
    (folder / "meta").mkdir(parents=True)
    for split, numbers in (("train", (1, 2)), ("test", (3,))):
        names = {label: [f"{label}/{k}" for k in numbers] for label in ("pie", "soup")}
        (folder / "meta" / f"{split}.json").write_text(json.dumps(names))
        for k, name in enumerate(name for each in names.values() for name in each):
            file = folder / "images" / f"{name}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (9 + k, 12, 3), dtype=np.uint8)).save(file)
    options = {"dataset": "Food101", "image_size": 8, "channels": 3}
    with pytest.raises(RunError, match=r"Food101: train image 0: has 12 x 9 pixels; .*resize"):
        read_images(_set(tmp_path, **options))
    with pytest.raises(RunError, match="have the digest") as caught:
        read_images(_set(tmp_path, resize=True, **options))
    theirs = torchvision.datasets.Food101(tmp_path, "test")
    found = _told(caught)
    read = read_images(_set(tmp_path, found, resize=True, **options))
    assert read["train_images"].shape == (4, 3, 8, 8)
    order = arrangement(2)
    assert read["test_labels"].tolist() == [theirs[k][1] for k in order]
    with pytest.raises(RunError, match=r"cannot be opened \(ValueError.*val.*; put its files"):
        read_images(_set(tmp_path, splits=["train", "val"], resize=True, **options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": "EuroSAT"}, "takes neither train nor split"),
        ({"dataset": "FakeData"}, "takes neither train nor split"),
        ({"dataset": "KMNIST"}, r"KMNIST: cannot be opened \(.*; put its files there, or let data"),
        ({"dataset": "SVHN", "options": {"split": "extra"}}, "options.split = 'extra': one alone"),
        ({"dataset": "ImageNet", "download": True}, "torchvision cannot download ImageNet"),
        ({"options": {"foo": 1}}, r"unexpected .*; data\.images\.options go to the class of this"),
        ({"splits": ["train", "val"]}, "MNIST has no names of splits; leave it out"),
        ({"classes": 4}, "holds 3 classes; data.images.classes = 4"),
        ({"train_examples": 8}, "holds 9 train_examples; data.images.train_examples = 8"),
        ({}, f"its images have the digest .*data.images.sha256 = '{ANY}'"),
        ({"image_size": 32}, "train image 0: has 28 x 28 pixels; .* = 32"),
    ],
)
def test_what_torchvision_cannot_give_is_told_in_one_line(options, said, mnist, tmp_path):
    with pytest.raises(RunError, match=said) as caught:
        read_images(_set(tmp_path, **options))
    assert "\n" not in str(caught.value)


def test_what_is_no_picture_with_a_label_is_refused(tmp_path, monkeypatch):
    class Odd(torch.utils.data.Dataset):
        def __init__(self, root, split):
            pass

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return self.example

    monkeypatch.setattr(torchvision.datasets, "MNIST", Odd)
    picture = Image.new("L", (28, 28))
    for example, said in (
        ((picture, {"boxes": []}), "its label is a dict: the set is none for classification"),
        ((picture, 1, 2), "its label is a tuple"),
        ((picture, -2), "its label is -2, which is no class"),
        ((picture, torch.tensor(-100)), "its label is -100, which is no class"),
        ((torch.zeros(3), 1), "is a Tensor and no picture"),
        ((Image.new("F", (28, 28)), 1), "has float pixels"),
    ):
        Odd.example = example
        with pytest.raises(RunError, match=f"train image 0: {said}"):
            read_images(_set(tmp_path))


def test_nothing_is_downloaded_unless_the_study_asks(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", lambda self: asked.append(1))
    for download in (False, True):
        with pytest.raises(RunError, match="cannot be opened"):
            read_images(_set(tmp_path, download=download))
        assert bool(asked) == download


ARRAYS = """
import numpy as np
import halves


def arrays(size, noise=0, *, kind=np.uint8):
    rng = np.random.default_rng(size)
    images = rng.integers(0, 256, (40, 1, 8, 8)).astype(kind)
    labels = np.arange(40) % 3
    return halves.split(images, labels)
"""
# A name of its own: a process that runs tests keeps the modules of others, too.
HALVES = """
def split(images, labels):
    return {
        "train_images": images[:30],
        "train_labels": labels[:30],
        "test_images": images[30:],
        "test_labels": labels[30:],
    }
"""
OWN = {
    "source": "function",
    "file": "mine_data.py",
    "function": "arrays",
    "options": {"size": 3},
    "channels": 1,
    "image_size": 8,
}


@pytest.fixture
def own(raw, write_study, monkeypatch):
    """The smoke study with images of a function beside it, changed as asked for."""
    # The processes in which it must return the same start half-way.
    monkeypatch.setattr(sys, "executable", forked.python(*forked.HASH_SEEDS))
    raw["training"]["batch_size"] = 10
    raw["models"] = {"resnet": raw["models"]["resnet"]}
    raw["evaluation"] = {"train_examples": 10, "test_examples": 10}
    for section in ("sizes", "linearized", "curvature", "growth", "matching"):
        del raw[section]

    def own(**changed):
        raw["data"]["images"] = OWN | changed
        return studyfile.load(write_study(raw))

    own.folder = write_study(raw).parent
    (own.folder / "mine_data.py").write_text(ARRAYS)
    (own.folder / "halves.py").write_text(HALVES)
    return own


def test_the_arrays_of_a_function_are_what_is_trained_on(own, in_tmp, capsys):
    study = own()
    data(study)
    assert "3 classes, 30 train_examples, 10 test_examples" in capsys.readouterr().err
    read = load_data(stages.data_file(study), study.data.images, torch.device("cpu"))
    order = arrangement(30)
    assert read.train.labels.tolist() == (np.arange(30) % 3)[order].tolist()
    images = np.random.default_rng(3).integers(0, 256, (40, 1, 8, 8))
    assert np.array_equal(read.train.images.numpy(), images[:30][order])
    check(study)
    # A checksum that says which they are.
    digest(own(sha256=ANY))
    said = capsys.readouterr().out.removeprefix("sha256: ").strip()
    data(own(sha256=said))
    with pytest.raises(RunError, match=f"function = 'arrays': its images have the digest {said}"):
        data(own(sha256=ANY))


def _fingerprints(study):
    rows._part_maker.cache_clear()
    return [
        stages.job_fingerprint(stage, run)
        for run in runs(study)
        for stage in ("data", "base", "chaos", "kernel")
    ]


def test_the_code_of_the_function_and_its_options_make_the_results(own, raw, write_study):
    before = _fingerprints(own())
    (own.folder / "unused.py").write_text("x = 1\n")
    (own.folder / "halves.py").write_text("# A comment makes nothing stale.\n" + HALVES)
    assert _fingerprints(own(classes=3, train_examples=30)) == before
    for changed in ({"options": {"size": 4}}, {"sha256": ANY}, {"channels": 3}):
        assert not set(_fingerprints(own(**changed))) & set(before)
    for file in ("mine_data.py", "halves.py"):
        text = (own.folder / file).read_text()
        (own.folder / file).write_text(text + "\ny = 2\n")
        assert not set(_fingerprints(own())) & set(before)
        (own.folder / file).write_text(text)
    # Nor does it matter where it lies; what is published takes it along.
    (own.folder / "deeper").mkdir()
    for file in ("mine_data.py", "halves.py"):
        (own.folder / file).rename(own.folder / "deeper" / file)
    raw["data"]["images"] = OWN | {"file": "deeper/mine_data.py"}
    study = studyfile.load(write_study(raw))
    assert _fingerprints(study) == before
    assert [f.relative_to(own.folder) for f in own_files(study)] == [
        Path("deeper/mine_data.py"),
        Path("deeper/halves.py"),
    ]


VECTORS = """
import numpy as np
import pandas as pd


def rows():
    x = np.random.default_rng(0).normal(size=(20, 2))
    y = np.arange(20) % 2
    made = {"train_vectors": x, "train_labels": y, "test_vectors": x, "test_labels": y}
    return made | CHANGED
"""
NOT_KEPT = {
    "beyond float32": ("{'test_vectors': 1e300 * x}", "test_vectors holds numbers beyond 3.4e38"),
    "seconds since 1970": (
        "{'train_vectors': x * [1, 600] + [0, 1.7e9]}",
        r"train_vectors: feature 1 lies between 1699\d+.* hardly tells apart: subtract its mean",
    ),
    "columns in another order": (
        "{'train_vectors': pd.DataFrame(x, columns=['a', 'b']), "
        "'test_vectors': pd.DataFrame(x, columns=['b', 'a'])}",
        "train_vectors and test_vectors have other columns, or others first",
    ),
}
KEPT = {
    "constant but for rounding": "{'train_vectors': x * [1, 1e-17] + [0, 0.1]}",
    "days since 1970": "{'train_vectors': x * [1, 600] + [0, 2e4]}",
    "whole numbers": "{'train_vectors': (9 * x).astype(int)}",
    "the same columns": "{'train_vectors': pd.DataFrame(x), 'test_vectors': pd.DataFrame(x)}",
}


@pytest.mark.parametrize("name", [*NOT_KEPT, *KEPT])
def test_vectors_are_kept_in_float32_or_refused(name, own):
    changed, said = NOT_KEPT.get(name) or (KEPT[name], None)
    (own.folder / "mine_data.py").write_text(VECTORS.replace("CHANGED", changed))
    file = str(own.folder / "mine_data.py")
    images = Vectors(source="vectors", file=file, function="rows", features=2, sha256=ANY)
    with pytest.raises(RunError, match=said or "have the digest") as caught:
        read_images(images)
    assert "\n" not in str(caught.value)


def test_an_installed_function_needs_no_file(own, monkeypatch):
    package = own.folder / "installed" / "sets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    text = ARRAYS.replace("import halves", "from . import halves")
    (package / "small.py").write_text(text)
    (package / "halves.py").write_text(HALVES)
    monkeypatch.syspath_prepend(str(package.parent))
    images = OWN | {"file": None, "function": "sets.small:arrays"}
    read = read_images(FunctionOfArrays(**images))
    assert read["train_images"].shape == (30, 1, 8, 8)


WRONG = {
    # What the function returns in place of the arrays, and what the one line says.
    "no mapping": ("images", "returns a ndarray; must return a mapping of train_images, train_l"),
    "too few": ("{'train_images': images}", "returns a mapping of train_images; must return"),
    "floats": ("halves.split(images / 255, labels)", r"train_images is float64 of shape \(30, 1"),
    "channels last": (
        "halves.split(images.transpose(0, 2, 3, 1), labels)",
        r"shape \(30, 8, 8, 1\); must be uint8 of shape \(examples, channels, .*\(n, 1, 8, 8\)",
    ),
    "labels that are floats": (
        "halves.split(images, labels / 1)",
        r"train_labels is float64 of shape \(30,\); must be whole numbers of shape \(30,\)",
    ),
    "rows of several lengths": (
        "halves.split(images, labels) | {'train_images': [[1], [1, 2]]}",
        r"train_images is no array \(ValueError: ",
    ),
    "masked": (
        "halves.split(images, np.ma.masked_equal(labels, 2))",
        "train_labels has masked entries",
    ),
    "too few labels": (
        "halves.split(images, labels) | {'test_labels': labels[:9]}",
        r"test_labels is int64 of shape \(9,\); must be whole numbers of shape \(10,\)",
    ),
    "a gap": ("halves.split(images, labels * 2)", "training labels are 0, 2, 4; must be 0, 1, …"),
    "from one on": ("halves.split(images, labels + 1)", "training labels are 1, 2, 3; must be 0"),
    "one class": ("halves.split(images, labels * 0)", "holds one class"),
    "a class of test alone": (
        "halves.split(images, labels) | {'test_labels': labels[:10] + 1}",
        "no training image is of the class of test label 3",
    ),
    "a failure": (
        "halves.split(images, labelz)",
        r"mine_data\.py:10: NameError: name 'labelz' is not",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_function_must_return(name, own, in_tmp):
    returned, said = WRONG[name]
    text = ARRAYS.replace("halves.split(images, labels)", returned)
    (own.folder / "mine_data.py").write_text(text)
    with pytest.raises(RunError, match=said) as caught:
        data(own())
    assert str(caught.value).startswith("data.images.function = 'arrays': ")
    assert "\n" not in str(caught.value)


MISTAKES = {
    # A section `images`, and what the one line says.
    "no such file": (OWN | {"file": "no.py"}, "file = 'no.py': no such file"),
    "no such function": (
        OWN | {"function": "array"},
        "function = 'array': is not in mine_data.py; functions there: arrays",
    ),
    "no such option": (
        OWN | {"options": {"size": 1, "sise": 1}},
        "options.sise = 1: 'arrays' in mine_data.py takes no such option; it takes: size, noise",
    ),
    "an option that is needed": (OWN | {"options": {}}, "options.size: is missing; 'arrays' in"),
    "no channels": ({k: v for k, v in OWN.items() if k != "channels"}, "channels: is missing"),
    "no such set": (
        {"source": "torchvision", "dataset": "MNIZT"},
        "dataset = 'MNIZT': is no data set of torchvision; near are",
    ),
    "what the section says": (
        {"source": "torchvision", "dataset": "MNIST", "options": {"train": True}},
        "options.train = True: is not allowed: the section itself says it",
    ),
    "no checksum": (
        {"source": "torchvision", "dataset": "MNIST", "sha256": "0"},
        r"sha256: must match .*data .*mine\.yaml --digest` prints it",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, own, raw, write_study):
    images, said = MISTAKES[name]
    if images["source"] == "torchvision":
        images = {"folder": "data", "image_size": 8, "channels": 1, "sha256": ANY} | images
    raw["data"]["images"] = images
    with pytest.raises(StudyError, match=rf"mine\.yaml: data\.images\.{said}") as caught:
        studyfile.load(write_study(raw))
    assert "\n" not in str(caught.value)


def test_the_digest_of_a_set_is_printed_before_the_study_says_it(
    mnist, raw, write_study, tmp_path, capsys
):
    raw["data"]["images"] = {
        "source": "torchvision",
        "dataset": "MNIST",
        "folder": str(tmp_path),
        "image_size": 28,
        "channels": 1,
    }
    raw["models"] = {"resnet": raw["models"]["resnet"]}
    digest(studyfile.load(write_study(raw), digest=False))
    assert capsys.readouterr().out == f"sha256: {_digest(mnist)}\n"


def test_given_statistics_are_those_of_torchvisions_normalize(smoke, raw, write_study, in_tmp):
    raw["data"]["statistics"] = {"mean": [0.4], "std": [0.25]}
    study = studyfile.load(write_study(raw))
    data(study)
    read = load_data(stages.data_file(study), study.data.images, torch.device("cpu"))
    expected = tv.normalize(read.train.images.float() / 255, [0.4], [0.25])
    assert torch.allclose(read.normalised(read.train.images), expected, rtol=1e-5, atol=1e-6)
    assert stages.data_file(study).path != stages.data_file(smoke).path
    for change, said in (
        ({"mean": [0.4, 0.4]}, r"mean = \[0.4, 0.4\]: must have a number for each channel"),
        ({"std": [0]}, "std.0 = 0: must be greater than 0"),
        ({"mean": [120]}, "mean.0 = 120: must be less than or equal to 1"),
        ({"deviation": [1]}, "deviation: no such key; allowed here: mean, std"),
    ):
        raw["data"]["statistics"] = {"mean": [0.4], "std": [0.25]} | change
        with pytest.raises(StudyError, match=rf"data\.statistics\.{said}"):
            studyfile.load(write_study(raw))
    raw["data"] |= {"statistics": None}
    with pytest.raises(StudyError, match=r"data\.statistics = nothing: must be a section"):
        studyfile.load(write_study(raw))
    del raw["data"]["statistics"]
    raw["data"]["augmentation"]["cutout"] = 9
    with pytest.raises(StudyError, match=r"augmentation\.cutout = 9: must be at most .* 8 pixels"):
        studyfile.load(write_study(raw))
