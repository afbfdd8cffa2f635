"""Registrations: which claims are tested on which study, fixed before any of its seeds began.

`paper/claims.yaml` lists them under `registered`. What is registered beside it, made by `python -m
twophase.writeup register <study>`, lies in `paper/registration/<study>/`: the digest of the study's
file, the rules, simulated tables, and what the rules say of them (see `frozen`).
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from twophase.errors import StudyError
from twophase.study import studyfile
from twophase.study.records import Record
from twophase.writeup.simulated import OF_ONE, TRUTHS

REGISTRATION = "registration"  # the folder beside the file of claims


def _day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError('must be a day, such as "2026-12-31"') from None
    return text


Day = Annotated[str, AfterValidator(_day)]


class Registration(Record):
    """Claims that a study tests. Its seeds are looked at when as many as one of `looks` are there,
    in the order of the study's file, and never in between; intervals have the level `level`. Of
    claims over several models all of these must have as many. `truths` are those whose simulated
    tables are frozen.
    """

    study: str
    date: Day
    models: list[str] = []  # all of them, if none is named
    looks: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]
    level: Annotated[float, Field(gt=0.5, lt=1)]
    claims: Annotated[list[str], Field(min_length=1)]
    truths: Annotated[list[Literal[tuple(TRUTHS)]], Field(min_length=1)] = [*OF_ONE]

    @model_validator(mode="after")
    def _rises(self) -> Registration:
        if self.looks != sorted(set(self.looks)):
            raise ValueError("looks must rise, each number once")
        return self

    def covers(self, model: str) -> bool:
        """Whether a model of the study is registered."""
        return not self.models or model in self.models

    def look(self, there: int) -> int | None:
        """The seeds of the last look that `there` published seeds are enough for."""
        reached = [look for look in self.looks if look <= there]
        return reached[-1] if reached else None


def each_once(registrations: list[Registration]) -> list[Registration]:
    """The same; raises `ValueError` if a study is there twice."""
    names = [registration.study for registration in registrations]
    if len(set(names)) < len(names):
        raise ValueError("a study is registered twice")
    return registrations


def read(file: Path) -> dict[str, Registration]:
    """The registrations in a file of claims by study; none if there is no such file.

    Raises `StudyError`, one line, if they cannot be read.
    """
    return in_text(file, file.read_text(encoding="utf-8")) if file.exists() else {}


@lru_cache(maxsize=16)  # each network of each study asks; reading YAML takes a tenth of a second
def in_text(file: Path, text: str) -> dict[str, Registration]:
    """The same of the file's text."""
    raw = studyfile.mapping(file, text).get("registered", [])
    try:
        found = each_once(TypeAdapter(list[Registration]).validate_python(raw))
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, ("registered", *detail["loc"])))
        raise StudyError(f"{file}: {key}: {detail['msg'].removeprefix('Value error, ')}") from None
    except ValueError as error:
        raise StudyError(f"{file}: registered: {error}") from None
    return {registration.study: registration for registration in found}
