"""What a perturbation must be for a fork to be made again, tried on a few images."""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch

from twophase.errors import RunError
from twophase.study.model import Model
from twophase.study.perturbations import Kind, OwnKick, Perturbation
from twophase.study.run import Run
from twophase.training.batches import Data
from twophase.training.loop import State, initial_state
from twophase.training.perturbation import norm, perturb
from twophase.training.tensors import bits, trained

# Of the parameters' norm norm: as large as what adds the new values in the place of a change.
LARGE = 0.5
PLAIN = 1e-7  # deviation of the noise in the place of functions of the user's own


class Point(NamedTuple):
    """Where a study makes a perturbation."""

    step: int
    direction: int = 1
    precision: str | None = None  # another than the run's

    def __str__(self) -> str:
        said = f"t0 = {self.step}, direction {self.direction}"
        return f"{said}, {self.precision}" if self.precision else said


def same_again(
    run: Run, data: Data, asked: Model | None = None, later: State | None = None
) -> None:
    """Raise `RunError` if a perturbation cannot be made, or adds other numbers when it is made
    again from the same state: a fork that is made again would be another.

    A function of the user's own is called for each t0 and direction that the model as `asked` has;
    `later` is what stands for states after t0 = 0. Notes tell of one that changes nothing, or adds
    as much as the parameters are, or in all directions the same.
    """
    asked = asked or run.model
    for name, kind in run.model.chaos.kinds().items():
        key = f"chaos.perturbations.{name}" if name else "chaos.perturbation"
        first, *others = _points(asked, name)
        (one, size), (other, _) = (_made(run, data, kind, key, first, later) for _ in range(2))
        if tensor := _differing(one, other):
            raise RunError(
                f"{key}: adds other numbers to {tensor.partition('.')[2]} each time, from the "
                "same state; draw random numbers from `rng` or PyTorch, and keep nothing "
                "between calls"
            )
        if kind.kind == "own":
            made = {at: _made(run, data, kind, key, at, later)[0] for at in others}
            second = made.get(first._replace(direction=2))
            for line in _notes(_start(run, data, first, later), one, size, second, asked, first):
                print(f"{run.name}: {key}: {line}", file=sys.stderr)


def without_own(model: Model) -> Model:
    """The model with plain noise in the place of perturbations of the user's own, for trials at
    iterations that these may not know.
    """
    if model.chaos is None:
        return model

    def plain(kind: Kind | None, number: int) -> Kind | None:  # no two are the same
        noise = Perturbation(kind="std", size=PLAIN * number)
        return noise if isinstance(kind, OwnKick) else kind

    kinds = enumerate(model.chaos.perturbations.items(), 1)
    several = {name: plain(kind, number) for number, (name, kind) in kinds}
    update = {"perturbation": plain(model.chaos.perturbation, 1), "perturbations": several}
    return model.model_copy(update={"chaos": model.chaos.model_copy(update=update)})


def _points(model: Model, name: str) -> list[Point]:
    """Each t0 and each direction, not each of both, and those of `growth`."""
    chaos, growth = model.chaos, model.growth
    points = [Point(t0) for t0 in chaos.forks]
    points += [points[0]._replace(direction=n) for n in range(2, chaos.directions + 1)]
    if growth and name in growth.perturbations:
        points += [Point(t0, 1, p) for t0 in growth.forks for p in growth.precisions]
    return points


def _start(run: Run, data: Data, at: Point, later: State | None) -> State:
    """The state that stands for that of an iteration."""
    state = initial_state(run.model, data, run.seed)
    if at.step and later:
        theirs = later.tensors()
        with torch.no_grad():
            for name, tensor in state.tensors().items():
                tensor.copy_(theirs[name])
    if at.precision:
        dtype = getattr(torch, at.precision)
        state.model.to(dtype)
        state.optimizer = {k: [t.to(dtype) for t in ts] for k, ts in state.optimizer.items()}
    return state


def _made(
    run: Run, data: Data, kind: Kind, key: str, at: Point, later: State | None
) -> tuple[State, float]:
    """A perturbed state, and the norm of what parameters got."""
    state = _start(run, data, at, later)
    given = run.seed, str(at.direction), run, data, at.step, state.optimizer
    try:
        size, _ = perturb(state.model, kind, *given)
    except RunError as error:  # which does not know which of several it is, nor where
        said = f"{error} (at {at})" if kind.kind == "own" else str(error)
        own = said.startswith("perturbation.")
        line = said.removeprefix("perturbation") if own else f": {said}"
        raise RunError(key + line) from None
    return state, size


def _differing(one: State, other: State) -> str:
    """The first tensor in which two states are not the same, or ""."""
    theirs = other.tensors().items()
    ours = one.tensors()
    return next((name for name, t in theirs if not torch.equal(bits(ours[name]), bits(t))), "")


def _notes(
    before: State, made: State, size: float, second: State | None, asked: Model, at: Point
) -> Iterator[str]:
    """What to tell of a perturbation of norm `size` that made one state of another; `second` is
    that of the second direction.
    """
    if not _differing(before, made):
        yield f"adds nothing at iteration {at.step}"
        return
    whole = norm([p.detach() for p in trained(before.model).values()])
    if size > LARGE * whole:
        told = f"of norm {size:.3g} to parameters of norm {whole:.3g} at iteration {at.step}"
        yield f"adds a change {told}: right if that is meant; the new values are not to be returned"
    if second and not _differing(made, second):
        yield (
            f"adds the same in each of chaos.directions = {asked.chaos.directions}; draw from "
            "`rng` or PyTorch what tells them apart, or ask for 1"
        )
