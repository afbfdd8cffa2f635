"""Examples and labels as arrays: their digest, their numbers, and their order."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import torch

from twophase.errors import RunError
from twophase.study.datasets import OfFunction, TorchvisionSet

ARRANGEMENT = 4  # first number of the counter that orders the images; see batches.py
SPLITS = ("train", "test")

Arrays = dict[str, torch.Tensor]


def arrangement(number: int) -> np.ndarray:
    """A fixed random order of `number` images, because losses are measured on the first ones."""
    return np.random.default_rng((ARRANGEMENT, number)).permutation(number)


def digest(arrays: Arrays) -> str:
    """The sha256 of shapes and bytes of all arrays, in the order of their names."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {tuple(array.shape)}\n".encode())
        total.update(array.contiguous().numpy())
    return total.hexdigest()


def arranged(arrays: Arrays, images: TorchvisionSet | OfFunction, what: str) -> Arrays:
    """The arrays `train_images` (n, channels, height, width), `train_labels` (n,) and so on in a
    fixed random order. `what` they are of starts a message.

    Raises `RunError` if labels are not 0, 1, ... with a training image of each, or if digest or
    numbers are not those that the study says.
    """
    classes = _classes(arrays, what) if images.task == "classification" else None
    counts = {f"{split}_examples": len(arrays[f"{split}_labels"]) for split in SPLITS}
    for option, found in {"classes": classes, **counts}.items():
        if (asked := getattr(images, option)) not in (None, found):
            raise RunError(f"{what}: holds {found:,} {option}; data.images.{option} = {asked}")
    if images.sha256 is not None and (found := digest(arrays)) != images.sha256:
        raise RunError(
            f"{what}: its images have the digest {found}: damaged, or another data set; "
            f"data.images.sha256 = {images.sha256!r}; if you changed them, give the new digest"
        )
    note_twins(arrays, what)
    orders = {split: torch.from_numpy(arrangement(counts[f"{split}_examples"])) for split in SPLITS}
    return {name: array[orders[name.partition("_")[0]]] for name, array in arrays.items()}


def _classes(arrays: Arrays, what: str) -> int:
    """How many classes there are. Raises `RunError` if labels are not 0, 1, ..."""
    present, others = (arrays[f"{split}_labels"].unique().tolist() for split in SPLITS)
    if present != list(range(len(present))):
        raise RunError(
            f"{what}: training labels are {_some(present)}; must be 0, 1, … without gaps"
        )
    if len(present) < 2:
        raise RunError(f"{what}: holds one class; two are the least")
    if strange := sorted(set(others) - set(present)):
        raise RunError(f"{what}: no training image is of the class of test label {strange[0]}")
    return len(present)


def note_twins(arrays: Arrays, what: str) -> None:
    """Say how many test images are training images, too, and how many training images have two
    labels.
    """
    labels: dict[bytes, set[str]] = {}
    for image, label in zip(arrays["train_images"], arrays["train_labels"].tolist(), strict=True):
        labels.setdefault(_pixels(image), set()).add(str(label))
    again = sum(_pixels(image) in labels for image in arrays["test_images"])
    two = sum(len(each) > 1 for each in labels.values())
    if again:
        count = len(arrays["test_images"])
        line = f"{again:,} of {count:,} test images are training images, too, pixel for pixel"
        print(f"{what}: {line}", file=sys.stderr)
    if two:
        print(f"{what}: {two:,} training images are there with two labels or more", file=sys.stderr)


def _pixels(image: torch.Tensor) -> bytes:
    return hashlib.blake2b(image.contiguous().numpy(), digest_size=16).digest()


def _some(labels: list[int]) -> str:
    return ", ".join(map(str, labels[:5])) + ", …" * (len(labels) > 5)
