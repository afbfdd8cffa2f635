"""Which images a study was first read with, where its file does not say it.

A folder's images are told apart by a digest. A study file may give it; else it is written down at
the first run, in `results/<study>/images.json`, and from then on other images are refused as if the
file gave it. With published tables the note lies beside the study file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from twophase.errors import Problem, StudyError
from twophase.store.paths import RESULTS
from twophase.study import datasets

NAME = "images.json"
NUMBERS = ("classes", "train_examples", "test_examples")


def note(file: Path) -> Path:
    """Where the note of a study file lies: beside it if it is published, else under results/."""
    beside = file.with_name(NAME)
    if beside.exists():
        return beside
    inside = file.parent.parts[-2:] == ("workflow", "config")
    return (file.parent.parent.parent if inside else Path()) / RESULTS / file.stem / NAME


def wanted(images: Any, kinds: dict[str, type[datasets.Source]]) -> bool:
    """Whether a section `data.images` needs a digest that it does not give."""
    kind = kinds.get(str(images.get("source"))) if isinstance(images, dict) else None
    option = kind.model_fields.get("sha256") if kind else None
    return bool(option and option.is_required() and "sha256" not in images)


def found(file: Path, images: dict, kind: type[datasets.Source]) -> dict[str, Any]:
    """The digest of the images, with their numbers where a folder holds them: from the note, or of
    the images, and then noted. Raises `StudyError` if they cannot be read.
    """
    asked = {key: value for key, value in images.items() if key not in NUMBERS}
    place = note(file)
    try:
        said = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
        if said.get("images") == asked and "sha256" in said["are"]:
            return said["are"]
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        raise StudyError(f"{place}: is damaged; delete it, and it is made again") from None
    try:
        record = kind.model_validate(images | {"sha256": 64 * "0"})
    except ValidationError:  # told with all other mistakes
        return {"sha256": 64 * "0"}
    try:
        are = datasets.surveyed(record)
    except Problem as error:
        raise StudyError(f"{file}: {error}") from None
    _write(place, {"images": asked, "are": are})
    return are


def _write(place: Path, said: dict) -> None:
    from twophase.store.artifacts import whole_file  # late: with it come packages for tables

    with whole_file(place) as temporary:
        temporary.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def hint(file: Path) -> str:
    """What to add to a refusal of images if a note says which they are."""
    place = note(file)
    if "sha256" in file.read_text(encoding="utf-8") or not place.exists():
        return ""
    return f" ({place} says which images they were: delete it to take them as they are now)"
