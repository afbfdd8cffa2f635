"""What all sections of a study share: strict records, and the numbers they hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

Positive = Annotated[float, Field(gt=0)]
# Bounded, so that a slip of the keyboard cannot ask for more files than there is memory to name.
MOST = 10_000_000
Count = Annotated[int, Field(ge=1, le=MOST)]
Iteration = Annotated[int, Field(ge=0, le=MOST)]
Iterations = Annotated[list[Iteration], Field(min_length=1)]


FEW = 16  # examples in a trial


# What a study gives to a function that is not of this package.
Arguments = Annotated[dict[str, JsonValue], Field(alias="options")]


def _given(value: object) -> object:
    # `chaos:` with nothing under it is a slip; who wants none leaves it out.
    if value is None:
        raise PydanticCustomError("model_type", "must be a section")
    return value


GIVEN = BeforeValidator(_given)  # for a section that may be left out
# What a record finds wrong with itself: the option, and what a line says after its name.
Mistakes = Iterator[tuple[str, str]]


class Record(BaseModel):
    """A section of the study: no unknown keys, no silent conversions, no changes afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def options(self, **selection: Any) -> dict:
        """The options that make a result: those that differ from their default.

        A default is a no-op: an option that is added with one makes no result stale. It must
        therefore never change (`tests/defaults.yaml` holds all of them).
        """
        return self.model_dump(exclude_defaults=True, **selection)

    def mistakes(self, model: Any) -> Mistakes:
        """What is wrong between options that are each right by themselves.

        `model` is the `study.Model` that the section belongs to.
        """
        return iter(())


class Section(Record):
    """A section that a model may have: what it asks for, and what of the base run that needs."""

    # What a trial of two iterations leaves of its options (see `stages/check.py`).
    least: ClassVar[dict[str, Any]] = {}

    def states(self, model: Any) -> set[int]:
        """Iterations of the base run whose state its stages read."""
        return set()

    def brief(self) -> Self:
        """The section in a trial of two iterations: the smallest grids, few examples."""
        own = {key: getattr(self, key) for key in self.least}
        update = {
            key: min(value, own[key]) if type(value) is type(own[key]) is int else value
            for key, value in self.least.items()
        }
        return self.model_copy(update=update)


def must_rise(option: str, grid: list[int] | list[float]) -> Mistakes:
    """A mistake, unless the values rise and each stands once."""
    if grid != sorted(set(grid)):
        yield option, f"= {show(grid)}: must rise, each value once"


def written(value: float) -> str:
    """A number as people write it, with all its digits: 1e-7, not 1e-07, and 2, not 2.0."""
    return repr(value).removesuffix(".0").replace("e-0", "e-")


def show(value: object) -> str:
    """A value of a study file, short enough for one line."""
    text = "nothing" if value is None else repr(value)
    text = str(value) if isinstance(value, date) else text
    return text if len(text) <= 60 else text[:57] + "..."
