"""Arrays of images from a function of the user's own."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

import numpy as np
import torch

from twophase.datasets.arrays import SPLITS, Arrays, arranged
from twophase.datasets.arrays import digest as digest_of
from twophase.errors import RunError, in_a_line
from twophase.study.datasets import FunctionOfArrays
from twophase.study.functions import imported


def read(images: FunctionOfArrays) -> Arrays:
    """What the function returns, in a fixed random order: a mapping from `train_images` (n,
    channels, height, width) as bytes, `train_labels` (n,), whole numbers from 0 on, and the same
    for `test`, to arrays or tensors.

    Raises `RunError` if it returns anything else, or fails.
    """
    return arranged(_arrays(images), images, _name(images))


def digest(images: FunctionOfArrays) -> str:
    """The `sha256` that the study file may say, if these are the right images."""
    return digest_of(_arrays(images))


def _name(images: FunctionOfArrays) -> str:
    return f"data.images.function = {images.function!r}"


def _arrays(images: FunctionOfArrays) -> Arrays:
    """The arrays that the function returns, in its order."""
    what = _name(images)
    try:
        found = imported(images.file, images.function)(**images.arguments)
    except Exception as error:  # it is any code
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{place.filename}:{place.lineno}: {in_a_line(error)}"
        raise RunError(f"{what}: {said}") from error
    names = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
    if not isinstance(found, Mapping) or set(found) != set(names):
        given = f"a mapping of {', '.join(map(str, found))}" if isinstance(found, Mapping) else ""
        raise RunError(
            f"{what}: returns {given or f'a {type(found).__name__}'}; must return a mapping of "
            f"{', '.join(names)}"
        )
    arrays = {}
    for split in SPLITS:
        pixels, labels = (_array(found, f"{split}_{kind}", what) for kind in ("images", "labels"))
        size = (images.channels, images.image_size, images.image_size)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != size or not len(pixels):
            raise RunError(
                f"{what}: {split}_images is {pixels.dtype} of shape {pixels.shape}; must be uint8 "
                f"of shape (examples, channels, height, width) = (n, {', '.join(map(str, size))})"
            )
        if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
            raise RunError(
                f"{what}: {split}_labels is {labels.dtype} of shape {labels.shape}; must be whole "
                f"numbers of shape ({len(pixels)},), one for each image"
            )
        arrays[f"{split}_images"] = torch.from_numpy(np.array(pixels, order="C"))
        arrays[f"{split}_labels"] = torch.from_numpy(labels.astype(np.int64))
    return arrays


def _array(found: Mapping, name: str, what: str) -> np.ndarray:
    try:
        return np.asarray(found[name])
    except Exception as error:  # rows of several lengths, tensors on a GPU or with gradients
        raise RunError(f"{what}: {name} is no array ({in_a_line(error)})") from None
