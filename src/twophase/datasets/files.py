"""The files of a folder or of a tar, links followed; a tar is read in place, never extracted.

Both are trees of *places*, paths without links: `names` of what lies in a folder, the place that a
name leads to, what `kind` of place that is, and the `contents` of files.
"""

from __future__ import annotations

import lzma
import os
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twophase.errors import RunError, in_a_line

# What Python's readers raise for a tar that is cut or damaged.
BROKEN = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError, ValueError)


class Folder:
    """A folder on disk."""

    def __init__(self, path: Path) -> None:
        self.root = os.path.realpath(path)

    def names(self, place: str) -> list[str]:
        """The names in a folder."""
        return os.listdir(place)

    def follow(self, place: str, name: str) -> str:
        """Where a name in a folder leads. Raises `OSError` if it is a link that leads nowhere."""
        return os.path.realpath(os.path.join(place, name), strict=True)

    def kind(self, place: str) -> str:
        """`folder`, `file`, or `other`, such as a device."""
        if os.path.isdir(place):
            return "folder"
        return "file" if os.path.isfile(place) else "other"

    def contents(self, places: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Each place with its content. Raises `RunError` if a file cannot be read."""
        for place in places:
            try:
                yield place, Path(place).read_bytes()
            except OSError as error:
                raise RunError(f"{printable(place)}: cannot be read: {error.strerror}") from None


class Tar:
    """A (compressed) tar; of several members with one name the last counts, as in `tar -x`.

    Links are followed within the tar only. Names that begin with `/` or `..` count from its root.
    """

    def __init__(self, path: Path, archive: tarfile.TarFile) -> None:
        self.root, self.path, self.archive = "", path, archive
        self.members: dict[str, tarfile.TarInfo] = {}
        self.folders: dict[str, set[str]] = {"": set()}
        self.ends: dict[str, str] = {}  # where links lead; to "" while one is being followed
        for member in archive:
            name = _plain(member.name)
            self.members[name] = member
            if member.isdir():
                self.folders.setdefault(name, set())
            while name:
                above, below = posixpath.split(name)
                self.folders.setdefault(above, set()).add(below)
                name = above

    def names(self, place: str) -> list[str]:
        """The names in a folder."""
        return list(self.folders[place])

    def follow(self, place: str, name: str) -> str:
        """Where a path from a folder leads. Raises `OSError` if that is not in the tar."""
        found = place
        for part in name.split("/"):
            if part == ".." and not found:
                raise OSError("it leads out of the archive")
            found = _plain(posixpath.join(found, part))
            member = self.members.get(found)
            if member and (member.issym() or member.islnk()):
                found = self._end(found, member)
            elif member is None and found not in self.folders:
                raise OSError("the archive does not hold what it leads to")
        return found

    def _end(self, link: str, member: tarfile.TarInfo) -> str:
        """Where a link leads."""
        if link not in self.ends:
            self.ends[link] = ""
            if member.issym() and posixpath.isabs(member.linkname):
                raise OSError("it leads out of the archive")
            # A symbolic link counts from its own folder, a hard one from the archive's root.
            folder = posixpath.dirname(link) if member.issym() else ""
            self.ends[link] = self.follow(folder, member.linkname.strip("/"))
        if not self.ends[link]:
            raise OSError("it leads back to itself, or to the archive's root")
        return self.ends[link]

    def kind(self, place: str) -> str:
        """`folder`, `file`, or `other`, such as a device."""
        if place in self.folders:
            return "folder"
        return "file" if self.members[place].isfile() else "other"

    def contents(self, places: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Each place with its content, in the order of the tar: it is read once, not searched.

        Raises `RunError` if the tar is damaged.
        """
        with _readable(self.path):
            for place in sorted(places, key=lambda place: self.members[place].offset):
                yield place, self.archive.extractfile(self.members[place]).read()


def _plain(path: str) -> str:
    """A path from the root of a tar, without `.` and `..`."""
    return posixpath.normpath("/" + path.lstrip("/")).lstrip("/")


@contextmanager
def opened(path: Path) -> Iterator[Folder | Tar]:
    """The folder or tar at `path`. Raises `RunError` if there is none, or it is damaged."""
    if path.is_dir():
        yield Folder(path)
        return
    if not path.exists():
        raise RunError(f"{path}: no such file or folder; data.images.path names it")
    if zipfile.is_zipfile(path):
        raise RunError(f"{path}: is a zip; only folders and tars are read: unpack it")
    with _readable(path):
        archive = tarfile.open(path)  # noqa: SIM115
    with archive:
        with _readable(path):
            tree = Tar(path, archive)
        yield tree


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        why = f"cannot be read to its end ({in_a_line(error)}); damaged, or no tar"
        raise RunError(f"{path}: {why}") from None


def printable(name: str) -> str:
    """A file's name on one line: bytes that are not UTF-8, line ends and the like as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
