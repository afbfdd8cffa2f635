"""What a perturbation must be for a fork to be made again, tried on a few images."""

import torch

from twophase.errors import RunError
from twophase.study.run import Run
from twophase.training.batches import Data
from twophase.training.loop import initial_state
from twophase.training.perturbation import perturb
from twophase.training.tensors import bits


def same_again(run: Run, data: Data) -> None:
    """Raise `RunError` if a perturbation cannot be made, or adds other numbers when it is made
    again from the same state: a fork that is made again would be another.
    """
    for name, kind in run.model.chaos.kinds().items():
        key = f"chaos.perturbations.{name}" if name else "chaos.perturbation"
        one, other = (initial_state(run.model, data, run.seed) for _ in range(2))
        for state in (one, other):
            try:
                perturb(state.model, kind, run.seed, "1", run, data, 0)
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
