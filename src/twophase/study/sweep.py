"""The section `sweep` of a study file: models with each of some values of their options."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twophase.errors import StudyError
from twophase.study.records import show

MOST = 1000  # combinations of values, so that a slip of the keyboard does not ask for millions


def spelled_out(
    path: Path, raw: dict, merged: dict, sections: tuple[str, ...], whole: tuple[str, ...]
) -> dict:
    """The study as if its file had spelt the sweep out: in place of each model, one for each
    combination of values, named after both. `sweep` then says of each which model and values it is
    of.

    `merged` is the same study with its shared sections written into each model, `sections` what a
    model may have, and `whole` those whose own takes the place of the shared one. Raises
    `StudyError` with a line for each mistake.
    """
    sweep, models = raw["sweep"], raw.get("models")
    if not isinstance(models, dict) or not all(isinstance(own, dict) for own in models.values()):
        return {key: value for key, value in raw.items() if key != "sweep"}  # told as they are read
    if mistakes := list(_mistakes(sweep, models, merged["models"], sections)):
        raise StudyError("\n".join(f"{path}: sweep{line}" for line in mistakes))
    said = _names(list(sweep))
    spelled: dict[str, dict] = {}
    of: dict[str, dict] = {}
    for model, own in models.items():
        for values in itertools.product(*sweep.values()):
            chosen = dict(zip(sweep, values, strict=True))
            ends = "-".join(f"{said[key]}-{label(value)}" for key, value in chosen.items())
            name = f"{model}-" + re.sub(r"[^\w.-]", "_", ends, flags=re.ASCII)
            if name in spelled:
                raise StudyError(f"{path}: sweep: two of its models would be called {name!r}")
            spelled[name] = _with(own, merged["models"][model], chosen, whole)
            of[name] = {"of": str(model), "values": chosen}
    return raw | {"models": spelled, "sweep": of}


def label(value: Any) -> str:
    """A value in a name: 1e-3 and 0.001 are one number, a list is its values with `_` between."""
    if isinstance(value, list):
        return "_".join(map(label, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return str(value)
    return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else repr(number)


def place(sweep: dict, model: str, option: str) -> str | None:
    """The key of the file that gives an option of a swept model, if that is the sweep's."""
    for key in sweep[model]["values"]:
        if f"{option}.".startswith(f"{key}."):
            return f"sweep.{option}"
        if "." in option and key.startswith(f"{option}."):
            return f"sweep.{key}"
    return None


def _mistakes(sweep: Any, models: dict, merged: dict, sections: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(sweep, dict) or not sweep:
        yield f" = {show(sweep)}: must be keys with lists of values, such as training.lr: [0.1, 1]"
        return
    combinations = 1
    for key, values in sweep.items():
        section, *option = str(key).split(".")
        if section not in sections or not all(option) or not option:
            odd = not re.fullmatch(r"[\w.-]+", str(key), re.ASCII)
            such = f"must be an option of a model, such as training.lr, of {', '.join(sections)}"
            yield f".{show(key) if odd else key}: {such}"
            continue
        if not isinstance(values, list) or not values:
            yield f".{key} = {show(values)}: must be a list of values, such as [0.1, 1]"
            continue
        if odd := [value for value in values if not _plain(value)]:
            yield f".{key} = {show(odd[0])}: must be a number, a word, or a list of these"
            continue
        combinations *= len(values)
        if len(set(map(label, values))) < len(values):
            yield f".{key} = {show(values)}: a value stands twice"
        for name, own in models.items():
            if section not in merged[name]:
                yield f".{key}: the model {show(name)} has no section {section}"
            elif (given := _given(own, [section, *option])) is not None:
                yield (
                    f".{key}: models.{name}.{key} = {show(given)} is given, too; "
                    "leave one of the two out"
                )
    if combinations > MOST:
        yield f" = {combinations} combinations of values: must be at most {MOST}"


def _plain(value: Any) -> bool:
    each = value if isinstance(value, list) else [value]
    return all(isinstance(one, bool | int | float | str) for one in each)


def _given(own: Any, keys: list[str]) -> Any:
    for key in keys:
        own = own.get(key) if isinstance(own, dict) else None
    return own


def _names(keys: list[str]) -> dict[str, str]:
    """The last part of each key, or more of it where that is another's, too."""

    def end(key: str, length: int) -> str:
        return ".".join(key.split(".")[-length:])

    def alone(key: str, length: int) -> bool:
        return [end(other, length) for other in keys].count(end(key, length)) == 1

    # The whole key is alone, but where it is the end of a longer one.
    return {
        key: next((end(key, n) for n in range(1, key.count(".") + 1) if alone(key, n)), key)
        for key in keys
    }


def _with(own: dict, merged: dict, values: dict[str, Any], whole: tuple[str, ...]) -> dict:
    """A model's own sections, with these options; `merged` has the shared ones, too."""
    own = copy.deepcopy(own)
    for key, value in values.items():
        *above, last = key.split(".")
        section, shared = own, merged
        for part in above:
            shared = _given(shared, [part])
            if not isinstance(section.get(part), dict):
                section[part] = copy.deepcopy(shared or {}) if part in whole else {}
            section = section[part]
        section[last] = value
    return own
