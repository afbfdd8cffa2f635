"""Arrays of examples from a function of the user's own: images, vectors, or tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from twophase.datasets.arrays import SPLITS, Arrays, arranged
from twophase.datasets.arrays import digest as digest_of
from twophase.errors import RunError, in_a_line
from twophase.study.datasets import FunctionOfArrays, OfFunction, Tokens, Vectors
from twophase.study.functions import at_its_line, imported
from twophase.training import switches

SOURCES = {"function": FunctionOfArrays, "vectors": Vectors, "tokens": Tokens}
COARSE = 0.01  # of a feature's deviation: more may not be lost to rounding
CONSTANT = 1e-12  # deviation, over its size, of a feature that varies by rounding alone
HASH_SEEDS = ("1", "2")  # of the processes that the function is called in, beside this one


def read(images: OfFunction) -> Arrays:
    """What the function returns, in a fixed random order: a mapping from `train_images` (n,
    channels, height, width) as bytes, `train_labels` (n,), whole numbers from 0 on, and the same
    for `test`, to arrays or tensors. Instead of images `train_vectors` (n, features), real numbers,
    or `train_tokens` (n, length), whole numbers below the vocabulary; then, too, the mapping here
    calls them images, and tokens come with their `vocabulary`. Labels for regression are real
    numbers (n,) or (n, k), and here (n, k); of a task of one's own, whole or real numbers.

    Raises `RunError` if it returns anything else, or fails, or if without `sha256` it returns
    others in another process.
    """
    if images.sha256 is not None:  # says what they must be
        return _whole(arranged(_arrays(images), images, _name(images)), images)
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
    return _whole(arranged(arrays, images, what), images)


def _whole(arrays: Arrays, images: OfFunction) -> Arrays:
    """With the vocabulary, where there is one: a token stands for its number."""
    if images.form != "tokens":
        return arrays
    return {**arrays, "vocabulary": torch.arange(images.vocabulary)}


def digest(images: OfFunction) -> str:
    """The `sha256` that the study file may say, if these are the right images."""
    read(images.model_copy(update={"sha256": None}))
    return digest_of(_arrays(images))


def _elsewhere(images: OfFunction, hash_seed: str) -> tuple[str | None, str]:
    """The digest in a process of its own, where sets have another order; none if it fails, and then
    the last line that it says.
    """
    path = os.pathsep.join(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digest"
        ended = subprocess.run(
            [sys.executable, "-m", "twophase.datasets.function", str(file)],
            input=json.dumps([images.source, images.model_dump()]),
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        said = (ended.stderr.strip() or "nothing").splitlines()[-1]
        return (file.read_text() if file.exists() else None), said


def _name(images: OfFunction) -> str:
    return f"data.images.function = {images.function!r}"


def _arrays(images: OfFunction) -> Arrays:
    """The arrays that the function returns, in its order."""
    what = _name(images)
    try:
        with switches.kept(f"data.images.file = {images.file!r}" if images.file else what):
            found = imported(images.file, images.function)(**images.arguments)
    except Exception as error:  # it is any code
        raise RunError(f"{what}: {at_its_line(error)}") from error
    names = [f"{split}_{kind}" for split in SPLITS for kind in (images.form, "labels")]
    if not isinstance(found, Mapping) or set(found) != set(names):
        given = f"a mapping of {', '.join(map(str, found))}" if isinstance(found, Mapping) else ""
        raise RunError(
            f"{what}: returns {given or f'a {type(found).__name__}'}; must return a mapping of "
            f"{', '.join(names)}"
        )
    examples = [found[f"{split}_{images.form}"] for split in SPLITS]
    columns = [list(each.columns) for each in examples if isinstance(each, pd.DataFrame)]
    if len(columns) == 2 and columns[0] != columns[1]:
        raise RunError(
            f"{what}: {' and '.join(f'{split}_{images.form}' for split in SPLITS)} have other "
            "columns, or others first; choose the same, in one order"
        )
    arrays = {}
    for split in SPLITS:
        examples = _array(found, f"{split}_{images.form}", what)
        labels = _array(found, f"{split}_labels", what)
        _check_examples(examples, images, f"{what}: {split}_{images.form}")
        examples = _plain(examples, images.form, f"{what}: {split}_{images.form}")
        labels = _labels(labels, len(examples), images, f"{what}: {split}_labels")
        arrays[f"{split}_images"] = torch.from_numpy(np.array(examples, order="C"))
        arrays[f"{split}_labels"] = torch.from_numpy(labels)
    return arrays


FORMS = {
    # What numpy calls the kind of number, how a message says it, and the axes.
    "images": ("u", "uint8", "(examples, channels, height, width)"),
    "vectors": ("fiub", "finite real numbers", "(examples, features)"),
    "tokens": ("iu", "whole numbers from 0 to vocabulary - 1", "(examples, length)"),
}


def _check_examples(examples: np.ndarray, images: OfFunction, name: str) -> None:
    """Raise `RunError` unless these are examples of the source's form."""
    kinds, numbers, axes = FORMS[images.form]
    fits = examples.dtype.kind in kinds and examples.shape[1:] == images.shape and len(examples)
    if fits and images.form == "images":
        fits = examples.dtype == np.uint8
    elif fits and images.form == "vectors":
        fits = np.isfinite(examples).all()
    elif fits:
        fits = examples.min() >= 0 and examples.max() < images.vocabulary
    if not fits:
        values = "" if images.form == "images" or not examples.size else _range(examples)
        raise RunError(
            f"{name} is {examples.dtype} of shape {examples.shape}{values}; must be {numbers} "
            f"of shape {axes} = (n, {', '.join(map(str, images.shape))})"
        )


def _range(examples: np.ndarray) -> str:
    return f", from {examples.min()} to {examples.max()}" if examples.dtype.kind in "fiu" else ""


def _plain(examples: np.ndarray, form: str, name: str) -> np.ndarray:
    """In the type in which they are kept. Raises `RunError` if that does not tell them apart."""
    if form == "tokens":
        return examples.astype(np.int32)
    if form == "images":
        return examples
    exact = examples.astype(float)
    with np.errstate(over="ignore"):
        kept = exact.astype(np.float32)
    if not np.isfinite(kept).all():
        raise RunError(f"{name} holds numbers beyond 3.4e38, which float32 does not: divide them")
    deviation = exact.std(0)
    # What varies by less is rounding itself, and counts as constant.
    varies = deviation > CONSTANT * np.abs(exact).max(0)
    lost = varies & (np.abs(kept - exact).max(0) > COARSE * deviation)
    if lost.any():
        index = int(lost.argmax())
        low, high = exact[:, index].min(), exact[:, index].max()
        raise RunError(
            f"{name}: feature {index} lies between {low:.12g} and {high:.12g}, which float32 "
            "hardly tells apart: subtract its mean"
        )
    return kept


def _labels(labels: np.ndarray, examples: int, images: OfFunction, name: str) -> np.ndarray:
    """Labels as they are kept: whole numbers (n,), or real ones (n, k). Raises `RunError` if they
    are none of the task.
    """
    whole, real = labels.dtype.kind in "iu", labels.dtype.kind == "f"
    said = f"{name} is {labels.dtype} of shape {labels.shape}; must be"
    if images.task == "classification":
        if not whole or labels.shape != (examples,):
            raise RunError(
                f"{said} whole numbers of shape ({examples},), one for each {images.form[:-1]}"
            )
    elif images.task == "regression":
        if not (whole or real) or labels.ndim not in (1, 2) or len(labels) != examples:
            raise RunError(f"{said} real numbers of shape ({examples},) or ({examples}, k)")
        labels, whole, real = labels.astype(np.float32), False, True
    elif not (whole or real) or not labels.ndim or len(labels) != examples:
        raise RunError(f"{said} numbers of shape ({examples}, ...)")
    if real and not np.isfinite(labels).all():
        raise RunError(f"{name} holds what is not finite")
    if real:
        labels = labels.reshape(examples, -1)
    return labels.astype(np.int64 if whole else np.float32)


def _array(found: Mapping, name: str, what: str) -> np.ndarray:
    if np.ma.is_masked(found[name]):
        raise RunError(f"{what}: {name} has masked entries: fill them, or leave these rows out")
    try:
        return np.asarray(found[name])
    except Exception as error:  # rows of several lengths, tensors on a GPU or with gradients
        raise RunError(f"{what}: {name} is no array ({in_a_line(error)})") from None


if __name__ == "__main__":
    source, options = json.load(sys.stdin)
    asked = SOURCES[source].model_construct(**options)
    Path(sys.argv[1]).write_text(digest_of(_arrays(asked)))
