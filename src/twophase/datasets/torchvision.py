"""A set of torchvision for classification, from its own files."""

from __future__ import annotations

import inspect
import operator

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import datasets

from twophase.datasets.arrays import SPLITS, Arrays, arranged
from twophase.datasets.arrays import digest as digest_of
from twophase.datasets.pictures import Refused, fitted, in_mode
from twophase.errors import RunError, in_a_line
from twophase.study.datasets import TorchvisionSet
from twophase.training.progress import progress


def read(images: TorchvisionSet) -> Arrays:
    """Images and labels of a set of `torchvision.datasets`, in a fixed random order.

    Labels count the classes of the training images, in torchvision's order. Raises `RunError` if
    the set is not there, is none for classification, or is not what the study says.
    """
    return arranged(_arrays(images), images, _name(images))


def digest(images: TorchvisionSet) -> str:
    """The `sha256` that the study file should say, if these are the right images."""
    return digest_of(_arrays(images))


def _name(images: TorchvisionSet) -> str:
    return f"{images.folder}: torchvision's {images.dataset}"


def _arrays(images: TorchvisionSet) -> Arrays:
    """Images and labels in torchvision's order."""
    arrays, size = {}, images.image_size
    for split, name in zip(SPLITS, images.splits, strict=True):
        dataset = _opened(images, split == "train", name)
        pixels = torch.empty(len(dataset), images.channels, size, size, dtype=torch.uint8)
        labels = torch.empty(len(dataset), dtype=torch.int64)
        with progress(f"{_name(images)}, {split}", len(dataset), "img") as bar:
            for index in range(len(dataset)):
                try:
                    image, labels[index] = _example(dataset, index)
                    image = in_mode(image, "RGB" if images.channels == 3 else "L")
                    pixels[index] = torch.from_numpy(fitted(image, images))
                except Refused as error:
                    raise RunError(f"{_name(images)}: {split} image {index}: {error}") from None
                bar.update()
        arrays |= {f"{split}_images": pixels, f"{split}_labels": labels}
    classes = arrays["train_labels"].unique()
    for split in SPLITS:
        labels = arrays[f"{split}_labels"]
        if len(strange := labels[~torch.isin(labels, classes)]):
            raise RunError(f"{_name(images)}: no training image is of class {int(strange[0])}")
        arrays[f"{split}_labels"] = torch.searchsorted(classes, labels)
    return arrays


def _opened(images: TorchvisionSet, train: bool, split: str) -> Dataset:
    """One split of the set. Raises `RunError` if that cannot be had."""
    kind = getattr(datasets, images.dataset)
    takes = {
        name
        for base in kind.__mro__
        if "__init__" in vars(base)
        for name in inspect.signature(base.__init__).parameters
    }
    if "train" in takes:
        if "splits" in images.model_fields_set:
            raise RunError(
                f"data.images.splits = {images.splits!r}: {images.dataset} has no names of splits; "
                "leave it out"
            )
        given: dict[str, object] = {"train": train}
    elif "split" in takes and "split" not in images.arguments:
        given = {"split": split}
    elif "split" in takes:
        raise RunError(
            f"data.images.options.split = {images.arguments['split']!r}: one alone; "
            "data.images.splits says which are for training and test"
        )
    else:
        raise RunError(
            f"data.images.dataset = {images.dataset!r}: takes neither train nor split, so it does "
            "not say which images are for training and which for test; bring them into folders and "
            "use data.images.source = 'folder', or write a function that returns them"
        )
    if "download" in takes:
        given["download"] = images.download
    elif images.download:
        raise RunError(
            f"data.images.download = true: torchvision cannot download {images.dataset}; put its "
            f"files into {images.folder}"
        )
    try:
        return kind(images.folder, **images.arguments, **given)
    except Exception as error:  # each set raises what it likes
        if isinstance(error, TypeError):
            remedy = "data.images.options go to the class of this name in torchvision.datasets"
        else:
            fetch = ", or let data.images.download = true fetch them"
            remedy = "put its files there" + fetch * (given.get("download") is False)
        raise RunError(
            f"{_name(images)}: cannot be opened ({in_a_line(error)}); {remedy}"
        ) from None


def _example(dataset: Dataset, index: int) -> tuple[Image.Image, int]:
    """A picture and its label. Raises `Refused` if it is not such a pair."""
    try:
        example = dataset[index]
    except Exception as error:  # a reader of damaged files may raise nearly anything
        raise Refused(f"cannot be read ({in_a_line(error)})") from None
    image, label = example if len(example) == 2 else (None, example)
    try:
        label = operator.index(label)
    except TypeError:
        kind = type(label).__name__
        raise Refused(f"its label is a {kind}: the set is none for classification") from None
    if label < 0:
        raise Refused(
            f"its label is {label}, which is no class: the set marks images without a label so; "
            "name splits in data.images.splits whose images all have one"
        )
    if not isinstance(image, Image.Image):
        raise Refused(f"is a {type(image).__name__} and no picture")
    return image, label
