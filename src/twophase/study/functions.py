"""A function in a file of the user's own, such as a network's builder: where it lies, what it
takes, and itself.

Until it is called the file is read and not run: no PyTorch here, as in `networks`.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from twophase.errors import in_a_line
from twophase.store import surroundings
from twophase.store.code import SOURCE, Place
from twophase.study.records import Mistakes, show


def place(file: str | None, function: str) -> Place:
    """Where the code of a function lies. Raises `LookupError` if no such module is installed."""
    if file is not None:
        return Place(Path(file))
    name = function.partition(":")[0]
    package = name.partition(".")[0]
    found = surroundings.files(name)
    if name in found:
        return Place(found[name], name)
    if package in found and found[package].stem != "__init__":
        raise LookupError(f"'{package}' is a module, not a package")
    raise LookupError(f"no module '{name if package in found else package}' is installed")


def imported(file: str | None, function: str) -> Callable:
    """The function itself: its module is run."""
    module, _, name = function.rpartition(":")
    return getattr(importlib.import_module(module) if file is None else _run(Path(file)), name)


def _run(file: Path) -> ModuleType:
    """The module in `file`; it may import what lies beside it, as a script may."""
    text = file.read_bytes()
    # By content: a file that has changed is another module.
    name = f"function_{hashlib.sha256(str(file).encode() + text).hexdigest()[:16]}"
    if name not in sys.modules:
        if (folder := str(file.parent)) not in sys.path:
            sys.path.insert(0, folder)
        sys.dont_write_bytecode = True  # compiled code is taken for current by its date
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, None))
        module.__file__ = str(file)
        sys.modules[name] = module
        try:
            exec(compile(text, str(file), "exec"), vars(module))
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def mistakes(
    role: str,
    file: str | None,
    function: str,
    options: dict,
    folder: Path,
    given: tuple[str, ...] = (),
    count: int = 0,
    filled: tuple[str, ...] = (),
) -> Mistakes:
    """What is wrong with a function and the options that a study in `folder` gives it, beside
    those of `given` that it names, of `filled` that it needs, and the first `count` by their
    places. `role` is the key that names it.
    """
    key, value = (role, function) if file is None else ("file", file)
    if file is None and not re.fullmatch(r"[\w.]+:\w+", function):
        yield (
            role,
            f"= {show(function)}: must be module:function of an installed package, or a function "
            "of a `file` beside the study file",
        )
        return
    if file is not None and not function.isidentifier():
        yield role, f"= {show(function)}: must be the name of a function in file {file}"
        return
    if file is not None and (Path(file).is_absolute() or ".." in Path(file).parts):
        yield "file", f"= {show(file)}: must lie beside the study file, or in a folder there"
        return
    if file is not None and not (folder / file).is_file():
        there = ", ".join(sorted(path.name for path in folder.glob("*.py"))) or "none"
        yield "file", f"= {show(file)}: no such file in {folder}; Python files there: {there}"
        return
    try:
        path = place(file and str(folder / file), function).file
        tree = ast.parse(path.read_bytes())
    except LookupError as error:
        yield key, f"= {show(value)}: {error.args[0]}"
        return
    except (OSError, SyntaxError, ValueError) as error:
        line = f"line {error.lineno}: " if getattr(error, "lineno", None) else ""
        yield key, f"= {show(value)}: {line}not Python: {getattr(error, 'msg', error)}"
        return
    name, where = function.rpartition(":")[2], file or path.name
    functions = {node.name: node for node in tree.body if isinstance(node, _DEFINED)}
    if name in functions:
        yield from _unfit(functions[name], options, where, given, count, filled)
    elif not {name, "*"} & _bound(tree):  # else it comes from elsewhere, and takes what it takes
        names = ", ".join(sorted(each for each in functions if each[0] != "_")) or "none"
        yield role, f"= {show(function)}: is not in {where}; functions there: {names}"


_DEFINED = ast.FunctionDef | ast.ClassDef


def _bound(tree: ast.Module) -> set[str]:
    """The names that imports, definitions and assignments give to things, anywhere in a file; "*"
    for any.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, _DEFINED):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def _unfit(
    function: ast.FunctionDef | ast.ClassDef,
    options: dict,
    where: str,
    given: tuple[str, ...],
    count: int,
    filled: tuple[str, ...],
) -> Mistakes:
    """Options that a function does not take, or that it needs."""
    if function.decorator_list:  # what it is then takes cannot be read
        return
    called = function
    if isinstance(function, ast.ClassDef):
        made = [node for node in function.body if getattr(node, "name", "") == "__init__"]
        if not made:
            return
        called = made[0]
    taken = called.args
    names = [a.arg for a in (*taken.args, *taken.kwonlyargs)][isinstance(function, ast.ClassDef) :]
    places = [a.arg for a in taken.args][isinstance(function, ast.ClassDef) :]
    if len(places) < count and not taken.vararg:
        line = f"'{function.name}' takes {len(places)} by their places, and gets {count}"
        yield "function", f"= {show(function.name)}: {line}"
        return
    given = (*given, *places[:count])
    own = [name for name in names if name not in given]
    for option in options:
        if option in given:
            yield (
                f"options.{option}",
                f"= {show(options[option])}: is given by itself; leave it out",
            )
        elif option not in names and not taken.kwarg:
            allowed = ", ".join(own) or "none"
            line = f"'{function.name}' in {where} takes no such option; it takes: {allowed}"
            yield f"options.{option}", f"= {show(options[option])}: {line}"
    positional = [a.arg for a in taken.args]
    needed = positional[: len(positional) - len(taken.defaults)]
    pairs = zip(taken.kwonlyargs, taken.kw_defaults, strict=True)
    needed += [a.arg for a, default in pairs if default is None]
    for name in needed:
        if name in own and name not in options and name not in filled:
            how = "by their places" if count else "by itself"
            named = f"; given {how} are {', '.join(given)}" * bool(given)
            yield f"options.{name}", f": is missing; '{function.name}' in {where} needs it{named}"


def near(name: str, names: Iterable[str]) -> str:
    """Names that are like `name`, in words."""
    names = list(names)
    like = difflib.get_close_matches(name, names, n=5, cutoff=0.3) or names[:5]
    return f"near are {', '.join(like)}"


def at_its_line(error: Exception) -> str:
    """An error in one line, behind the file and the line of the user's own code that raised it, or
    that called what did.
    """
    places = traceback.extract_tb(error.__traceback__)
    place = next((each for each in reversed(places) if _is_users(each.filename)), places[-1])
    return f"{place.filename}:{place.lineno}: {in_a_line(error)}"


def _is_users(name: str) -> bool:
    file = Path(name)
    return not (name.startswith("<") or file.is_relative_to(SOURCE) or surroundings.of_others(file))
