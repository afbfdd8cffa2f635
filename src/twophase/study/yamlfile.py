"""Reading YAML: sections with what they say, and one line for a mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from twophase.errors import StudyError
from twophase.study.records import show


class _Constructor(SafeConstructor):
    """Says where a number of thousands of digits stands, or a date that there is not; and refuses
    a key that stands twice beside `<<`, too, of which ruamel.yaml keeps the last.
    """

    def flatten_mapping(self, node: MappingNode) -> Any:
        """Put what is merged into a section, whose own keys must differ."""
        # One that an alias names comes here again, with what was merged into it.
        own = [] if getattr(node, "merge", None) else node.value
        keys = [key for key, _ in own if isinstance(key, ScalarNode)]
        for index, key in enumerate(keys):
            if any(key.value == other.value != "<<" for other in keys[:index]):
                problem = f"the key '{key.value}' stands twice"
                raise ConstructorError(None, None, problem, key.start_mark)
        return super().flatten_mapping(node)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """What a piece of the file says."""
        try:
            return super().construct_object(node, deep)
        except ValueError:
            problem = f"{show(node.value)} is no number or date that can be read"
            raise ConstructorError(None, None, problem, node.start_mark) from None


def mapping(path: Path, text: str) -> dict:
    """What the YAML in a file says. Raises `StudyError`, one line, if that is not sections."""
    if other := re.search(r"^%YAML(?!\s+1\.2\s*(?:#.*)?$).*", text, re.M):
        line = text.count("\n", 0, other.start()) + 1
        raise StudyError(
            f"{path}: line {line}: {show(other[0])}: must be read as 1.2; leave it out"
        )
    try:
        yaml = YAML(typ="safe", pure=True)  # YAML 1.2: 1e-3 and 010 are numbers, 1:30 is none
        yaml.Constructor = _Constructor
        raw = yaml.load(text)
    except YAMLError as error:
        raise StudyError(f"{path}:{_why_not_yaml(error)}") from None
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: must be a mapping of sections, is {show(raw)}")
    return raw


def _why_not_yaml(error: YAMLError) -> str:
    """The line of a mistake, if it is known, and what it is."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    if twice := re.match('found duplicate key "(.*)" with value ', problem):
        problem = f"the key '{twice[1]}' stands twice"
    return (f" line {mark.line + 1}:" if mark else "") + f" not YAML: {problem}"
