"""What surrounds the user's own code: where Python finds what it imports, which packages are
installed, and the variables of the environment that it reads.

Nothing is imported to find that out.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

from twophase.errors import StudyError
from twophase.store.origin import PACKAGES, WITHOUT_EFFECT
from twophase.store.paths import digest

SUFFIXES = [*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES]  # as Python looks for them
READS = {"environ", "getenv", "environb", "getenvb"}


def files(name: str, folders: Sequence[str] = ()) -> dict[str, Path]:
    """The files that Python runs to import the module `name`, those of its packages first, by their
    names; none where it finds none, or Python brings it along. It looks in `folders` first.
    """
    found, (top, *inner) = {}, name.split(".")
    file, within = _top(top, folders)
    full = top
    if file:
        found[full] = file
    for part in inner:
        full += f".{part}"
        file, within = _in(within, part)
        if file:
            found[full] = file
    return {} if any(_is_pythons(file) for file in found.values()) else found


def version(top: str, folders: Sequence[str] = ()) -> str | None:
    """The version of the installed package that brings the module `top`, "" if it stands in each
    result's `origin`. None if no package brings it, or one whose files count instead: a link to a
    folder, or what was installed from one, which changes under one version.
    """
    file, within = _top(top, folders)
    places = [file] if file else within
    if not places or not all(any(p.is_relative_to(s) for s in _sites()) for p in places):
        return None
    names = _distributions(top)
    if not names or any("dir_info" in _said(name) for name in names):
        return None
    if top in set(PACKAGES) - WITHOUT_EFFECT:
        return ""
    commits = [_said(name).get("vcs_info", {}).get("commit_id", "") for name in names]
    pairs = zip(names, commits, strict=True)
    return ", ".join(f"{name} {metadata.version(name)} {commit}".strip() for name, commit in pairs)


def variables(file: Path, tree: ast.Module) -> dict[str, str]:
    """The variables of the environment that code reads, with digests of what they say.

    Raises `StudyError` if it reads others than those it names.
    """
    found, read = {}, set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=of, attr="get"), args=[ast.Constant(name), *_]):
                pass
            case ast.Call(func=of, args=[ast.Constant(name), *_]) if _reads(of) == "getenv":
                pass
            case ast.Subscript(value=of, slice=ast.Constant(name)):
                pass
            case ast.Compare(left=ast.Constant(name), comparators=[of]):
                pass
            case _:
                continue
        if _reads(of) in ("environ", "getenv"):
            read.add(id(of))
            if not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
                found[str(name)] = digest(os.environ.get(str(name)))
    for node in ast.walk(tree):
        renamed = isinstance(node, ast.alias) and node.name in READS and node.asname
        if renamed or (_reads(node) and id(node) not in read):
            raise StudyError(
                f"{file}:{node.lineno}: what is read from the environment cannot be followed; name "
                "the variable here, as in os.environ['NAME'], or make it an option"
            )
    return found


def _reads(node: ast.AST) -> str:
    """Which of `READS` a piece of code is."""
    name = getattr(node, "attr", "") or (node.id if isinstance(node, ast.Name) else "")
    return name if name in READS else ""


def _top(top: str, folders: Sequence[str]) -> tuple[Path | None, list[Path]]:
    """As `_in`, for a name without a dot."""
    # As for `python -m twophase`, which looks in its folder, too.
    path = [*folders, os.getcwd(), *sys.path]
    file, within = _in([Path(each) for each in path if each], top)
    if file or within or top in sys.builtin_module_names:
        return file, within
    try:  # packages that are linked by a finder of their own, and zip files
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None, []
    if spec is None:
        return None, []
    inside = [Path(each) for each in spec.submodule_search_locations or ()]
    return (Path(spec.origin) if spec.has_location else None), inside


def _in(folders: list[Path], name: str) -> tuple[Path | None, list[Path]]:
    """The file that Python runs for the module `name` in one of `folders`, and where it looks for
    what lies in it. A folder without `__init__.py` has no file.
    """
    spaces = []
    for folder in folders:
        for stem, within in ((folder / name / "__init__", [folder / name]), (folder / name, [])):
            for suffix in SUFFIXES:
                if (file := stem.with_name(stem.name + suffix)).is_file():
                    return file, within
        if (folder / name).is_dir():
            spaces.append(folder / name)
    return None, spaces


def of_others(file: Path) -> bool:
    """Whether a file is of Python's own library, or of an installed package."""
    return _is_pythons(file) or any(file.is_relative_to(folder) for folder in _sites())


def _is_pythons(file: Path) -> bool:
    """Whether a file is of Python's own library, whose version stands in `origin`."""
    own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    within = any(file.is_relative_to(folder) for folder in own)
    return within and not any(file.is_relative_to(folder) for folder in _sites())


@lru_cache
def _sites() -> tuple[str, ...]:
    """The folders that packages are installed in."""
    found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return tuple({*found, *site.getsitepackages(), site.getusersitepackages()})


@lru_cache
def _distributions(top: str) -> list[str]:
    """The installed packages that bring the module `top`."""
    try:  # first by its own name, since to read what all packages bring takes most of a second
        named = metadata.distribution(top)
        if any(each.parts[0] in (top, f"{top}.py") for each in named.files or ()):
            return [named.metadata["Name"]]
    except metadata.PackageNotFoundError:
        pass
    return sorted(set(_brought().get(top, [])))


@lru_cache
def _brought() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@lru_cache
def _said(package: str) -> dict:
    """What a package says of where it was installed from, if not from an index."""
    return json.loads(metadata.distribution(package).read_text("direct_url.json") or "{}")
