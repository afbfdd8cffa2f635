"""What a perturbation must be for a fork to be made again, tried on a few images."""

import sys
from collections.abc import Iterator

import torch

from twophase.errors import RunError
from twophase.study.perturbations import Kind
from twophase.study.run import Run
from twophase.training.batches import Data
from twophase.training.loop import State, initial_state
from twophase.training.perturbation import norm, perturb
from twophase.training.tensors import bits, trained

# Of the parameters' norm: as large as what adds the new values in the place of a change.
LARGE = 0.5


def same_again(run: Run, data: Data, directions: int = 1) -> None:
    """Raise `RunError` if a perturbation cannot be made, or adds other numbers when it is made
    again from the same state: a fork that is made again would be another.

    Notes tell of one of the user's own that adds nothing, or as much as the parameters are, or
    of several `directions` the same in each.
    """
    for name, kind in run.model.chaos.kinds().items():
        key = f"chaos.perturbations.{name}" if name else "chaos.perturbation"
        one, other = (initial_state(run.model, data, run.seed) for _ in range(2))
        whole = norm([p.detach() for p in trained(one.model).values()])
        for state in (one, other):
            try:
                size, _ = perturb(state.model, kind, run.seed, "1", run, data, 0)
            except RunError as error:  # which does not know which of several it is
                said = str(error)
                own = said.startswith("perturbation.")
                line = said.removeprefix("perturbation") if own else f": {said}"
                raise RunError(key + line) from None
        theirs = other.tensors()
        for tensor, ours in one.tensors().items():
            if not torch.equal(bits(ours), bits(theirs[tensor])):
                raise RunError(
                    f"{key}: adds other numbers to {tensor.partition('.')[2]} each time, from the "
                    "same state; draw random numbers from `rng` or PyTorch, and keep nothing "
                    "between calls"
                )
        if kind.kind == "own":
            for line in _notes(run, data, kind, one, size, whole, directions):
                print(f"{run.name}: {key}: {line}", file=sys.stderr)


def _notes(
    run: Run, data: Data, kind: Kind, first: State, size: float, whole: float, directions: int
) -> Iterator[str]:
    """What to tell of a perturbation whose first direction is this state; it is of norm `size`, the
    parameters of norm `whole`.
    """
    if not size:
        yield "adds nothing to parameters at iteration 0"
        return
    if size > LARGE * whole:
        told = f"of norm {size:.3g} to parameters of norm {whole:.3g} at iteration 0"
        yield f"adds a change {told}; the function returns what is added, and not the new values"
    if directions > 1:
        second = initial_state(run.model, data, run.seed)
        perturb(second.model, kind, run.seed, "2", run, data, 0)
        theirs = second.tensors()
        if all(torch.equal(bits(t), bits(theirs[name])) for name, t in first.tensors().items()):
            yield (
                f"adds the same in each of chaos.directions = {directions}; draw from `rng` or "
                "PyTorch what tells them apart, or ask for 1"
            )
