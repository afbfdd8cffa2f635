"""The sources of examples that a study can name: their options; readers are files of `datasets/`.

Most are sources of images; others are of vectors, or of sequences of tokens. A new source is a
record here and a file `<source>.py` with a function `read(images)`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from twophase.store.code import Place
from twophase.study import functions, tasks
from twophase.study.records import Arguments, Count, Mistakes, Record, show

SHA256 = "^[0-9a-f]{64}$"


class Source(Record):
    """A source of images, or of examples of another `form`. Options `beside` only say where they
    lie, or how many there are; which they are, its other options say. Each has a `task`, which is
    what is to be learnt.
    """

    beside: ClassVar[frozenset[str]] = frozenset()
    form: ClassVar[str] = "images"  # or "vectors", or "tokens"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an example."""
        return self.channels, self.image_size, self.image_size


class Digits(Source):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels; they ship with the package."""

    source: Literal["digits"]
    test_examples: Annotated[int, Field(ge=10, le=1000)]
    channels: ClassVar[int] = 1
    image_size: ClassVar[int] = 8
    task: ClassVar[str] = "classification"

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
    task: ClassVar[str] = "classification"
    train_examples: ClassVar[int] = 50_000
    test_examples: ClassVar[int] = 10_000
    smallest_class: ClassVar[int] = 5_000
    beside = frozenset({"folder"})


class Counted(Source):
    """A source whose numbers are counted, and compared with those that are given."""

    classes: Annotated[int, Field(ge=2)] | None = None
    train_examples: Count | None = None
    test_examples: Count | None = None
    beside = frozenset({"classes", "train_examples", "test_examples"})

    @property
    def smallest_class(self) -> int | None:
        """Training examples of the rarest class, at most; none if that is not known."""
        known = self.train_examples and self.classes
        return self.train_examples // self.classes if known else None


class Pictures(Counted):
    """A source of pictures that are brought to `image_size` x `image_size` pixels.

    `resize` scales a picture until its shorter side is `image_size` and cuts off what is too long
    on both sides; `pad` puts black around it until it is square, before.
    """

    image_size: Count
    resize: bool = False
    pad: bool = False
    task: ClassVar[str] = "classification"


class ImageFolder(Pictures):
    """A folder or (compressed) tar with images `train/<class>/<file>` and `test/<class>/<file>`.

    `sha256` is the digest of what `sha256sum` prints for `train/<class>/<file>` and the others in
    the order of their names: it says which images these are, wherever they lie.
    """

    source: Literal["folder"]
    path: str
    sha256: Annotated[str, Field(pattern=SHA256)]
    channels: ClassVar[int] = 3
    beside = Counted.beside | {"path"}


class TorchvisionSet(Pictures):
    """A set of `torchvision.datasets` for classification, from its files in `folder`; they are
    downloaded only where `download` asks for it.

    Its class gets `options`, and `train` or else `split`, whose values for training and test are
    `splits`. Its images become RGB (3 `channels`) or grey (1). `sha256` is the digest of all of
    them as they are used, with their labels: it says which images these are, wherever they lie.
    """

    source: Literal["torchvision"]
    dataset: str
    arguments: Arguments = {}
    folder: str
    download: bool = False
    splits: Annotated[list[str], Field(min_length=2, max_length=2)] = ["train", "test"]
    channels: Literal[1, 3]
    sha256: Annotated[str, Field(pattern=SHA256)]
    beside = Counted.beside | {"folder", "download"}


class OfFunction(Counted):
    """A source whose arrays a `function` of the user's own returns: in a `file` beside the study
    file, or without a file `module:function` of an installed package. It takes `options`.

    What the code says counts, not where the file lies. Data files that it reads are not seen:
    `sha256`, the digest of what it returns, says which they are. Labels are those of the `task`:
    classes, whole numbers from 0 on; for regression real numbers, one or several for each example;
    of a task of one's own, either.
    """

    file: str | None = None
    function: str
    arguments: Arguments = {}
    sha256: Annotated[str, Field(pattern=SHA256)] | None = None
    task: tasks.Task = "classification"
    beside = Counted.beside | {"file"}


class FunctionOfArrays(OfFunction):
    """Images that a function returns, with what is to be learnt of them."""

    source: Literal["function"]
    channels: Annotated[int, Field(ge=1, le=1000)]
    image_size: Count


class Vectors(OfFunction):
    """Vectors of `features` real numbers that a function returns. Each feature is brought to mean 0
    and deviation 1 over the training examples; labels stay as they are.
    """

    source: Literal["vectors"]
    features: Annotated[int, Field(ge=1, le=1_000_000)]
    form = "vectors"
    image_size: ClassVar[int] = 1

    @property
    def channels(self) -> int:
        """Its features: an image of one pixel has as many channels."""
        return self.features

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an example."""
        return (self.features,)


class Sequences(Source):
    """A source of sequences of `length` tokens. A network may name `vocabulary` and `length`, where
    those of images name `channels` and `image_size`.
    """

    length: Annotated[int, Field(ge=2, le=100_000)]
    form = "tokens"

    @property
    def image_size(self) -> int:
        """Its length, as a network's builder may ask for it."""
        return self.length

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an example."""
        return (self.length,)


class Tokens(OfFunction, Sequences):
    """Sequences of tokens that a function returns, numbers from 0 to `vocabulary` - 1, each with
    what is to be learnt of it.
    """

    source: Literal["tokens"]
    vocabulary: Annotated[int, Field(ge=2, le=1_000_000)]

    @property
    def channels(self) -> int:
        """Its tokens: as if each was one of as many channels."""
        return self.vocabulary


class Text(Sequences):
    """A text file: after each of `length` tokens, which comes next? A token is a character of the
    text, or with `bytes` a byte of the file.

    The first part of the text is for training, the last `test_share` of it for test. Each is cut
    into pieces that do not overlap, which are the examples, in a fixed random order. `sha256` is
    that of the file: it says which text this is, wherever it lies.
    """

    source: Literal["text"]
    path: str
    sha256: Annotated[str, Field(pattern=SHA256)]
    tokens: Literal["characters", "bytes"] = "characters"
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    task: ClassVar[str] = "next_token"
    channels: ClassVar[None] = None  # the vocabulary, known once the text is read
    classes: ClassVar[None] = None
    train_examples: ClassVar[None] = None
    test_examples: ClassVar[None] = None
    smallest_class: ClassVar[None] = None
    beside = frozenset({"path"})


Images = Annotated[
    Digits | CIFAR10 | ImageFolder | TorchvisionSet | FunctionOfArrays | Vectors | Tokens | Text,
    Field(discriminator="source"),
]


def module(images: Images) -> str:
    """The module of this package that reads `images`."""
    of_function = images.source in ("function", "vectors", "tokens")
    return f"datasets.{'function' if of_function else images.source}"


def code(images: Images) -> tuple[str | Place, ...]:
    """That module, and the user's code that it calls."""
    if isinstance(images, OfFunction):
        own = functions.place(images.file, images.function)
        return module(images), own, *tasks.code(images.task)
    return (module(images),)


def imported(images: Images) -> ModuleType:
    """That module, imported. Its `read(images)` gives `train_images` (n, channels, height, width)
    as bytes, `train_labels` (n,), and the same for `test`; it raises `RunError` if the images are
    not there, damaged, or not those that the study names.
    """
    return importlib.import_module(f"twophase.{module(images)}")


def surveyed(images: Images) -> dict[str, Any]:
    """The `sha256` that says which images these are, with their numbers where that is quick. Raises
    `RunError` if they cannot be read.
    """
    if isinstance(images, ImageFolder):
        return importlib.import_module("twophase.datasets.survey").survey(images)
    return {"sha256": imported(images).digest(images)}


def placed(images: Images, folder: Path) -> Images:
    """The images with the place of the user's file, which lies beside the study file."""
    update: dict[str, object] = {}
    if getattr(images, "file", None):
        update["file"] = str((folder / images.file).absolute())
    if tasks.own(images.task):
        update["task"] = tasks.placed(images.task, folder)
    return images.model_copy(update=update) if update else images


def mistakes(images: Images, folder: Path) -> Mistakes:
    """What is wrong with the images of a study in `folder`, before any of them is read."""
    if isinstance(images, OfFunction):
        given = images.file, images.function, images.arguments, folder
        yield from functions.mistakes("function", *given)
        for key, line in tasks.mistakes(images.task, folder):
            yield f"task.{key}", line
    elif isinstance(images, TorchvisionSet):
        names = _torchvision_names()
        if images.dataset not in names:
            line = f"is no data set of torchvision; {functions.near(images.dataset, names)}"
            yield "dataset", f"= {show(images.dataset)}: {line}"
        if len(set(images.splits)) < len(images.splits):
            yield "splits", f"= {show(images.splits)}: must be two, for training and for test"
        for option in sorted(OWN & images.arguments.keys()):
            value = show(images.arguments[option])
            yield f"options.{option}", f"= {value}: is not allowed: the section itself says it"


# What the reader gives to a class of torchvision by itself.
OWN = {"root", "train", "download", "transform", "target_transform", "transforms"}


def _torchvision_names() -> list[str]:
    """The classes that `torchvision.datasets` offers, without running it."""
    package = Path(importlib.util.find_spec("torchvision").origin).parent
    tree = ast.parse((package / "datasets" / "__init__.py").read_bytes())
    (names,) = (
        n.value for n in tree.body if isinstance(n, ast.Assign) if n.targets[0].id == "__all__"
    )
    return sorted(name for name in ast.literal_eval(names) if name[0].isupper())
