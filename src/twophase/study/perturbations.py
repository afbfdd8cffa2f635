"""The perturbations that a study can ask for: what a fork's state at t0 differs by.

A kind is a record here, and a file of `perturbations/` with a function `added(perturbation, at)`,
what is added to each parameter, or `noise(perturbation, at)`, other SGD noise from t0 on.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from pathlib import Path
from types import ModuleType
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field

from twophase.store.code import Place
from twophase.study import functions
from twophase.study.records import Arguments, Count, Mistakes, Positive, Record

# Of a perturbation: no hyphen, which parts it from the number of a direction.
NAME = "[A-Za-z][A-Za-z0-9_]*"
Only = list[Annotated[str, Field(min_length=1)]]


class Kind(Record):
    """A perturbation. `family` is the file of `perturbations/` that makes it; with `same_batches`
    the fork then sees what its base run sees.
    """

    family: ClassVar[str]
    same_batches: ClassVar[bool] = True

    @abstractmethod
    def words(self) -> str:
        """What a fork got, for captions, without `only`."""


class Perturbation(Kind):
    """Gaussian noise on every parameter that is trained, or on those that match a pattern of
    `only`.

    `std`: elementwise standard deviation; `l2`: norm of the whole; `relative`: norm over the norm
    of the parameters that get it; `initial`: standard deviation over that of the same tensor's
    initial entries, so that 1 is the deviation at initialisation (arXiv 2506.13234); what begins
    as constants, such as biases of 0, gets none.
    """

    kind: Literal["std", "l2", "relative", "initial"]
    size: Positive
    only: Only = []
    family: ClassVar = "gaussian"

    def words(self) -> str:
        """Noise and its size."""
        texts = {
            "std": "Gaussian noise of elementwise standard deviation {:g}",
            "l2": "Gaussian noise of L2 norm {:g}",
            "relative": "Gaussian noise of {:g} times the parameters' norm",
            "initial": "Gaussian noise of {:g} times each tensor's deviation at initialisation",
        }
        other = f"a perturbation of kind {self.kind} and size {{:g}}"
        return texts.get(self.kind, other).format(self.size)


class Step(Kind):
    """A step of a given size in one direction of the parameters that are trained, or of those that
    match a pattern of `only`.

    `size` is its L2 norm, or with `relative` that norm over the norm of these parameters.
    """

    size: Positive
    relative: bool = False
    only: Only = []

    def long(self) -> str:
        """How long it is, in words."""
        return f"{self.size:g} times the parameters' norm" if self.relative else f"{self.size:g}"


class Gradient(Step):
    """Up the gradient of the loss of a batch that training does not see: of the study's batch size
    and augmentation, drawn for itself. Each direction has its own.
    """

    kind: Literal["gradient"]
    family: ClassVar = "gradient"

    def words(self) -> str:
        """The step."""
        return f"a step of length {self.long()} up the gradient of another batch"


class Hessian(Step):
    """Along the eigenvector of the largest eigenvalue of the training loss's Hessian, on `examples`
    training examples without augmentation, drawn for each direction; in train mode, to the side on
    which the loss of these rises.
    """

    kind: Literal["hessian"]
    examples: Count = 512
    family: ClassVar = "hessian"

    def words(self) -> str:
        """The step."""
        return f"a step of length {self.long()} along the Hessian's top eigenvector"


class OneWeight(Step):
    """On one entry alone of the parameters, drawn at random for each direction."""

    kind: Literal["weight"]
    family: ClassVar = "weight"

    def words(self) -> str:
        """The step."""
        return f"a change of {self.long()} in one weight"


class Ulp(Kind):
    """One unit in the last place, up, of one entry of the parameters, drawn at random for each
    direction.
    """

    kind: Literal["ulp"]
    only: Only = []
    family: ClassVar = "weight"

    def words(self) -> str:
        """The change."""
        return "one unit in the last place of one weight"


class Order(Kind):
    """Nothing is added: from t0 on training sees its examples in another order, with other random
    crops and dropout (SGD noise, Frankle et al. 2020).

    What the base run has yet to see in the epoch of t0 comes in another order; each later epoch is
    a permutation of its own.
    """

    kind: Literal["order"]
    family: ClassVar = "order"
    same_batches: ClassVar = False

    def words(self) -> str:
        """The other noise."""
        return "another order of batches from then on, and no other parameters"


class OwnKick(Kind):
    """What a `function` of the user's own returns: in a `file` beside the study file, or without a
    file `module:function` of an installed package.

    It returns by name what is added to parameters, to buffers of real numbers, or to what the
    optimizer keeps. It takes `options`, and those of GIVEN that it names. What the code says
    counts, not where the file lies.
    """

    kind: Literal["own"] = "own"
    # Never dumped: where a file lies makes no result.
    file: Annotated[str | None, Field(exclude=True)] = None
    function: str
    arguments: Arguments = {}
    family: ClassVar = "own"

    def words(self) -> str:
        """Its name."""
        return f"what `{self.function.rpartition(':')[2]}` adds"


# What a function of the user's own may ask for; `perturbations/own.py` says what each is.
GIVEN = ("parameters", "initial", "optimizer", "model", "batch", "rng", "step", "direction")


def _kind(value: object) -> object:
    """What tells the kinds apart, where a study need not say it."""
    if isinstance(value, dict) and "kind" not in value and "function" in value:
        return {"kind": "own", **value}
    return value


AnyKind = Annotated[
    Perturbation | Gradient | Hessian | OneWeight | Ulp | Order | OwnKick,
    Field(discriminator="kind"),
    BeforeValidator(_kind),
]


KINDS = {
    kind: record
    for record in get_args(get_args(AnyKind)[0])
    for kind in get_args(record.model_fields["kind"].annotation)
}


def another_kind(shared: dict, own: dict) -> bool:
    """Whether two sections of a study file are perturbations with other options."""
    kinds = [KINDS.get(str(_kind(raw).get("kind"))) for raw in (shared, own)]
    return None not in kinds and kinds[0] is not kinds[1]


def module(perturbation: Kind) -> str:
    """The module of this package that makes a perturbation."""
    return f"perturbations.{perturbation.family}"


def code(perturbation: Kind) -> tuple[str | Place, ...]:
    """That module, and the user's code that it calls."""
    if isinstance(perturbation, OwnKick):
        return module(perturbation), functions.place(perturbation.file, perturbation.function)
    return (module(perturbation),)


def imported(perturbation: Kind) -> ModuleType:
    """That module, imported."""
    return importlib.import_module(f"twophase.{module(perturbation)}")


def placed(perturbation: Kind, folder: Path) -> Kind:
    """The perturbation with the place of the user's file, which lies beside the study file."""
    if getattr(perturbation, "file", None):
        file = str((folder / perturbation.file).absolute())
        return perturbation.model_copy(update={"file": file})
    return perturbation


def mistakes(perturbation: Kind, folder: Path) -> Mistakes:
    """What is wrong with a perturbation of a study in `folder`."""
    if isinstance(perturbation, OwnKick):
        given = perturbation.file, perturbation.function, perturbation.arguments, folder
        yield from functions.mistakes("function", *given, GIVEN)
