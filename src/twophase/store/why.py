"""Why a result is another than those that lie there: which option, module or version differs."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from pathlib import Path

from twophase.store.paths import RESULTS, Maker, Result

MOST = 4  # differences that are told one by one
DEFAULT = "its default"  # options at their default are not written


def reason(result: Result, asked: Container[Path] = ()) -> str:
    """In one line, how a result that is not there differs from the one most like it that is, made
    by other options or code; "" if it is there, or none is like it. `asked` are the paths of what
    the study asks for, too: these are other results by right.
    """
    if result.maker is None or result.path.exists():
        return ""
    found = [differences(header, result.maker, result.path) for header in _like(result, asked)]
    return told(min(found, key=len, default=[]))


def told(differences: list[str]) -> str:
    """Differences in one line."""
    more = len(differences) - MOST
    shown = differences if more < 2 else [*differences[:MOST], f"and {more} more"]
    return "; ".join(shown)


def differences(header: dict, maker: Maker, path: Path) -> list[str]:
    """What `maker` makes otherwise than it was for a file of this header, each in a few words;
    `path` is a result of the same study.
    """
    old = header.get("recipe")
    if not old:
        same = header.get("maker", {}).get("options") == maker.options
        return [f"other {'code' if same else 'options'} (the old file does not say which)"]
    known = old.get("behind", {})
    found = _compared(old, maker, path, known)
    return list(dict.fromkeys(found)) or ["other code, of which the old file does not tell"]


def _compared(old: dict, maker: Maker, path: Path, known: dict[str, dict]) -> Iterator[str]:
    new = json.loads(json.dumps(maker.recipe))  # as the file has it
    for part in ("options", "points"):
        yield from _of_options(old.get(part, {}), new.get(part, {}))
    yield from _of_code(old.get("code", {}), new.get("code", {}))
    made = old.get("before", {})
    for name, before in maker.before.items():
        if name not in made:
            yield f"made from {name}, too"
        elif made[name] != before.fingerprint:
            recipe = known.get(name) or _recipe_of(made[name], path)
            if recipe:
                yield from _compared(recipe, before, path, known | recipe.get("behind", {}))
            else:
                yield f"another {name}, of which the old one is gone"


def _of_options(old: dict, new: dict, key: str = "") -> Iterator[str]:
    for name in dict.fromkeys([*new, *old]):
        full = f"{key}.{name}".strip(".")
        one, other = old.get(name, DEFAULT), new.get(name, DEFAULT)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            apart = one.keys().isdisjoint(other) and _sections(one) != _sections(other)
            # One perturbation is none of several by name: nothing of it was a default.
            yield from [f"{full} is another"] if apart else _of_options(one, other, full)
        elif isinstance(one, list) and isinstance(other, list):
            yield f"{full}: {_of_lists(one, other)}"
        elif isinstance(other, dict) and one is DEFAULT:
            yield f"{full} is new"
        elif isinstance(one, dict) and other is DEFAULT:
            yield f"{full} is gone"
        else:
            yield f"{full} = {_short(other)}, was {_short(one)}"


def _sections(options: dict) -> bool:
    return any(isinstance(value, dict) for value in options.values())


def _of_lists(old: list, new: list) -> str:
    more, fewer = [v for v in new if v not in old], [v for v in old if v not in new]
    said = [
        f"{len(values)} {word}, such as {_short(values[0])}"
        for values, word in ((more, "more"), (fewer, "fewer"))
        if values
    ]
    return " and ".join(said) or "in another order"


def _of_code(old: dict, new: dict) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        what = f"variable {name}" if name[0] == "$" else f"code of {name}"
        if one is None or other is None:
            yield f"{what}, which is {'now' if one is None else 'no longer'} used"
        elif one != other and re.fullmatch("[0-9a-f]{12}", other):
            yield what
        elif one != other:
            yield f"{other}, was {one}"


def _short(value: object) -> str:
    text = value if value is DEFAULT else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _like(result: Result, asked: Container[Path]) -> Iterator[dict]:
    """What files say of themselves that are the same result by other options or code; for a part
    whose point no other maker has, what one part of each says.
    """
    mark, path = f"-{result.maker.fingerprint}", str(result.path)
    others = sorted(set(Path().glob(path.replace(mark, "-????????"))))
    if not others and mark in str(result.path.parent):
        folder = next(each for each in result.path.parents if each.name.endswith(mark))
        beside = sorted(folder.parent.glob(folder.name.replace(mark, "-????????")))
        firsts = (next(_files(each), None) for each in beside if each != folder)
        others = [each for each in firsts if each]
    return (header for each in others if each not in asked and (header := _said(each)))


def _recipe_of(fingerprint: str, path: Path) -> dict:
    """The recipe that any result of this fingerprint tells, of the study that `path` is of."""
    if path.parts[0] != RESULTS.name:
        return {}
    study = Path(*path.parts[:2])
    for pattern in (f"*-{fingerprint}*", f"*/seed*/*-{fingerprint}*"):
        for found in sorted(study.glob(pattern)):
            file = next(_files(found), None) if found.is_dir() else found
            if file and (recipe := _said(file).get("recipe")):
                return recipe
    return {}


def _files(folder: Path) -> Iterator[Path]:
    files = (
        path for path in sorted(folder.rglob("*")) if path.suffix in (".parquet", ".safetensors")
    )
    return (path for path in files if path.name[0] != ".")


def _said(file: Path) -> dict:
    from twophase.store.artifacts import said_by  # late: what reads tables starts slowly

    return said_by(file)
