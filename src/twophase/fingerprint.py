"""What a result is made by, as eight hexadecimal digits that stand in its path.

A fingerprint is a digest of a stage's options, of the code that computes the stage, and of the
fingerprints of the stages before it. A result made by other options or other code therefore has
another path: it is never served by mistake, and it is still there when the option is put back.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from twophase.artifacts import FORMAT

SOURCE = Path(__file__).parent

# Modules that carry options, files and progress bars but cannot change a number.
NEUTRAL = {"artifacts", "errors", "fingerprint", "paths", "progress", "study"}


def fingerprint(module: str, *made_by: Any) -> str:
    """Digest of `made_by` (JSON values), of the code of `twophase.<module>` and of the version of
    the files' format.
    """
    text = json.dumps([made_by, code_digest(module), FORMAT], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@lru_cache
def code_digest(module: str) -> str:
    """Digest of the code of `twophase.<module>` and of all it imports from this package.

    Comments, docstrings and layout do not count, nor do the modules in `NEUTRAL`.
    """
    sources = [_normalised(name) for name in sorted(_closure(module))]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def _file(module: str) -> Path:
    path = SOURCE.joinpath(*module.split("."))
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
                body[0].value = ast.Constant("")
    return ast.unparse(tree)


def _closure(module: str) -> set[str]:
    found: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += _imports(name)
    return found


def _imports(module: str) -> list[str]:
    """The modules of this package that `module` imports, wherever in its text, and the package
    that it lies in, which Python runs first.
    """
    found = [module.rpartition(".")[0]]
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("twophase"):
            inner = node.module.removeprefix("twophase").removeprefix(".")
            for alias in node.names:
                name = f"{inner}.{alias.name}".strip(".")
                found.append(name if _file(name).exists() else inner)
        elif isinstance(node, ast.Import):
            found += [a.name[9:] for a in node.names if a.name.startswith("twophase.")]
    return [name for name in found if name and name not in NEUTRAL]
