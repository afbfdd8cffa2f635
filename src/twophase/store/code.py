"""Which code makes a result: modules of this package and files of the user's own, with all that
Python runs when it imports them, as digests.

Comments, docstrings and layout do not count, nor do the rooms in `NEUTRAL_ROOMS`. Of what the
user's own code imports, files count wherever they lie: beside it, on PYTHONPATH, in a package that
is installed as a link. A package installed as a copy counts by its version. Code that cannot be
followed by reading it, such as an import by a computed name, is refused. Data files that code
reads are not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from twophase.errors import StudyError
from twophase.store import surroundings
from twophase.store.paths import digest
from twophase.store.texts import ELSEWHERE, UNSEEN, UNSEEN_BUILTINS, Piece, read, remember, tree

PACKAGE = "twophase"
SOURCE = Path(__file__).parents[1]

# Rooms that say what is asked, carry files, or draw bars, but cannot change a number. What they
# choose (the network's module, the images' reader) is named to `code_digest` by whoever asks. They
# import each other only, or code that counts could hide behind them.
NEUTRAL_ROOMS = {"study", "store", "errors"}
# And bars, and what stands in the `__init__` of these.
NEUTRAL = {"", "figures", "training", "training.progress"}


class Place(NamedTuple):
    """A file of the user's own, and the name of its module if it is imported by that; without one
    it is run as a script is, and its imports look beside it first.
    """

    file: Path
    name: str = ""

    @property
    def folders(self) -> tuple[str, ...]:
        """Where its imports look before Python's own path."""
        return () if self.name else (str(self.file.parent),)


class Module(NamedTuple):
    """A module that Python runs: its full name, its file, and the user's file that it is run for;
    without one it is of this package. What is no module but counts as one has a `value` instead of
    a file: an installed package its version, a variable of the environment its digest.
    """

    name: str
    file: Path
    place: Place | None = None
    value: str = ""


def code_digest(*code: str | Place) -> str:
    """Digest of the code of `twophase.<module>`, for each, and of the user's own files, and of all
    that they import.

    Raises `StudyError` if an import of this package cannot be resolved, or code runs other code
    that reading does not show.
    """
    return digest(_digests(code, named=False))


def digests(*code: str | Place) -> dict[str, str]:
    """The same module by module: 12 hexadecimal digits each, or a package's version."""
    found = _digests(code, named=True)
    return {name: value[:12] if len(value) == 64 else value for name, value in found.items()}


def _digests(code: tuple[str | Place, ...], named: bool) -> dict[str, str]:
    """What each module says, by its name. How the file is called that a study names does not count:
    it has no name here unless `named`.
    """
    places = [each for each in code if isinstance(each, Place)]
    found, modules = {}, {each for each in code if isinstance(each, str)}
    for index, place in enumerate(places):
        for module in followed(place):
            if module.place is None:
                modules.add(_inner(module.name))
            elif module.value:
                found[module.name] = module.value
            else:
                name = module.name if named or module.file != place.file else f"{index}"
                found[name] = read(module.file).says
    return found | _digests_of_package(tuple(sorted(modules)))


@lru_cache
def _digests_of_package(modules: tuple[str, ...]) -> dict[str, str]:
    found = {name: read(_file(name)).says for name in sorted(closure(*modules))}
    remember()
    return found


def closure(*modules: str) -> set[str]:
    """`modules` and all that Python would import for them from this package that counts."""
    start = [Module(_full(name), _file(name)) for name in modules]
    names = (_inner(module.name) for module in _walk(start))
    return {name for name in names if counts(name)}


def followed(place: Place) -> list[Module]:
    """A file of the user's own, and all that Python would run for it, with this package's modules
    that it imports by itself.

    Raises `StudyError` if that cannot be read from its text.
    """
    return _walk([Module(place.name or place.file.stem, place.file, place)])


def imported_files(place: Place) -> dict[str, Path]:
    """The files among them that are no part of this package, by the names of their modules."""
    return {each.name: each.file for each in followed(place) if each.place and not each.value}


def _walk(start: list[Module]) -> list[Module]:
    """`start` and all that is imported from there on. From the user's code on, this package's
    modules are not walked through: their own digests say what they import.
    """
    found: dict[tuple[str, Path], Module] = {}
    queue = list(start)
    of_user = any(module.place for module in start)
    while queue:
        module = queue.pop(0)
        if (module.name, module.file) not in found:
            found[module.name, module.file] = module
            if module.place or not of_user:
                queue += _imports(module)
    return list(found.values())


def imports(module: str) -> tuple[str, ...]:
    """The modules of this package that `twophase.<module>` imports, wherever in its text, and the
    packages that each of them lies in, which Python runs first.

    Raises `StudyError` if that cannot be read from its text.
    """
    return tuple(_inner(each.name) for each in _imports_of_package(module))


@lru_cache
def _imports_of_package(module: str) -> list[Module]:
    return list(_found(Module(_full(module), _file(module))))


def _imports(module: Module) -> list[Module]:
    """What a module imports."""
    if module.value:
        return []
    return list(_found(module)) if module.place else _imports_of_package(_inner(module.name))


def _found(module: Module) -> Iterator[Module]:
    asked: dict[str, int] = {}  # the names of modules, with the line that names them
    for piece in read(module.file).pieces:
        for name in _asked(module, piece):
            asked.setdefault(name, piece.line)
    if module.place:
        for name, value in surroundings.variables(module.file, tree(module.file)).items():
            yield Module(f"${name}", Path(), module.place, value)
    # Python runs the packages that a module lies in first, its own among them.
    own = module.name if not module.place or module.place.name else ""
    asked.setdefault(own.rpartition(".")[0], 1)
    for name, line in asked.items():
        found = [each for each in _resolved(module, name) if each.name != module.name]
        for each in reversed(found):
            _refuse_hidden(module, each, line)
        yield from found


def _asked(module: Module, piece: Piece) -> list[str]:
    """The full names of modules that a piece of a module may import."""
    if piece.kind == "import":
        return [_there(module, piece, name) for name in piece.names]
    for name in piece.names:
        _refuse_unseen(module, piece, name)
        _refuse_elsewhere(module, piece, name)
    if piece.kind == "use":
        return []
    base, names = _there(module, piece, _absolute(module, piece)), piece.names
    if names == ["*"]:  # brings in what `__all__` names, modules among it
        names = _all_of(module, base)
    return [base, *(f"{base}.{name}" for name in names)]


def _absolute(module: Module, piece: Piece) -> str:
    """The full name of the module that `from … import` names."""
    if not piece.dots:
        return piece.of
    inside = module.name.split(".")
    up = piece.dots - (module.file.stem == "__init__")
    if up >= len(inside):
        raise StudyError(
            f"{module.file}:{piece.line}: imports from beyond its package; what lies beside a "
            "file is imported by its name, without a dot"
        )
    return ".".join([*inside[: len(inside) - up], *piece.of.split(".")]).strip(".")


def _there(module: Module, piece: Piece, name: str) -> str:
    """`name`, which must be there if this package imports it from itself."""
    own = f"{name}.".startswith(f"{PACKAGE}.")
    if own and not module.place and not _here(_inner(name)):
        raise StudyError(f"{module.file}:{piece.line}: imports {name}, which is no file here")
    return name


def _resolved(module: Module, name: str) -> list[Module]:
    """The module called `name`, after the packages that it lies in; none if it is not here, or is
    no business of the module that imports it.
    """
    parts = name.split(".")
    names = [".".join(parts[:depth]) for depth in range(1, 1 + len(parts))]
    if parts[0] == PACKAGE:
        inner = [_inner(each) for each in names]
        return [Module(_full(each), file) for each in inner if (file := _here(each))]
    if not module.place or not name:
        return []  # versions of what this package imports stand in the lock, and in `origin`
    place = module.place
    own = place.name.partition(".")[0]  # its code counts even if it is installed as a copy
    version = surroundings.version(parts[0], place.folders) if parts[0] != own else None
    if version is not None:
        return [Module(parts[0], Path(), place, version)] if version else []
    files = surroundings.files(name, place.folders)
    return [Module(each, file, place) for each, file in files.items()]


def _all_of(module: Module, base: str) -> list[str]:
    """The modules in the package `base`."""
    files = [each.file for each in _resolved(module, base) if each.name == base]
    inner = [path for file in files if file.stem == "__init__" for path in file.parent.iterdir()]
    return sorted({path.stem for path in inner} - {"__init__", "__pycache__"})


def _refuse_unseen(module: Module, piece: Piece, name: str) -> None:
    if name in UNSEEN | UNSEEN_BUILTINS and (module.place or counts(_inner(module.name))):
        raise StudyError(
            f"{module.file}:{piece.line}: {name} runs code that a fingerprint cannot follow; "
            "use an import statement"
        )


def _refuse_elsewhere(module: Module, piece: Piece, name: str) -> None:
    if (piece.of, name) in ELSEWHERE and module.place:
        raise StudyError(
            f"{module.file}:{piece.line}: {piece.of}.{name} decides what is imported, which a "
            "fingerprint cannot follow; let the code lie beside this file, or on PYTHONPATH"
        )


def _refuse_hidden(module: Module, imported: Module, line: int) -> None:
    """Refuse code that counts behind a module of this package that does not."""
    if module.place or counts(_inner(module.name)) or not counts(_inner(imported.name)):
        return
    raise StudyError(
        f"{module.file}:{line}: imports {imported.name}, whose code counts for results, into a "
        "module whose code does not; import it where it is used"
    )


def counts(module: str) -> bool:
    """Whether the code of `twophase.<module>` can change a number."""
    return module not in NEUTRAL and module.partition(".")[0] not in NEUTRAL_ROOMS


@cache
def _here(module: str) -> Path | None:
    """The file of `twophase.<module>`, if there is one: asked thousands of times for each study."""
    return file if (file := _file(module)).exists() else None


def exists(module: str) -> bool:
    """Whether `twophase.<module>` is a module."""
    return _file(module).exists()


def _full(module: str) -> str:
    return f"{PACKAGE}.{module}".rstrip(".")


def _inner(name: str) -> str:
    return name.removeprefix(PACKAGE).removeprefix(".")


def _file(module: str) -> Path:
    path = SOURCE.joinpath(*module.split(".")) if module else SOURCE
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
