"""CIFAR-10, from its own files or downloaded."""

from __future__ import annotations

import tarfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

import torch
from tqdm import tqdm

from twophase.errors import RunError
from twophase.study.datasets import CIFAR10


def read(images: CIFAR10) -> dict[str, torch.Tensor]:
    """CIFAR-10 (Krizhevsky 2009) as torchvision downloads it, in the order of its files.

    Torchvision compares the checksums of archive and files before it opens any of them. Raises
    `RunError` if the archive is not there and cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10 as Files

    folder = Path(images.folder)
    archive = folder / Files.filename
    tensors = {}
    try:
        Files(folder)
    except RuntimeError:  # not there yet
        try:
            download(Files.url, archive)
            Files(folder, download=True)
        except (OSError, RuntimeError, HTTPException, tarfile.TarError) as error:
            why = " ".join(f"{error or type(error).__name__}".split())[:200]
            raise RunError(
                f"{archive}: cannot be downloaded from {Files.url} ({why}); run the same command "
                "again to continue the download, or put that file there by hand, or let "
                "data.images name another source"
            ) from None
    for split in ("train", "test"):
        part = Files(folder, train=split == "train")
        tensors[f"{split}_images"] = torch.from_numpy(part.data).permute(0, 3, 1, 2)
        tensors[f"{split}_labels"] = torch.tensor(part.targets)
    return tensors


def download(url: str, file: Path) -> None:
    """Fetch `url` to `file`; continues what an earlier download, stopped, has left.

    Raises `OSError` or `HTTPException` if the connection fails or ends early.
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
