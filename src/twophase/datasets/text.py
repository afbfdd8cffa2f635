"""A text as sequences of tokens, each with the tokens that come next."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from twophase.datasets.arrays import Arrays, arrangement
from twophase.errors import RunError
from twophase.study.datasets import Text


def read(images: Text) -> Arrays:
    """The examples of a text: `train_images` (n, length), tokens, and `train_labels` (n, length),
    those that come next; the same for `test`; and the `vocabulary`, what the tokens stand for:
    numbers of characters in Unicode, from the smallest, or of bytes.

    The first 1 - `test_share` of the text's tokens are for training. Examples do not overlap, but
    that the last label of one is the first token of the next; what is left at the end is dropped.
    Raises `RunError` if the file is not there, is not that of the study, or is too short.
    """
    content = _content(images)
    what = f"data.images.path = {images.path!r}"
    if digest(images) != images.sha256:
        raise RunError(
            f"{what}: the file has the digest {digest(images)}: damaged, or another text; "
            f"data.images.sha256 = {images.sha256!r}; if you changed it, give the new digest"
        )
    tokens, vocabulary = _tokens(content, images, what)
    border = round(len(tokens) * (1 - images.test_share))
    found: Arrays = {"vocabulary": torch.from_numpy(vocabulary)}
    for split, part in (("train", tokens[:border]), ("test", tokens[border:])):
        count = (len(part) - 1) // images.length
        if count < 1:
            raise RunError(
                f"{what}: its {split} part has {len(part):,} tokens; one example has data.images."
                f"length = {images.length}, and one comes next"
            )
        order, end = arrangement(count), count * images.length
        pieces = part[:end].reshape(count, -1), part[1 : end + 1].reshape(count, -1)
        for kind, each in zip(("images", "labels"), pieces, strict=True):
            found[f"{split}_{kind}"] = torch.from_numpy(each[order].astype(np.int64))
        found[f"{split}_images"] = found[f"{split}_images"].int()
    return found


def digest(images: Text) -> str:
    """The `sha256` that the study file says, if this is the right text."""
    return hashlib.sha256(_content(images)).hexdigest()


def _content(images: Text) -> bytes:
    try:
        return Path(images.path).expanduser().read_bytes()
    except OSError as error:
        raise RunError(
            f"data.images.path = {images.path!r}: {error.strerror}; put the text there, or name "
            "another place (a link will do)"
        ) from None


def _tokens(content: bytes, images: Text, what: str) -> tuple[np.ndarray, np.ndarray]:
    """All tokens of the text, and what they stand for."""
    if images.tokens == "bytes":
        return np.frombuffer(content, np.uint8), np.arange(256)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{what}: {error}; data.images.tokens = 'bytes' takes any file") from None
    if not text:
        raise RunError(f"{what}: is empty")
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
    vocabulary, tokens = np.unique(points, return_inverse=True)
    return tokens, vocabulary
