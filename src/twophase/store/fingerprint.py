"""A digest of the code that makes a result: a module and all that it imports from this package.

Comments, docstrings and layout do not count, nor do the modules in `NEUTRAL`. Code that cannot be
followed by reading it, such as an import by a computed name, is refused.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from functools import lru_cache
from pathlib import Path

from twophase.errors import StudyError

PACKAGE = "twophase"
SOURCE = Path(__file__).parents[1]

# Modules that carry options, files and progress bars but cannot change a number. What they choose
# (the network's module, the images' reader) is named to `code_digest` by whoever asks.
NEUTRAL = {
    "",
    "errors",
    "progress",
    "records",
    "study",
    "studyfile",
    "stages",
    "networks",
    "datasets",
    "optimizers",
    "figures",
    "store",
    "store.artifacts",
    "store.fingerprint",
    "store.origin",
    "store.paths",
}
# Calls that import or run code which reading does not show.
UNSEEN = {"import_module", "__import__", "exec", "eval", "run_path", "run_module"}


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
    """`modules` and all that Python would import for them from this package, but for `NEUTRAL`."""
    found: set[str] = set()
    queue = list(modules)
    while queue:
        name = queue.pop()
        if name not in found and name not in NEUTRAL:
            found.add(name)
            queue += imports(name)
    return found


@lru_cache
def imports(module: str) -> tuple[str, ...]:
    """The modules of this package that `module` imports, wherever in its text, and the packages
    that each of them lies in, which Python runs first.
    """
    found = [module]
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom):
            found += _imported_from(module, node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.name + ".").startswith(f"{PACKAGE}."):
                    found.append(_resolved(module, node, alias.name.removeprefix(PACKAGE)[1:]))
        elif isinstance(node, ast.Call) and module not in NEUTRAL:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            # `model.eval()` is another matter: these are called with what they run.
            if name in UNSEEN and node.args:
                raise StudyError(
                    f"{_file(module)}:{node.lineno}: {name}(...) runs code that a fingerprint "
                    "cannot follow; use an import statement"
                )
    parents = [
        name.rsplit(".", depth)[0] for name in found for depth in range(1, 1 + name.count("."))
    ]
    return tuple(name for name in dict.fromkeys([*found, *parents]) if name != module)


def _imported_from(module: str, node: ast.ImportFrom) -> list[str]:
    """The modules of a statement `from … import …`."""
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
    found = [_resolved(module, node, base)]
    for alias in node.names:
        name = f"{base}.{alias.name}".strip(".")
        if alias.name != "*" and _file(name).exists():
            found.append(name)
    return found


def _resolved(module: str, node: ast.stmt, name: str) -> str:
    if not _file(name).exists():
        raise StudyError(
            f"{_file(module)}:{node.lineno}: imports {PACKAGE}.{name}, which is no file here"
        )
    return name


def _file(module: str) -> Path:
    path = SOURCE.joinpath(*module.split(".")) if module else SOURCE
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@lru_cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text())


@lru_cache
def _normalised(module: str) -> str:
    tree = copy.deepcopy(_tree(module))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            first = body[0].value
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                del body[0]
                if not body and node is not tree:
                    body.append(ast.Pass())
    return ast.unparse(tree)
