"""Images of a folder or archive, one folder for each class."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from twophase.datasets.arrays import SPLITS, arrangement, note_twins
from twophase.datasets.files import Folder, Tar, opened, printable
from twophase.datasets.pictures import Refused, fitted, in_mode
from twophase.errors import RunError, in_a_line
from twophase.study.datasets import ImageFolder
from twophase.training.progress import progress

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}


def read(images: ImageFolder) -> dict[str, torch.Tensor]:
    """Images of a folder or (compressed) tar, `train/<class>/<file>` and `test/<class>/<file>`.

    Which files are images, what their classes are, and how they become RGB is as in torchvision's
    `ImageFolder`; but names that begin with a dot and `__MACOSX` are passed over, and of pixels of
    16 bits the upper eight are taken; of several frames in a file the first, with a note. Images
    are brought into a fixed random order, because losses are measured on the first ones. Raises
    `RunError` if anything is not as the study says.
    """
    path, size = _path(images), images.image_size
    with opened(path) as tree:
        places = _images(path, tree)
        classes = _classes(path, images, places)
        at, tensors = {}, {}
        for split in SPLITS:
            names = _in_order(name for name in places if name.startswith(f"{split}/"))
            names = [names[index] for index in arrangement(len(names))]
            labels = [classes.index(name.split("/")[1]) for name in names]
            tensors[f"{split}_labels"] = torch.tensor(labels)
            pixels = torch.empty(len(names), 3, size, size, dtype=torch.uint8)
            tensors[f"{split}_images"] = pixels
            at |= {name: pixels[index] for index, name in enumerate(names)}
        digests, deep, frames = {}, {}, {}
        with progress(f"images of {path}", len(places), "img") as bar:
            for name, content in _contents(tree, places):
                try:
                    image, brightest = _decoded(content)
                    at[name].copy_(torch.from_numpy(fitted(image, images)))
                except Refused as error:
                    raise RunError(f"{path}: {printable(name)}: {error}") from None
                digests[name] = hashlib.sha256(content).hexdigest()
                if brightest is not None:
                    deep[name] = brightest
                frames[name] = _frames(content)
                bar.update()
    if (found := _digest(digests)) != images.sha256:
        raise RunError(
            f"{path}: its images have the digest {found}: damaged, or another data set; "
            f"data.images.sha256 = {images.sha256!r}; if you changed them, give the new digest"
        )
    if deep and max(deep.values()) < 128:
        name = max(deep, key=deep.get)
        raise RunError(
            f"{path}: {printable(name)}: its pixels have 16 bits, and no such image here uses more "
            f"than {(max(deep.values()) + 1) / 256:.1%} of their range: their upper eight bits "
            "would not say much; scale all to the full range first, or save them with 8 bits"
        )
    _note_frames(path, frames)
    note_twins(tensors, str(path))
    return tensors


def digest(images: ImageFolder) -> str:
    """The `sha256` that the study file should say, if these are the right images.

    It is the digest of what `sha256sum` prints for them, in the order of their names. Raises
    `RunError` if folders or files are not as the study says otherwise.
    """
    path = _path(images)
    with opened(path) as tree:
        places = _images(path, tree)
        _classes(path, images, places)
        contents = _contents(tree, places)
        return _digest({name: hashlib.sha256(content).hexdigest() for name, content in contents})


def _path(images: ImageFolder) -> Path:
    return Path(images.path).expanduser()


def _images(path: Path, tree: Folder | Tar) -> dict[str, str]:
    """The places of all images, by name: `<split>/<class>/<file>`, or deeper below the class.

    Raises `RunError` if a link leads nowhere, or if two images have one name.
    """
    found: dict[str, str] = {}
    others = []
    for parts, place in _walk(path, tree, tree.root, (), ()):
        split = _split(parts)
        if split is None:
            continue
        name = "/".join(parts[split:])
        if Path(name).suffix.lower() not in SUFFIXES:
            others.append(name)
        elif found.get(name, place) != place:
            raise RunError(f"{path}: holds {printable(name)} twice, below two folders")
        else:
            found[name] = place
    classes = {"/".join(name.split("/")[:2]) for name in found}
    for other in others:
        if "/".join(other.split("/")[:2]) not in classes:
            raise RunError(
                f"{path}: {printable(other)}: is no image, nor is any file of its class in this "
                f"split; names of images end in {', '.join(sorted(SUFFIXES))}"
            )
    if others:
        print(
            f"{path}: {len(others):,} files are no images by their names and passed over, such as "
            f"{printable(others[0])}",
            file=sys.stderr,
        )
    return found


def _walk(
    path: Path, tree: Folder | Tar, place: str, parts: tuple[str, ...], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """The parts of the path of each file, and its place. `above` are the places on the way."""
    for name in _in_order(tree.names(place)):
        if name.startswith(".") or name == "__MACOSX":
            continue
        below = (*parts, name)
        try:
            found = tree.follow(place, name)
            if found in (*above, place):
                raise OSError("it leads to a folder that it lies in")
        except OSError as error:
            if not {*SPLITS} & {*below}:
                continue
            why = f"cannot be followed ({error.strerror or error})"
            raise RunError(f"{path}: {printable('/'.join(below))}: {why}") from None
        kind = tree.kind(found)
        if kind == "folder":
            yield from _walk(path, tree, found, below, (*above, place))
        elif kind == "file":
            yield below, found


def _split(parts: tuple[str, ...]) -> int | None:
    """Where in a path the split stands: the last such name that a class and a file follow."""
    return next((k for k in range(len(parts) - 3, -1, -1) if parts[k] in SPLITS), None)


def _classes(path: Path, images: ImageFolder, places: dict[str, str]) -> list[str]:
    """The classes, in the order of their names. Raises `RunError` if their number, that of images
    or a split is not as it should be.
    """
    count = {split: sum(name.startswith(f"{split}/") for name in places) for split in SPLITS}
    examples = {split: {} for split in SPLITS}
    for name in places:
        split, label = name.split("/")[:2]
        examples[split].setdefault(label, name)
    classes = _in_order(examples["train"].keys() | examples["test"].keys())
    if images.classes not in (None, len(classes)):
        listed = printable(", ".join(classes[:20]))
        raise RunError(
            f"{path}: holds {len(classes)} classes ({listed}); "
            f"data.images.classes = {images.classes}"
        )
    for split in SPLITS:
        asked = getattr(images, f"{split}_examples")
        if asked not in (None, count[split]) or not count[split]:
            raise RunError(
                f"{path}: holds {count[split]:,} images in {split}/<class>/; "
                f"data.images.{split}_examples = {asked or 'all'}: damaged, or another data set"
            )
    for label in classes:
        if label not in examples["train"]:
            raise RunError(
                f"{path}: {printable(examples['test'][label])}: no image in train/ is of this class"
            )
    if len(classes) < 2:
        raise RunError(f"{path}: holds one class, {printable(classes[0])}; two are the least")
    return classes


def _in_order(names: Iterator[str]) -> list[str]:
    """Names in the order of their bytes; they may be no UTF-8."""
    return sorted(names, key=_bytes)


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def _contents(tree: Folder | Tar, places: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Each image's name and content; one that several links lead to is read once."""
    names: dict[str, list[str]] = {}
    for name, place in places.items():
        names.setdefault(place, []).append(name)
    for place, content in tree.contents(names):
        for name in names[place]:
            yield name, content


def _digest(digests: dict[str, str]) -> str:
    """The digest of what `sha256sum` prints for files in the order of their names."""
    lines = [f"{digests[name]}  ".encode() + _bytes(name) + b"\n" for name in _in_order(digests)]
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _decoded(content: bytes) -> tuple[Image.Image, int | None]:
    """The image in RGB, and its largest value if its pixels have 16 bits."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            # BMP's 16 bits are three colours.
            deep = image.format != "BMP" and ";16" in f"{image.mode} {image.tile}"
            if image.mode == "I" and image.format in ("PNG", "PPM") or image.mode.startswith("I;"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image = in_mode(image, "RGB")
    except Refused:
        raise
    except Exception as error:  # a reader of damaged images may raise nearly anything
        raise Refused(f"cannot be decoded ({in_a_line(error)})") from None
    return image, max(high for _, high in image.getextrema()) if deep else None


def _frames(content: bytes) -> int:
    """How many pictures a file holds: frames of an animation, pages of a TIFF."""
    with suppress(Exception), Image.open(io.BytesIO(content)) as image:
        return getattr(image, "n_frames", 1)
    return 1  # the first could be decoded, what follows is damaged


def _note_frames(path: Path, frames: dict[str, int]) -> None:
    """Say of how many files only a part is used."""
    if several := [name for name, count in frames.items() if count > 1]:
        name = several[0]
        print(
            f"{path}: {len(several):,} of {len(frames):,} files hold several pictures, of which "
            f"the first is taken, such as {printable(name)} with {frames[name]}; save the others "
            "as files of their own if they count",
            file=sys.stderr,
        )
