"""What the text of a module says: a digest of its code, and what it imports.

It is remembered by the digest of the text, so that of some two hundred modules a process reads
those that have changed: half a second of each command.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import socket
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from twophase.errors import StudyError
from twophase.store import paths
from twophase.store.paths import digest

# What imports or runs code that reading does not show.
UNSEEN = {"import_module", "run_module", "run_path", "spec_from_file_location", "__import__"}
UNSEEN_BUILTINS = {"__import__", "compile", "eval", "exec"}
# What changes where the user's imports look.
ELSEWHERE = {("sys", "path"), ("sys", "meta_path"), ("sys", "path_hooks"), ("site", "addsitedir")}
MEMORY = Path(__file__).parents[1] / "__pycache__/texts.json.gz"  # where Python keeps such things
MANY = 1000  # texts, half a megabyte; of more, only those of one process are kept


class Piece(NamedTuple):
    """A piece of a module that imports, or uses what could."""

    kind: str  # import, from, use
    line: int
    names: list[str]
    of: str = ""  # what the names are taken from
    dots: int = 0  # before it


class Text(NamedTuple):
    """What a text says: the digest of its code, and the pieces that may import."""

    says: str
    pieces: list[Piece]


class Known(NamedTuple):
    """Texts by the digests of their bytes; which of them this process asked for, and read first."""

    texts: dict[str, Text]
    asked: set[str]
    new: set[str]


def read(file: Path) -> Text:
    """What a file says.

    Raises `StudyError` if it is not Python, or cannot be read.
    """
    text = _bytes(file)
    key = hashlib.sha256(text).hexdigest()
    known = _known(MEMORY)
    if key not in known.texts:
        code = _tree(file, text)  # of these bytes: the file may be edited meanwhile
        known.texts[key] = Text(digest(plain(code)), _pieces(code))
        known.new.add(key)
    known.asked.add(key)
    return known.texts[key]


def remember() -> None:
    """Keep what this process read first for those to come, if the folder can be written."""
    known = _known(MEMORY)
    if not known.new:
        return
    known.new.clear()
    kept = known.texts
    if len(kept) > MANY:
        kept = {key: kept[key] for key in known.asked}
    # As results are written, without what these import: that takes as long as this saves.
    temporary = MEMORY.with_suffix(f".{socket.gethostname()}.{os.getpid()}")
    with suppress(OSError):
        MEMORY.parent.mkdir(exist_ok=True)
        temporary.write_bytes(gzip.compress(json.dumps([_reader(), kept]).encode(), mtime=0))
        temporary.replace(MEMORY)


@lru_cache
def _known(memory: Path) -> Known:
    """What earlier processes read, if they did by this code."""
    found = {}
    with suppress(OSError, EOFError, ValueError, TypeError, zlib.error):
        reader, texts = json.loads(gzip.decompress(memory.read_bytes()))
        if reader == _reader():
            for key, (says, pieces) in texts.items():
                found[key] = Text(says, [Piece(*piece) for piece in pieces])
    return Known(found, set(), set())


@lru_cache
def _reader() -> str:
    """The digest of the code that reads, and makes digests."""
    code = [Path(file).read_bytes() for file in (__file__, paths.__file__)]
    return hashlib.sha256(b"".join(code)).hexdigest()


def tree(file: Path) -> ast.Module:
    """A file's syntax.

    Raises `StudyError` if it has none, or cannot be read.
    """
    return _tree(file, _bytes(file))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StudyError(f"{file}:1: not Python: {error.strerror}") from None


def _tree(file: Path, text: bytes) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise StudyError(f"{file}:{line}: not Python: {getattr(error, 'msg', error)}") from None


def _pieces(code: ast.Module) -> list[Piece]:
    found = []
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            found.append(Piece("import", node.lineno, [each.name for each in node.names]))
        elif isinstance(node, ast.ImportFrom):
            names = [each.name for each in node.names]
            found.append(Piece("from", node.lineno, names, node.module or "", node.level))
        elif isinstance(node, ast.Name) and node.id in UNSEEN_BUILTINS:
            found.append(Piece("use", node.lineno, [node.id]))
        elif isinstance(node, ast.Attribute):
            of = getattr(node.value, "id", "")
            if node.attr in UNSEEN or (of, node.attr) in ELSEWHERE:
                found.append(Piece("use", node.lineno, [node.attr], of))
    return found


def plain(node: Any) -> Any:
    """A syntax tree as JSON values, without docstrings; the same in every version of Python, so
    that results made with one are not stale for another.
    """
    if isinstance(node, list):
        return [plain(each) for each in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    # Newer versions of Python add fields that are empty in older code.
    fields = {k: v for k in node._fields if (v := getattr(node, k, None)) not in (None, [])}
    body = fields.get("body")
    if isinstance(body, list) and body and _is_text(body[0]):
        fields["body"] = body[1:]
    if isinstance(node, ast.JoinedStr):  # Python 3.12 ends some with an empty constant
        fields["values"] = [v for v in node.values if getattr(v, "value", None) != ""]
    return [type(node).__name__, {k: plain(v) for k, v in fields.items() if v != []}]


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
