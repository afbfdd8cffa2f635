"""What is to be learnt: the tasks that a source of examples can name, and what they are called.

Their losses, predictions and outputs are functions of `training/tasks.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from twophase.store.code import Place
from twophase.study import functions
from twophase.study.records import Mistakes, Record


class OwnTask(Record):
    """A task of the user's own: functions of a `file` beside the study file, by name.

    `loss(out, labels)` returns the loss of each example, or of each of its parts (any shape).
    `prediction(out)` returns what the network says: whole numbers, of which the disagreement is the
    share that differ, or real ones, of which it is the root mean square difference; without it the
    outputs are the prediction. `outputs(out)` returns the outputs (n, k) that the kernel is of;
    without it these are the network's, (n, k). `unit` is that of the loss, on axes.
    """

    file: Annotated[str, Field(exclude=True)]  # where it lies does not count
    loss: str
    prediction: str | None = None
    outputs: str | None = None
    unit: Annotated[str, Field(min_length=1)] = "loss"

    def named(self) -> dict[str, str]:
        """The functions that the study names, by their role."""
        roles = {role: getattr(self, role) for role in ("loss", "prediction", "outputs")}
        return {role: name for role, name in roles.items() if name is not None}


NAMED = ("classification", "regression")


def _kind(value: object) -> object:
    """A task that is named, or one of the user's own; one line says what is wrong with it."""
    if isinstance(value, dict):
        try:
            return OwnTask.model_validate(value)
        except ValidationError as error:
            detail = error.errors()[0]
            said = {"key": ".".join(map(str, detail["loc"])), "what": detail["msg"].lower()}
            raise PydanticCustomError("task", "of its key {key}: {what}", said) from None
    if value not in NAMED and not isinstance(value, OwnTask):
        allowed = "must be 'classification', 'regression', or a section with `file` and `loss`"
        raise PydanticCustomError("task", allowed)  # type: ignore[arg-type]
    return value


Task = Annotated[Literal["classification", "regression"] | OwnTask, BeforeValidator(_kind)]


class Words(NamedTuple):
    """How figures speak of a task: the unit of its loss, the loss and the disagreement in words."""

    unit: str
    loss: str
    disagreement: str
    measure: str = "share"  # what the disagreement is in


CLASSIFICATION = Words(
    "nats", "cross-entropy", "share of test images that the two classify differently"
)
_WORDS = {
    "classification": CLASSIFICATION,
    "regression": Words(
        "squared error",
        "mean squared error",
        "root mean square difference between what the two predict for the test examples",
        "RMS difference",
    ),
    "next_token": Words(
        "nats per token",
        "cross-entropy of the next token, mean over tokens",
        "share of test tokens for which the two predict another one",
    ),
}


def words(task: Any) -> Words:
    """What a task is called."""
    if isinstance(task, OwnTask):
        difference = "how far the predictions of the two for the test examples differ"
        loss = f"{task.loss} of {Path(task.file).name}"  # of any machine's folder the same
        return Words(task.unit, loss, difference, "share or RMS")
    return _WORDS[task]


def counted(options: dict) -> dict:
    """Options of a source without what only axes say of its task."""
    task = options.get("task")
    if not isinstance(task, dict):
        return options
    return options | {"task": {key: value for key, value in task.items() if key != "unit"}}


def code(task: Any) -> tuple[Place, ...]:
    """The user's code that a task calls."""
    return (
        tuple({functions.place(task.file, n) for n in task.named().values()}) if own(task) else ()
    )


def own(task: Any) -> bool:
    """Whether the task is of the user's own."""
    return isinstance(task, OwnTask)


def placed(task: Any, folder: Path) -> Any:
    """The task with the place of the user's file."""
    if own(task):
        return task.model_copy(update={"file": str((folder / task.file).absolute())})
    return task


def mistakes(task: Any, folder: Path) -> Mistakes:
    """What is wrong with a task of a study in `folder`."""
    for role, name in task.named().items() if own(task) else ():
        yield from functions.mistakes(
            role, task.file, name, {}, folder, count=2 if role == "loss" else 1
        )
