"""Small pictures, files and folders of them, and how torchvision reads these."""

import io
import os
import struct
import tarfile
import zlib

import numpy as np
import torchvision
from conftest import read_images
from PIL import Image

from twophase.datasets import folder
from twophase.study.datasets import ImageFolder

rng = np.random.default_rng(0)
SIZE = 6


def encoded(pixels, format="png", **options):
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, format, **options)
    return out.getvalue()


def picture(channels=3, size=(SIZE, SIZE)):
    return rng.integers(0, 256, (*size, channels), dtype=np.uint8)


def png16(values):
    """A PNG with 16 bits: values (height, width, 1 or 3)."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    kind = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def plain():
    """Two classes of small RGB images."""
    names = [
        f"{split}/{label}/{k}.png"
        for split in ("train", "test")
        for label in "ab"
        for k in range(3)
    ]
    return {name: encoded(picture()) for name in names}


def write(root, files):
    for name, content in files.items():
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    return root


def tarred(root, file, mode="w"):
    """The folder `root` as `tar -c` packs it, links and all."""
    with tarfile.open(file, mode) as archive:
        archive.add(root, "somewhere")
    return file


def options(path, **changed):
    """The study's section; the digest is that of what is there, as a user would paste it."""
    found = {"source": "folder", "path": str(path), "sha256": 64 * "0", "image_size": SIZE}
    asked = ImageFolder(**(found | changed))
    return asked.model_copy(update={"sha256": folder.digest(asked)})


def read(path, **changed):
    return read_images(options(path, **changed))


def as_torchvision(root, tensors):
    """Whether images and labels are those of torchvision's `ImageFolder`, whatever their order."""
    for split in ("train", "test"):
        theirs = torchvision.datasets.ImageFolder(root / split)
        ours = zip(tensors[f"{split}_images"], tensors[f"{split}_labels"], strict=True)
        found = sorted((image.permute(1, 2, 0).numpy().tobytes(), int(y)) for image, y in ours)
        if found != sorted((np.asarray(image).tobytes(), y) for image, y in theirs):
            return False
    return True
