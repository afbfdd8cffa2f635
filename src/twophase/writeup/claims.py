"""The claims and the rules of their verdicts, read from `paper/claims.yaml` and checked."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from twophase.errors import StudyError
from twophase.study import studyfile
from twophase.study.records import Record, show
from twophase.writeup import CLAIMS
from twophase.writeup.quantities import QUANTITIES
from twophase.writeup.registered import Day, Registration, each_once


class Range(Record):
    """Where a quantity must lie: above one number, below another, or both."""

    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Range:
        if self.above is None and self.below is None:
            raise ValueError("must have above, below, or both")
        if None not in (self.above, self.below) and not self.above < self.below:
            raise ValueError("above must be less than below")
        return self


class Part(Record):
    """One test of a claim: a quantity, and where it must lie for the claim to hold.

    `paper` is a number of the paper, from and to; being read off a figure it holds within the
    file's `tolerance`, a factor. `holds` gives the range itself. `at` has what the quantity asks
    for.
    """

    says: str
    quantity: Literal[tuple(QUANTITIES)]
    at: dict[str, Any] = {}
    holds: Range | None = None
    paper: tuple[float, float] | None = Field(default=None, strict=False)

    @model_validator(mode="after")
    def _one_rule(self) -> Part:
        if (self.holds is None) == (self.paper is None):
            raise ValueError("must have either holds or paper")
        kinds = get_type_hints(QUANTITIES[self.quantity], include_extras=True)
        taken = inspect.signature(QUANTITIES[self.quantity]).parameters
        wanted = taken.keys() - {"source", "conditions", "level"}
        if self.at.keys() != wanted:
            raise ValueError(f"at must give {', '.join(sorted(wanted)) or 'nothing'}")
        for name in wanted:
            try:
                TypeAdapter(kinds.get(name, Any)).validate_python(self.at[name], strict=True)
            except ValidationError as error:
                detail = error.errors()[0]
                key = ".".join(map(str, ("at", name, *detail["loc"])))
                message = detail["msg"].replace("Input should be", "must be")
                raise ValueError(f"{key}: {message.removeprefix('Value error, ')}") from None
        return self

    @property
    def of_conditions(self) -> bool:
        """Whether its quantity is of the conditions themselves, not of their tables."""
        return "conditions" in inspect.signature(QUANTITIES[self.quantity]).parameters

    @property
    def selects(self) -> bool:
        """Whether its quantity selects rows of tables, and so can tell models apart."""
        return not {"where", "one"}.isdisjoint(self.at)


class Claim(Record):
    """A claim with its source and its tests; `only` says of which study and network it is. An
    `architecture` is the network with all its other options at their defaults.

    `fixed` and `seen` are those of the file if the claim has none of its own. It is judged where
    the claims that it `needs`, which stand above it, are replicated. A claim `over` models compares
    those of a study whose names match, such as `warm-*`: one verdict for all of them.
    """

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    claim: str
    source: str
    kind: Literal["abstract", "figure", "ours"]
    only: dict[Literal["study", "architecture"], str] = {}
    over: list[str] = []
    horizon: int = 0
    fixed: Day | None = None
    seen: list[str] | None = None
    needs: list[str] = []
    parts: list[Part] = Field(min_length=1)

    @model_validator(mode="after")
    def _over_conditions(self) -> Claim:
        if self.over and "architecture" in self.only:
            raise ValueError("only.architecture: is of one network; leave it out beside over")
        for part in self.parts:
            if part.of_conditions and not self.over:
                raise ValueError(f"over must name models: {part.quantity} compares them")
            if self.over and not (part.of_conditions or part.selects):
                raise ValueError(f"over must be left out: {part.quantity} is of one model")
        return self


class Claims(Record):
    """The file: what holds for all claims, and the claims."""

    fixed: Day
    seen: list[str]
    fewest_seeds: int = Field(ge=2)
    tolerance: float = Field(ge=1)
    quoted: list[str]
    quoted_studies: list[str]
    registered: list[Registration] = []
    claims: list[Claim]

    @field_validator("claims")
    @classmethod
    def _each_once(cls, claims: list[Claim]) -> list[Claim]:
        names = [claim.id for claim in claims]
        if len(set(names)) < len(names):
            raise ValueError("a claim's id is there twice")
        return claims

    @field_validator("registered")
    @classmethod
    def _study_once(cls, registered: list[Registration]) -> list[Registration]:
        return each_once(registered)

    @model_validator(mode="after")
    def _named_are_there(self) -> Claims:
        names = [claim.id for claim in self.claims]
        named = {"quoted": self.quoted}
        named |= {f"registered, {each.study}": each.claims for each in self.registered}
        for key, ids in named.items():
            if missing := set(ids) - set(names):
                raise ValueError(f"{key}: must be ids of claims; {sorted(missing)[0]} is none")
        for index, claim in enumerate(self.claims):
            if missing := set(claim.needs) - set(names[:index]):
                raise ValueError(
                    f"{claim.id}: needs: must be ids of claims above it; {sorted(missing)[0]} is "
                    "none"
                )
            if any(self.claim(need).over != claim.over for need in claim.needs):
                raise ValueError(f"{claim.id}: needs: must be claims over the same models")
        for each in self.registered:
            needs = {need for name in each.claims for need in self.claim(name).needs}
            if missing := needs - set(each.claims):
                raise ValueError(
                    f"registered, {each.study}: a claim needs {sorted(missing)[0]}; register both"
                )
        return self

    def claim(self, name: str) -> Claim:
        """The claim with this id."""
        return next(claim for claim in self.claims if claim.id == name)

    def seen_by(self, claim: Claim) -> list[str]:
        """The studies whose results had been looked at when the claim's rule was fixed."""
        return self.seen if claim.seen is None else claim.seen


def load(path: Path = CLAIMS) -> Claims:
    """Read and check the claims.

    Raises `StudyError` with one line for each mistake: file, key, what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", error)
        raise StudyError(f"{path}: cannot be read: {why}") from None
    try:
        return Claims.model_validate(studyfile.mapping(path, text))
    except ValidationError as error:
        lines = [f"{path}: {_explain(detail)}" for detail in error.errors()]
        raise StudyError("\n".join(lines)) from None
    except RecursionError:
        raise StudyError(f"{path}: claims refer to themselves, or lie too deep") from None


def _explain(detail: dict) -> str:
    key = ".".join(map(str, detail["loc"]))
    if detail["type"] == "missing":
        return f"{key}: is missing"
    if detail["type"] == "extra_forbidden":
        return f"{key}: no such key"
    message = detail["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    return f"{key} = {show(detail['input'])}: {message}" if key else message
