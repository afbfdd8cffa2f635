"""Command `schema`: a JSON schema of study files, from which editors complete and check them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twophase.commands.assumptions import ASSUMED, assumed
from twophase.commands.keys import told
from twophase.study.model import Model, Study
from twophase.study.networks import OfImageSize
from twophase.study.records import Record
from twophase.study.studyfile import SHARED, TAGGED

# Pydantic leaves these as they are where a validator of ours comes before them. Of several kinds, a
# part may fit more than one.
WORDS = {
    "oneOf": "anyOf",
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
}


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a study file as it is written, with the records' docstrings.

    Sections may stand at the top of the file, under a model, or in part at both, so no key of them
    is required. The schema knows keys, types and ranges; what one key says of another is checked
    when the program reads the file.
    """
    study = plain(Study.model_json_schema())
    records = study["$defs"]
    model = records["Model"]["properties"]
    sections = {name: _section(model[name]) for name in SHARED}
    for name in set(_named(sections, records)):
        records[name].pop("required", None)
    for record in TAGGED["network"].values():
        if issubclass(record, OfImageSize):  # the images say it
            del records[record.__name__]["properties"]["image_size"]
    for record in inheriting(Record):
        options = records.get(record.__name__, {})
        if "required" in options:
            options["required"] = [n for n in options["required"] if not assumed(record, n)]
    optional = [name for name in SHARED if name not in records["Model"]["required"]]
    without = {"const": False, "description": "this model does without"}
    model |= sections | {name: {"anyOf": [sections[name], without]} for name in optional}
    records["Model"]["required"] = ["network"]
    for record in records.values():
        options = record.get("properties", {})
        for name, option in options.items():
            kinds = option.get("anyOf", ())
            if {"type": "null"} in kinds and any("$ref" in kind for kind in kinds):
                options[name] = _section(option)
    del study["properties"]["name"]  # the file's own name says it
    study["properties"] |= sections
    study["properties"]["models"]["additionalProperties"] = False
    study["properties"]["sweep"] = _sweep(list(model))
    del records["Swept"]  # what the program makes of it
    for record in inheriting(Record):
        _tell(record, records.get(record.__name__, {}).get("properties", {}))
    _tell(Model, {name: study["properties"][name] for name in sections})
    _tell(Study, {name: study["properties"][name] for name in Study.model_fields if name != "name"})
    return study | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Study file of twophase",
        "description": "Sections at the top hold for every model; a model may override any key.",
        "required": [n for n in study["required"] if n not in {"name", *ASSUMED["Study"]}],
    }


def inheriting(record: type[Record]) -> Iterator[type[Record]]:
    """All records that inherit from one."""
    for each in record.__subclasses__():
        yield from (each, *inheriting(each))


def _tell(record: type[Record], options: dict[str, dict]) -> None:
    """Add to the schemas of a record's keys what each key is, and an example."""
    for name, option in options.items():
        if found := told(record, name):
            option["description"], option["examples"] = found[0], [found[1]]


def _sweep(sections: list[str]) -> dict:
    """The schema of a sweep: options of models, such as `training.lr`, each with its values."""
    return {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": rf"^({'|'.join(sections)})(\.[^.]+)+$"},
        "additionalProperties": {"type": "array", "minItems": 1},
    }


def plain(node: Any) -> Any:
    """A schema without titles, which only repeat the names, and in our words."""
    if isinstance(node, list):
        return [plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if (key, type(value)) != ("title", str)}
    return {WORDS.get(key, key): plain(value) for key, value in kept.items()}


def _section(found: dict) -> dict:
    """The schema of a section that a file has: it may be left out, but not be empty."""
    kinds = found.get("anyOf") or [found]
    kinds = [kind for kind in kinds if "$ref" in kind or kind.get("type") == "object"]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _named(node: Any, records: dict[str, dict]) -> Iterator[str]:
    """The names of the records that a schema refers to, and that these refer to."""
    for each in node.values() if isinstance(node, dict) else node:
        if isinstance(each, str) and each.startswith("#/$defs/"):
            name = each.rpartition("/")[2]
            yield name
            yield from _named(records[name], records)
        elif isinstance(each, dict | list):
            yield from _named(each, records)
