"""Reading and writing results: whole or not at all, and only what was asked for.

Every file carries its path under results/, its identity (what it is, of which study, model, seed,
iteration), its maker (digests of options and code) and that maker's recipe (the same, to be read),
its origin (packages, kind of machine), the version of its format, and a digest of all its bytes.
A reader says which result it expects;
anything else ends in `ArtifactError` with one line that names the file and what to do. Files are
written under a temporary name and renamed, so that a file with its final name is complete. No
file holds a time or a random order: the same result has the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from twophase.errors import ArtifactError, RunError
from twophase.store.origin import ORIGIN, WITHOUT_EFFECT
from twophase.store.paths import FORMAT, RESULTS, Identity, Result

if TYPE_CHECKING:
    import torch

Shapes = Mapping[str, Sequence[int]]

AGAIN = "delete it and run the same command again"

# The digest of a file stands in the file itself; it is that of the file with this in its place.
SEAL = b"sha256-" + 64 * b"0"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` if the block ends well.

    Raises `RunError` if the file cannot be written, for example because the disk is full.
    """
    # Two machines that share a disk may use the same process id at once.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # On the disk before it has its name, or a power cut could leave a named, empty file.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_tensors(result: Result, tensors: dict[str, torch.Tensor], **said: dict) -> None:
    """Write named tensors as safetensors, on the CPU and contiguous.

    `said` is what the file says of itself beside, or in place of, what is true of this process.
    """
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    # One metadata key: with several, safetensors writes them in a random order.
    content = save(tensors, metadata={"twophase": _header(result, said)})
    _write_sealed(result.path, content)


def read_tensors(result: Result, shapes: Shapes | None = None) -> dict[str, torch.Tensor]:
    """Read what `write_tensors` wrote, on the CPU; `shapes`, if known, are those of all tensors by
    name, -1 where any size will do.

    Raises `ArtifactError` if the file is missing or damaged, if it was written as another file
    under results/, if its identity lacks any item of the result's, or if tensors or shapes differ.
    """
    from safetensors.torch import load

    path, content = result.path, _read_sealed(result.path, result.command)
    _check(result, _tensors_header(path, content))
    tensors = load(content)
    if shapes is not None:
        if tensors.keys() != shapes.keys():
            odd = sorted(tensors.keys() ^ shapes.keys())[0]
            raise _damaged(path, f"{odd} is missing, or should be")
        for name, wanted in shapes.items():
            found = tensors[name].shape
            if len(found) != len(wanted) or any(
                w not in (f, -1) for f, w in zip(found, wanted, strict=True)
            ):
                raise _damaged(path, f"{name} is {tuple(found)} instead of {tuple(wanted)}")
    return tensors


def write_table(result: Result, table: pd.DataFrame, **said: dict) -> None:
    """Write a tidy table as parquet; `said` as in `write_tensors`."""
    if result.read_as:
        table = table.assign(model=result.identity["model"])  # whichever model comes first
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    out = pa.BufferOutputStream()
    with pq.ParquetWriter(out, arrow.schema) as writer:
        writer.write_table(arrow)
        # Not as metadata of the schema, of which Parquet keeps a second copy.
        writer.add_key_value_metadata({"twophase": _header(result, said)})
    _write_sealed(result.path, out.getvalue().to_pybytes())


def read_table(result: Result, root: Path = Path()) -> pd.DataFrame:
    """Read what `write_table` wrote in the folder `root`; raises as `read_tensors` does."""
    path = root / result.path
    content = _read_sealed(path, result.command)
    _check(result, _table_header(path, content))
    table = pq.ParquetFile(pa.BufferReader(content)).read().to_pandas()
    return table.assign(model=result.read_as) if result.read_as else table


def read_header(path: Path) -> dict:
    """All that a table or file of tensors says of itself; raises as their readers do."""
    content = _read_sealed(path)
    of = _table_header if path.suffix == ".parquet" else _tensors_header
    header = of(path, content)
    _check(Result(path, {}), header)
    return header


def said_by(path: Path) -> dict:
    """The same of a file whose bytes are not checked, however large it is; nothing of one that
    cannot be read.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".parquet":
                found = json.loads(pq.read_metadata(file).metadata[b"twophase"])
            else:
                first = file.read(8)
                length = min(int.from_bytes(first, "little"), path.stat().st_size)
                found = _tensors_header(path, first + file.read(length))
    except (OSError, ArtifactError, pa.ArrowInvalid, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def check_origin(path: Path, origin: Identity, whose: str) -> None:
    """Refuse a state that other packages or another kind of machine made than `origin`.

    Raises `RunError`, which calls the owner of `origin` `whose`.
    """
    # Older results do not say which vector instructions their processor had.
    made = {"vector_instructions": origin.get("vector_instructions")} | read_header(path)["origin"]
    for key in sorted((made.keys() | origin.keys()) - WITHOUT_EFFECT):
        if made.get(key) != origin.get(key):
            raise RunError(
                f"{path}: was made with {key} {made.get(key)!r}, {whose} with "
                f"{origin.get(key)!r}: what differs may not come from the perturbation; use one "
                f"{key} for both, after deleting the folder and the table made with another"
            )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _header(result: Result, said: dict) -> str:
    maker = result.maker
    header = {
        "format": FORMAT,
        "path": result.path.as_posix(),
        "identity": result.identity,
        "maker": {key: getattr(maker, key) for key in ("options", "code")} if maker else {},
        "recipe": maker.recipe if maker else {},
        "origin": ORIGIN,
        **said,
        "seal": SEAL.decode(),
    }
    return json.dumps(header, sort_keys=True)


def _tensors_header(path: Path, content: bytes) -> dict:
    # A safetensors file: the length of its header in 8 bytes, the header as JSON, the tensors.
    length = int.from_bytes(content[:8], "little")
    try:
        return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["twophase"])
    except (ValueError, KeyError):
        raise _damaged(path, "it holds no tensors") from None


def _table_header(path: Path, content: bytes) -> dict:
    try:
        return json.loads(pq.read_metadata(pa.BufferReader(content)).metadata[b"twophase"])
    except (pa.ArrowInvalid, ValueError, KeyError, TypeError):
        raise _damaged(path, "it holds no table") from None


def _write_sealed(path: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest().encode()
    with whole_file(path) as temporary:
        temporary.write_bytes(content.replace(SEAL, SEAL[:7] + digest))


def _read_sealed(path: Path, command: str = "") -> bytes:
    if not path.exists():
        study = f" workflow/config/{path.parts[1]}.yaml" if path.parts[0] == RESULTS.name else ""
        how = f"; `twophase {command}{study}` makes it, as does Snakemake when it is run again"
        raise ArtifactError(f"{path}: is missing{how if command else ''}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path, error.strerror) from None
    seals = re.findall(rb"sha256-[0-9a-f]{64}", content)
    if len(seals) != 1:
        raise _damaged(path, "it is cut, or no result of this program")
    if hashlib.sha256(content.replace(seals[0], SEAL)).hexdigest().encode() != seals[0][7:]:
        raise _damaged(path, "its bytes are not those that were written")
    return content


def _check(result: Result, header: dict) -> None:
    path = result.path
    if header["format"] != FORMAT:
        raise _damaged(path, f"format {header['format']}, this version reads {FORMAT}")
    # Results know their place; published copies of them, and those of tests, lie elsewhere.
    found, wanted = header["identity"], dict(result.identity)
    if path.parts[0] == RESULTS.name:
        found, wanted = {**found, "path": header["path"]}, {**wanted, "path": path.as_posix()}
    wrong = [
        f"{key} {found.get(key)!r} instead of {value!r}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    if wrong:
        raise ArtifactError(f"{path}: is not the file asked for ({', '.join(wrong)}); {AGAIN}")


def _damaged(path: Path, why: str) -> ArtifactError:
    why = " ".join(why.split())[:200]
    return ArtifactError(f"{path}: cannot be used ({why}); {AGAIN}")
