"""Arrays of images from a function of the user's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from twophase.datasets.arrays import SPLITS, Arrays, arranged
from twophase.datasets.arrays import digest as digest_of
from twophase.errors import RunError, in_a_line
from twophase.study.datasets import FunctionOfArrays
from twophase.study.functions import imported
from twophase.training import switches

HASH_SEEDS = ("1", "2")  # of the processes that the function is called in, beside this one


def read(images: FunctionOfArrays) -> Arrays:
    """What the function returns, in a fixed random order: a mapping from `train_images` (n,
    channels, height, width) as bytes, `train_labels` (n,), whole numbers from 0 on, and the same
    for `test`, to arrays or tensors.

    Raises `RunError` if it returns anything else, or fails, or if without `sha256` it returns
    others in another process.
    """
    if images.sha256 is not None:  # says what they must be
        return arranged(_arrays(images), images, _name(images))
    arrays, what = _arrays(images), _name(images)
    own = digest_of(arrays)
    for seed in HASH_SEEDS:
        digest_there, said = _elsewhere(images, seed)
        if digest_there is None:
            raise RunError(f"{what}: works here, but fails in another process: {said}")
        if digest_there != own:
            raise RunError(
                f"{what}: returns other arrays in another process (digests {own[:8]} and "
                f"{digest_there[:8]}): random numbers without a seed, the order of a set, or the "
                "time? make it return the same each time"
            )
    return arranged(arrays, images, what)


def digest(images: FunctionOfArrays) -> str:
    """The `sha256` that the study file may say, if these are the right images."""
    read(images.model_copy(update={"sha256": None}))
    return digest_of(_arrays(images))


def _elsewhere(images: FunctionOfArrays, hash_seed: str) -> tuple[str | None, str]:
    """The digest in a process of its own, where sets have another order; none if it fails, and then
    the last line that it says.
    """
    path = os.pathsep.join(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digest"
        ended = subprocess.run(
            [sys.executable, "-m", "twophase.datasets.function", str(file)],
            input=json.dumps(images.model_dump()),
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=False,
        )
        said = (ended.stderr.strip() or "nothing").splitlines()[-1]
        return (file.read_text() if file.exists() else None), said


def _name(images: FunctionOfArrays) -> str:
    return f"data.images.function = {images.function!r}"


def _arrays(images: FunctionOfArrays) -> Arrays:
    """The arrays that the function returns, in its order."""
    what = _name(images)
    try:
        with switches.kept(f"data.images.file = {images.file!r}" if images.file else what):
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


if __name__ == "__main__":
    asked = FunctionOfArrays.model_construct(**json.load(sys.stdin))
    Path(sys.argv[1]).write_text(digest_of(_arrays(asked)))
