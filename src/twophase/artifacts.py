"""Reading and writing results: whole or not at all, and only what was asked for.

Every file carries its identity (what it is, of which study, model, seed, iteration), its origin
(code, packages, kind of machine), the version of its format and a digest of its content. A reader
says what it expects; anything else ends in `ArtifactError` with one line that names the file and
what to do. Files are written under a temporary name and renamed, so that a file with its final
name is complete. No file holds a time or a random order: the same result has the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from twophase.errors import ArtifactError

if TYPE_CHECKING:
    import torch

FORMAT = 1
Identity = dict[str, str | int]

# What makes the results of this process: see `provenance.origin`. The command line fills it in.
ORIGIN: Identity = {}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        # On the disk before it has its name, or a power cut could leave a named, empty file.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], identity: Identity) -> None:
    """Write named tensors as safetensors, on the CPU and contiguous."""
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    header = _header(identity) | {"content": _digest(tensors)}
    # One metadata key: with several, safetensors writes them in a random order.
    content = save(tensors, metadata={"twophase": json.dumps(header, sort_keys=True)})
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: Path, expect: Identity) -> dict[str, torch.Tensor]:
    """Read what `write_tensors` wrote, on the CPU.

    Raises `ArtifactError` if the file is missing or damaged or its identity lacks any item of
    `expect`.
    """
    from safetensors import SafetensorError, safe_open

    _exists(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["twophase"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    _check(path, header, expect)
    if header.get("content") != _digest(tensors):
        raise _damaged(path, "its content is not what was written")
    return tensors


def write_table(path: Path, table: pd.DataFrame, identity: Identity) -> None:
    """Write a tidy table as parquet."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    header = _header(identity)
    arrow = arrow.replace_schema_metadata(
        {**(arrow.schema.metadata or {}), "twophase": json.dumps(header, sort_keys=True)}
    )
    with whole_file(path) as temporary:
        pq.write_table(arrow, temporary, write_page_checksum=True)


def read_table(path: Path, expect: Identity) -> pd.DataFrame:
    """Read what `write_table` wrote; raises as `read_tensors` does."""
    _exists(path)
    try:
        arrow = pq.read_table(path, page_checksum_verification=True)
        header = json.loads(arrow.schema.metadata[b"twophase"])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    _check(path, header, expect)
    return arrow.to_pandas()


def read_header(path: Path) -> dict:
    """Identity and origin of a table or of a file of tensors; raises as their readers do."""
    from safetensors import SafetensorError, safe_open

    _exists(path)
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
        else:
            metadata = {k.decode(): v for k, v in (pq.read_schema(path).metadata or {}).items()}
        header = json.loads(metadata["twophase"])
    except (SafetensorError, pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    _check(path, header, {})
    return header


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _header(identity: Identity) -> dict:
    return {"format": FORMAT, "identity": identity, "origin": ORIGIN}


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _exists(path: Path) -> None:
    if not path.exists():
        raise ArtifactError(f"{path}: is missing; {_again(path)}")


def _check(path: Path, header: dict, expect: Identity) -> None:
    identity = header.get("identity") if isinstance(header, dict) else None
    if not isinstance(identity, dict):
        raise _damaged(path, "it does not say what it is")
    if header.get("format") != FORMAT:
        raise _damaged(path, f"format {header.get('format')}, this version reads {FORMAT}")
    wrong = [
        f"{key} {identity.get(key)!r} instead of {value!r}"
        for key, value in expect.items()
        if identity.get(key) != value
    ]
    if wrong:
        raise ArtifactError(
            f"{path}: is not the file asked for ({', '.join(wrong)}); {_again(path)}"
        )


def _damaged(path: Path, why: str) -> ArtifactError:
    why = " ".join(why.split())[:200]
    return ArtifactError(f"{path}: cannot be used ({why}); {_again(path)}")


def _again(path: Path) -> str:
    """What to do about a bad file: delete it, and the table whose presence says it is there."""
    tables = {
        "base": "training-*.parquet",
        "kernel": "kernel_norm-*.parquet",
        "direction": "perturbation*.parquet",
    }
    folder = path.parent
    for stem, table in tables.items():
        if folder.name.startswith(stem + "-"):
            run = folder.parent.parent if stem == "direction" else folder.parent
            return f"delete it with {run / table} and run the same command again"
    return "delete it and run the same command again"
