"""The sources of images that a study can name: their options here, each reader in its own file.

This module imports no PyTorch, because the Snakefile reads studies. A new source is a record here
and a file `<source>.py` with a function `read(images)`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from twophase.records import Count, Record


class Source(Record):
    """A source of images. Options `beside` only say where its images lie, or how many there are;
    which they are, its other options say.
    """

    beside: ClassVar[frozenset[str]] = frozenset()


class Digits(Source):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels; they ship with the package."""

    source: Literal["digits"]
    test_examples: Annotated[int, Field(ge=10, le=1000)]
    channels: ClassVar[int] = 1
    image_size: ClassVar[int] = 8

    @property
    def train_examples(self) -> int:
        """All that are not test examples."""
        return 1797 - self.test_examples

    @property
    def smallest_class(self) -> int:
        """Training examples of the rarest class, the digit 8, of which there are 174 in all."""
        return 174 * self.train_examples // 1797


class CIFAR10(Source):
    """CIFAR-10, downloaded to `folder` unless it is there."""

    source: Literal["cifar10"]
    folder: str
    channels: ClassVar[int] = 3
    image_size: ClassVar[int] = 32
    train_examples: ClassVar[int] = 50_000
    test_examples: ClassVar[int] = 10_000
    smallest_class: ClassVar[int] = 5_000
    beside = frozenset({"folder"})


class ImageFolder(Source):
    """A folder or (compressed) tar with images `train/<class>/<file>` and `test/<class>/<file>`.

    `sha256` is the digest of what `sha256sum` prints for `train/<class>/<file>` and the others in
    the order of their names: it says which images these are, wherever they lie. Numbers that are
    left out are counted. `resize` scales an image until its shorter side is `image_size` and cuts
    off what is too long on both sides; `pad` puts black around it until it is square, before.
    """

    source: Literal["folder"]
    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    channels: ClassVar[int] = 3
    image_size: Count
    classes: Annotated[int, Field(ge=2)] | None = None
    train_examples: Count | None = None
    test_examples: Count | None = None
    resize: bool = False
    pad: bool = False
    beside = frozenset({"path", "classes", "train_examples", "test_examples"})

    @property
    def smallest_class(self) -> int | None:
        """Training examples of the rarest class, at most; none if that is not known."""
        known = self.train_examples and self.classes
        return self.train_examples // self.classes if known else None


Images = Annotated[Digits | CIFAR10 | ImageFolder, Field(discriminator="source")]


def module(images: Images) -> str:
    """The module of this package that reads `images`."""
    return f"datasets.{images.source}"


def load(images: Images) -> ModuleType:
    """That module, imported. Its `read(images)` gives `train_images` (n, channels, height, width)
    as bytes, `train_labels` (n,), and the same for `test`; it raises `RunError` if the images are
    not there, damaged, or not those that the study names.
    """
    return importlib.import_module(f"twophase.{module(images)}")
