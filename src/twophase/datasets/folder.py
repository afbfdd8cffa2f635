"""Images of a folder or archive, one folder for each class."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from twophase.datasets import ImageFolder
from twophase.errors import RunError
from twophase.progress import progress

ARRANGEMENT = 4  # first number of the counter that orders a folder's images; see batches.py
SPLITS = ("train", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
BROKEN = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, OSError)


def read(images: ImageFolder) -> dict[str, torch.Tensor]:
    """Images of a folder or (compressed) tar, `train/<class>/<file>` and `test/<class>/<file>`.

    Classes are numbered in the order of their names, as torchvision's `ImageFolder` does; images
    are brought into a fixed random order, because losses are measured on the first ones. Archives
    are read in memory, never extracted. Raises `RunError` if anything is not as the study says.
    """
    path = Path(images.path)
    pixels: dict[str, np.ndarray] = {}
    digests: dict[str, str] = {}
    with progress(f"images of {path}", images.train_examples + images.test_examples, "img") as bar:
        for name, content in _files(path):
            if name in pixels:
                raise RunError(f"{path}: holds {name} twice")
            pixels[name] = _decoded(path, name, content, images.image_size)
            digests[name] = hashlib.sha256(content).hexdigest()
            bar.update()

    tensors = {}
    classes = sorted({name.split("/")[1] for name in pixels})
    if len(classes) != images.classes:
        raise RunError(
            f"{path}: holds {len(classes)} classes ({', '.join(classes[:20])}); "
            f"data.images.classes = {images.classes}"
        )
    for split, expected in (("train", images.train_examples), ("test", images.test_examples)):
        names = sorted(name for name in pixels if name.startswith(f"{split}/"))
        if len(names) != expected:
            raise RunError(
                f"{path}: holds {len(names):,} images in {split}/ that can be read; "
                f"data.images.{split}_examples = {expected}: damaged, or another data set"
            )
        order = np.random.default_rng((ARRANGEMENT, expected)).permutation(expected)
        names = [names[index] for index in order]
        tensors[f"{split}_images"] = torch.from_numpy(np.stack([pixels[name] for name in names]))
        labels = [classes.index(name.split("/")[1]) for name in names]
        tensors[f"{split}_labels"] = torch.tensor(labels)
    # What `sha256sum` prints for the files in the order of their names, once more digested.
    listing = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    digest = hashlib.sha256(listing.encode()).hexdigest()
    if digest != images.sha256:
        raise RunError(
            f"{path}: its images have the digest {digest}: damaged, or another data set; "
            f"data.images.sha256 = {images.sha256!r}"
        )
    return tensors


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """`<split>/<class>/<file>` and content of each image of a folder or tar."""
    if not path.exists():
        raise RunError(f"{path}: no such file or folder; data.images.path names it")
    if path.is_dir():
        for file in path.rglob("*"):
            if name := _image_name(file.relative_to(path).as_posix()):
                yield name, file.read_bytes()
        return
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and (name := _image_name(member.name)):
                    yield name, archive.extractfile(member).read()
    except BROKEN as error:
        why = f"{type(error).__name__}: {error}"
        raise RunError(f"{path}: cannot be read to its end ({why}); damaged, or no tar") from None


def _image_name(name: str) -> str | None:
    """The last three parts of an image's path; none if the file is not an image of a split."""
    parts = name.split("/")[-3:]
    is_image = Path(name).suffix.lower() in SUFFIXES
    return "/".join(parts) if is_image and len(parts) == 3 and parts[0] in SPLITS else None


def _decoded(path: Path, name: str, content: bytes, size: int) -> np.ndarray:
    """Pixels (3, size, size) as bytes."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            found = image.size
            if found == (size, size):
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RunError(f"{path}: {name}: cannot be decoded ({error})") from None
    raise RunError(
        f"{path}: {name}: has {found[0]} x {found[1]} pixels; data.images.image_size = {size}"
    )
