"""What images there are, before a study says so: their digest, numbers and sizes."""

from __future__ import annotations

import io
from collections import Counter
from contextlib import suppress
from typing import Any

from PIL import Image

from twophase.datasets import folder
from twophase.datasets.files import opened
from twophase.study.datasets import ImageFolder


def survey(images: ImageFolder) -> dict[str, Any]:
    """The `sha256` of a folder's or tar's images, and how many `classes`, `train_examples` and
    `test_examples` there are.

    Raises `RunError` if folders or files are not as the study says.
    """
    return {"sha256": folder.digest(images)} | counts(images)


def counts(images: ImageFolder) -> dict[str, int]:
    """The same without the digest; no file's content is read."""
    path = folder._path(images)
    with opened(path) as tree:
        names = folder._images(path, tree)
        classes = folder._classes(path, images, names)
    of = Counter(name.partition("/")[0] for name in names)
    numbers = {f"{split}_examples": of[split] for split in folder.SPLITS}
    return {"classes": len(classes)} | numbers


def sizes(images: ImageFolder) -> set[tuple[int, int]]:
    """The widths and heights of all images that can be read."""
    path, found = folder._path(images), set()
    with opened(path) as tree:
        for _, content in folder._contents(tree, folder._images(path, tree)):
            with suppress(Exception), Image.open(io.BytesIO(content)) as image:
                found.add(image.size)
    return found
