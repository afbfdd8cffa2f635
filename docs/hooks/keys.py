"""The keys of the study file's records, as tables."""

from __future__ import annotations

import importlib
import json
import re
from inspect import getdoc
from typing import Any

from docstrings import markdown

from twophase.commands.schema import plain
from twophase.study.model import Study
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
    module = importlib.import_module(line[1])
    names = {"Study", *Study.model_json_schema()["$defs"]}
    records = [record for name, record in vars(module).items() if name in names]
    return "\n\n".join(_record(each) for each in records if each.__module__ == line[1])


def _record(record: type[Record]) -> str:
    """What a record is for, in the words of it and of those whose keys it shares, and its keys."""
    shared = [kind for kind in record.mro()[1:] if getattr(kind, "model_fields", {})]
    rows = [
        f"| `{key}` | {_allowed(schema)} | {_default(schema)} |"
        for key, schema in plain(record.model_json_schema())["properties"].items()
    ]
    table = ["| key | may be | default |", "|---|---|---|", *rows] if rows else ["It has no keys."]
    texts = [markdown(getdoc(kind)) for kind in (record, *shared)]
    return "\n\n".join([f"### {record.__name__}", *texts, "\n".join(table)])


def _allowed(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in words; a record is a link to its own table."""
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
        return f"list of: {_allowed(schema['items'])}"
    if schema.get("type") == "object":
        named = schema.get("patternProperties", {"": schema.get("additionalProperties")})
        [values] = named.values()
        return f"by name: {'anything' if values is True else _allowed(values)}"
    bounds = [f"{word} {schema[key]:,}" for key, word in RANGES.items() if key in schema]
    return " ".join([TYPES.get(schema.get("type"), "anything"), *bounds])


def _default(schema: dict[str, Any]) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    shown = value if isinstance(value, str) else json.dumps(value)
    return "left out" if value is None else f"`{shown}`"
