"""The keys that a study file may say, as tables: what the schema for editors lists."""

from __future__ import annotations

import importlib
import re
from inspect import getdoc
from typing import Any

import yaml
from docstrings import markdown

from twophase.commands.assumptions import assumed
from twophase.commands.schema import schema as study_file
from twophase.study.model import Model
from twophase.study.records import Record

RANGES = {
    "exclusiveMinimum": "above",
    "minimum": "from",
    "exclusiveMaximum": "below",
    "maximum": "to",
}
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}


def described(line: re.Match) -> str:
    """All records of the study file that a module defines, for a line that names the module."""
    module, file = importlib.import_module(line[1]), study_file()
    written = {**file["$defs"], "Study": file}
    records = [kind for name, kind in vars(module).items() if name in written]
    own = [kind for kind in records if kind.__module__ == line[1]]
    return "\n\n".join(_record(kind, written[kind.__name__]) for kind in own)


def _record(record: type[Record], written: dict[str, Any]) -> str:
    """What a record is for, in the words of it and of those whose keys it shares, and its keys as
    they are `written`.
    """
    shared = [kind for kind in record.mro()[1:] if getattr(kind, "model_fields", {})]
    rows = [
        f"| `{key}` | {option.get('description', '')} | {_shown(*option.get('examples', ['']))} "
        f"| {_allowed(option)} | {_default(option, record, key)} |"
        for key, option in written["properties"].items()
    ]
    head = ["| key | is | example | may be | default |", "|---|---|---|---|---|"]
    table = [*head, *rows] if rows else ["It has no keys."]
    texts = [markdown(text) for text in (written["description"], *map(getdoc, shared))]
    return "\n\n".join([f"### {record.__name__}", *texts, "\n".join(table)])


def _shown(value: Any) -> str:
    """A value as a study file says it, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    text = text.removesuffix("...\n").strip().strip("'")
    return f"`{text if len(text) < 60 or ' ' in text else text[:12] + '…'}`"


def _allowed(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in words; a record is a link to its own table."""
    if schema.get("const") is False:
        return "`false`: the model does without"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "anything" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            kinds = [kind for kind in schema[several] if kind.get("type") != "null"]
            return " or ".join(map(_allowed, kinds))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of: {_allowed(schema.get('items', {}))}"
    if schema.get("type") == "object":
        named = schema.get("patternProperties", {"": schema.get("additionalProperties")})
        [values] = named.values()
        return f"by name: {'anything' if values is True else _allowed(values)}"
    bounds = [f"{word} {schema[key]:,}" for key, word in RANGES.items() if key in schema]
    return " ".join([TYPES.get(schema.get("type"), "anything"), *bounds])


def _default(schema: dict[str, Any], record: type[Record], key: str) -> str:
    """What holds where a key is not given; sections stand at the top for all models."""
    if text := assumed(record, key) or assumed(Model, key):
        return text
    if schema.get("default") is not None:
        return _shown(schema["default"])
    fields = record.model_fields | {f.alias: f for f in record.model_fields.values() if f.alias}
    return "" if fields.get(key, Model.model_fields.get(key)).is_required() else "left out"
