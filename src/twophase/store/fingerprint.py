"""A digest of the code that makes a result: a module and all that it imports from this package.

Comments, docstrings and layout do not count, nor do the rooms in `NEUTRAL_ROOMS`. Code that
cannot be followed by reading it, such as an import by a computed name, is refused.
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from twophase.errors import StudyError

PACKAGE = "twophase"
SOURCE = Path(__file__).parents[1]

# Rooms that say what is asked, carry files, or draw bars, but cannot change a number. What they
# choose (the network's module, the images' reader) is named to `code_digest` by whoever asks. They
# import each other only, or code that counts could hide behind them.
NEUTRAL_ROOMS = {"study", "store", "errors", "progress", "tables"}
NEUTRAL_FACES = {"", "figures"}  # and what stands in the `__init__` of these
# What imports or runs code that reading does not show.
UNSEEN = {"import_module", "run_module", "run_path", "spec_from_file_location", "__import__"}
UNSEEN_BUILTINS = {"__import__", "compile", "eval", "exec"}


def code_digest(*modules: str) -> str:
    """Digest of the code of `twophase.<module>`, for each, and of all that they import from here.

    Raises `StudyError` if an import of this package cannot be resolved, or code runs other code
    that reading does not show.
    """
    return _digest(tuple(sorted(set(modules))))


@lru_cache
def _digest(modules: tuple[str, ...]) -> str:
    sources = [_normalised(name) for name in sorted(closure(*modules))]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def closure(*modules: str) -> set[str]:
    """`modules` and all that Python would import for them from this package that counts."""
    found: set[str] = set()
    queue = list(modules)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += imports(name)
    return {name for name in found if counts(name)}


@lru_cache
def imports(module: str) -> tuple[str, ...]:
    """The modules of this package that `module` imports, wherever in its text, and the packages
    that each of them lies in, which Python runs first.

    Raises `StudyError` if that cannot be read from its text.
    """
    found: dict[str, int] = {module: 1}  # with the line that imports it
    for node in ast.walk(_tree(module)):
        for name in _imported(module, node):
            found.setdefault(name, node.lineno)
    for name, line in list(found.items()):
        for depth in range(1, 1 + name.count(".")):
            found.setdefault(name.rsplit(".", depth)[0], line)
    del found[module]
    if not counts(module) and (counting := sorted(name for name in found if counts(name))):
        raise StudyError(
            f"{_file(module)}:{found[counting[0]]}: imports {PACKAGE}.{counting[0]}, whose code "
            "counts for results, into a module whose code does not; import it where it is used"
        )
    return tuple(name for name in found if _file(name).exists())


def _imported(module: str, node: ast.AST) -> list[str]:
    """The modules of this package that a piece of `module` imports."""
    if isinstance(node, ast.ImportFrom):
        return _imported_from(module, node)
    if isinstance(node, ast.Import):
        own = [alias.name for alias in node.names if f"{alias.name}.".startswith(f"{PACKAGE}.")]
        return [_resolved(module, node, name.removeprefix(PACKAGE)[1:]) for name in own]
    if isinstance(node, ast.Name):
        _refuse_unseen(module, node, node.id, UNSEEN_BUILTINS)
    elif isinstance(node, ast.Attribute):
        _refuse_unseen(module, node, node.attr, UNSEEN)
    return []


def _imported_from(module: str, node: ast.ImportFrom) -> list[str]:
    """The modules of a statement `from … import …`."""
    for alias in node.names:
        _refuse_unseen(module, node, alias.name, UNSEEN | UNSEEN_BUILTINS)
    if node.level:
        is_package = _file(module).name == "__init__.py"
        parts = module.split(".") if module else []
        up = node.level - is_package
        if up > len(parts):
            raise StudyError(f"{_file(module)}:{node.lineno}: imports from beyond the package")
        base = ".".join([*parts[: len(parts) - up], *(node.module or "").split(".")]).strip(".")
    elif f"{node.module}.".startswith(f"{PACKAGE}."):
        base = node.module.removeprefix(PACKAGE)[1:]
    else:
        return []
    names = [alias.name for alias in node.names]
    if names == ["*"]:  # brings in what `__all__` names, modules among it
        names = [path.stem for path in _file(base).parent.iterdir() if path.stem != "__init__"]
    inner = [f"{base}.{name}".strip(".") for name in names]
    return [_resolved(module, node, base), *(name for name in inner if _file(name).exists())]


def _resolved(module: str, node: ast.stmt, name: str) -> str:
    if not _file(name).exists():
        raise StudyError(
            f"{_file(module)}:{node.lineno}: imports {PACKAGE}.{name}, which is no file here"
        )
    return name


def _refuse_unseen(module: str, node: ast.AST, name: str, unseen: set[str]) -> None:
    if name in unseen and counts(module):
        raise StudyError(
            f"{_file(module)}:{node.lineno}: {name} runs code that a fingerprint cannot follow; "
            "use an import statement"
        )


def counts(module: str) -> bool:
    """Whether the code of a module can change a number."""
    return module not in NEUTRAL_FACES and module.partition(".")[0] not in NEUTRAL_ROOMS


def exists(module: str) -> bool:
    """Whether `twophase.<module>` is a module."""
    return _file(module).exists()


def _file(module: str) -> Path:
    path = SOURCE.joinpath(*module.split(".")) if module else SOURCE
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@lru_cache
def _tree(module: str) -> ast.Module:
    try:
        return ast.parse(_file(module).read_bytes())
    except SyntaxError as error:
        raise StudyError(f"{_file(module)}:{error.lineno}: not Python: {error.msg}") from None


@lru_cache
def _normalised(module: str) -> str:
    return json.dumps(plain(_tree(module)))


def plain(node: Any) -> Any:
    """A syntax tree as JSON values, without docstrings; the same in every version of Python, so
    that results made with one are not stale for another.
    """
    if isinstance(node, list):
        return [plain(each) for each in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    body = fields.get("body")
    if isinstance(body, list) and body and _is_text(body[0]):
        fields["body"] = body[1:]
    if isinstance(node, ast.JoinedStr):  # Python 3.12 ends some with an empty constant
        fields["values"] = [v for v in node.values if getattr(v, "value", None) != ""]
    # Newer versions of Python add fields that are empty in older code.
    return [type(node).__name__, {k: plain(v) for k, v in fields.items() if v not in (None, [])}]


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
