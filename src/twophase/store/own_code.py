"""What the user's own code says: a file and all that it imports from beside it, as a digest.

Comments, docstrings and layout do not count. Data files that the code reads are not seen.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import NamedTuple

from twophase.errors import StudyError
from twophase.store.fingerprint import PACKAGE, UNSEEN, UNSEEN_BUILTINS, code_digest, exists, plain
from twophase.store.paths import digest


class Place(NamedTuple):
    """A file of code, the folder that its imports count from, and the package there that it belongs
    to; without one, all that lies in the folder is the user's own.
    """

    file: Path
    root: Path
    package: str = ""


def digest_of(*code: str | Place) -> str:
    """Digest of modules of this package, as `code_digest`, and of the user's own code.

    Raises `StudyError` as that does.
    """
    modules = [each for each in code if isinstance(each, str)]
    places = [each for each in code if isinstance(each, Place)]
    if not places:
        return code_digest(*modules)
    texts = []
    for own in places:
        for file in imported_files(own):
            texts.append(json.dumps(plain(_tree(file))))
            modules += _of_this_package(file)
    return digest([code_digest(*modules), texts])


def imported_files(own: Place) -> list[Path]:
    """The file and all that Python would import for it from its package, or from beside it.

    Raises `StudyError` if that cannot be read from its text.
    """
    found: list[Path] = []
    queue = [own.file]
    while queue:
        file = queue.pop(0)
        if file not in found:
            found.append(file)
            for node in ast.walk(_tree(file)):
                queue += _imported(own, file, node)
    return found


def _imported(own: Place, file: Path, node: ast.AST) -> list[Path]:
    """The files that a piece of code imports."""
    if isinstance(node, ast.Import):
        return [path for alias in node.names for path in _paths(own, alias.name)]
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            _refuse(file, node, alias.name, UNSEEN | UNSEEN_BUILTINS)
        base = _absolute(own, file, node)
        names = [alias.name for alias in node.names]
        if names == ["*"]:  # what `__all__` names, modules among it
            names = [path.stem for path in own.root.joinpath(*base.split(".")).glob("*.py")]
        found = _paths(own, base)
        return found + [p for name in names for p in _paths(own, f"{base}.{name}".strip("."))]
    if isinstance(node, ast.Name):
        _refuse(file, node, node.id, UNSEEN_BUILTINS)
    elif isinstance(node, ast.Attribute):
        _refuse(file, node, node.attr, UNSEEN)
    return []


def _absolute(own: Place, file: Path, node: ast.ImportFrom) -> str:
    """The name of the module that `from … import` names."""
    if not node.level:
        return node.module
    inside = list(file.parent.relative_to(own.root).parts)
    up = node.level - 1
    if up > len(inside) - 1:
        raise StudyError(
            f"{file}:{node.lineno}: imports from beyond its package; what lies beside a "
            "file is imported by its name, without a dot"
        )
    return ".".join([*inside[: len(inside) - up], *(node.module or "").split(".")]).strip(".")


def _paths(own: Place, name: str) -> list[Path]:
    """The files that Python runs for a module, its packages among them; none if it is not here."""
    parts = name.split(".")
    if own.package and parts[0] != own.package:
        return []
    found = []
    for depth in range(1, 1 + len(parts)):
        path = own.root.joinpath(*parts[:depth])
        found += [p for p in (path / "__init__.py", path.with_suffix(".py")) if p.is_file()][:1]
    return found


def _of_this_package(file: Path) -> list[str]:
    """The modules of this package that a file imports."""
    found = []
    for node in ast.walk(_tree(file)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [name for name in names if f"{name}.".startswith(f"{PACKAGE}.")]
    modules = [name.removeprefix(PACKAGE)[1:] for name in found]
    return [module for module in modules if module and exists(module)]


def _refuse(file: Path, node: ast.AST, name: str, unseen: set[str]) -> None:
    if name in unseen:
        raise StudyError(
            f"{file}:{node.lineno}: {name} runs code that a fingerprint cannot follow; use an "
            "import statement"
        )


def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise StudyError(f"{file}:{line}: not Python: {getattr(error, 'msg', error)}") from None
