"""Stage `data`: bring a study's images, wherever they come from, into one canonical file."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from twophase import paths, study
from twophase.artifacts import write_tensors
from twophase.errors import RunError
from twophase.progress import progress

ARRANGEMENT = 4  # first number of the counter that orders a folder's images; see data.py
SPLITS = ("train", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
BROKEN = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, OSError)

Tensors = dict[str, torch.Tensor]


def digits(images: study.Digits) -> Tensors:
    """scikit-learn's handwritten digits, pixels 0 to 16, split with equal shares of each class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels = bunch.images.astype(np.uint8)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        pixels,
        bunch.target,
        test_size=images.test_examples,
        stratify=bunch.target,
        random_state=0,
    )
    arrays = {
        "train_images": train_x,
        "train_labels": train_y,
        "test_images": test_x,
        "test_labels": test_y,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def cifar10(images: study.CIFAR10) -> Tensors:
    """CIFAR-10 (Krizhevsky 2009) as torchvision downloads it, in the order of its files.

    Torchvision compares the checksums of archive and files before it opens any of them. Raises
    `RunError` if the archive is neither there nor to be had.
    """
    from torchvision.datasets import CIFAR10

    folder = Path(images.folder)
    archive = folder / CIFAR10.filename
    tensors = {}
    try:
        CIFAR10(folder)
    except RuntimeError:  # not there yet
        try:
            download(CIFAR10.url, archive)
            CIFAR10(folder, download=True)
        except (OSError, RuntimeError, tarfile.TarError) as error:
            raise RunError(
                f"{archive}: cannot be had from {CIFAR10.url} ({error}); run the same command "
                "again to go on with the download, or put that file there by hand, or let "
                "data.images name another source"
            ) from None
    for split in SPLITS:
        part = CIFAR10(folder, train=split == "train")
        tensors[f"{split}_images"] = torch.from_numpy(part.data).permute(0, 3, 1, 2)
        tensors[f"{split}_labels"] = torch.tensor(part.targets)
    return tensors


def download(url: str, file: Path) -> None:
    """Fetch `url` to `file`; goes on with what an earlier download, stopped, has left.

    Raises `OSError` if the connection fails or ends early.
    """
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            start = start if answer.status == 206 else 0
            missing = int(answer.headers["Content-Length"] or 0)
            bar = tqdm.wrapattr(answer, "read", total=missing, desc=file.name)
            with bar as reader, part.open("ab" if start else "wb") as out:
                while chunk := reader.read(1 << 20):
                    out.write(chunk)
    except urllib.error.HTTPError as error:
        if not (error.code == 416 and start):  # asked for what follows the last byte
            raise
        missing = 0
    if part.stat().st_size < start + missing:
        raise OSError(f"the connection ended after {part.stat().st_size:,} bytes")
    part.rename(file)


def folder(images: study.ImageFolder) -> Tensors:
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


SOURCES = {"digits": digits, "cifar10": cifar10, "folder": folder}


def prepare_data(plan: study.Study) -> None:
    """Write the canonical file: `train_images` (n, channels, height, width) as bytes,
    `train_labels` (n,), the same for `test`, and `mean` and `std` (channels,) of the training
    pixels.
    """
    images = plan.data.images
    tensors = SOURCES[images.source](images)
    channels = tensors["train_images"].unbind(1)
    tensors["mean"] = torch.stack([channel.double().mean() for channel in channels]).float()
    tensors["std"] = torch.stack([channel.double().std() for channel in channels]).float()
    write_tensors(paths.data(plan), tensors, {"kind": "data", "source": images.source})
