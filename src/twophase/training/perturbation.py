"""The perturbation that a fork starts from (arXiv 2505.13900, section 3)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from twophase.errors import RunError
from twophase.study import perturbations
from twophase.study.perturbations import Kind
from twophase.study.run import Run
from twophase.training.batches import Data, batch
from twophase.training.loop import initial_state
from twophase.training.noise import OtherNoise
from twophase.training.tensors import in_precision, trained

DIRECTION = 3  # first number of the counters that seed directions; see batches.py for the others
OTHER = 7  # and of those that seed other batches: the gradient's, and those of another order
Added = dict[str, torch.Tensor]  # what is added to parameters, by their names


class At(NamedTuple):
    """Where a perturbation is made: the network as it is at iteration `step` of the run, and which
    of the directions. A kind may read all of it, and changes nothing.
    """

    model: nn.Module
    seed: int
    direction: int
    run: Run | None = None
    data: Data | None = None
    step: int = 0
    optimizer: dict[str, list[torch.Tensor]] | None = None  # as in `State`

    def rng(self) -> np.random.Generator:
        """Random numbers that are the direction's own, and the same at every step."""
        return np.random.default_rng((DIRECTION, self.seed, self.direction))

    def parameters(self, only: list[str]) -> dict[str, nn.Parameter]:
        """The parameters that are trained whose names match a pattern of `only`; without one, all.

        Raises `RunError` if a pattern matches none.
        """
        every = trained(self.model)
        for pattern in only:
            if not any(fnmatchcase(name, pattern) for name in every):
                names = ", ".join(list(every)[:6]) + ", …" * (len(every) > 6)
                raise RunError(
                    f"chaos: a perturbation's only = {pattern!r}: matches no parameter; there are "
                    f"{names}; patterns are of whole names, such as '*.bias'"
                )
        return {
            name: parameter
            for name, parameter in every.items()
            if not only or any(fnmatchcase(name, pattern) for pattern in only)
        }

    def initial(self) -> dict[str, torch.Tensor]:
        """The parameters that are trained as the run began, by name."""
        state = initial_state(self._run().model, self.data, self.seed)
        return {name: p.detach() for name, p in trained(state.model).items()}

    def kept(self) -> dict[str, torch.Tensor]:
        """What the optimizer keeps of each parameter, by names such as `momentum.0.weight`."""
        if self.optimizer is None:
            raise RunError("this kind of perturbation needs `optimizer`, that of the state")
        names = trained(self.model)
        return {
            f"{kind}.{name}": tensor
            for kind, values in self.optimizer.items()
            for name, tensor in zip(names, values, strict=True)
        }

    def other_seed(self) -> int:
        """A seed of SGD noise that no run of a study has: theirs are below 2**32."""
        drawn = np.random.default_rng((OTHER, self.seed, self.direction)).integers(2**32)
        return 2**32 + int(drawn)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (batch_size, C, H, W) and labels of a batch that training does not see: of the
        study's size and augmentation, drawn for the direction, in the network's precision.
        """
        run = self._run()
        sizes = run.model.training.batch_size, run.model.training.drop_last
        seed, augmentation = self.other_seed(), run.study.data.augmentation
        images, labels = batch(self.data, augmentation, seed, 0, *sizes)
        return self._precise(images), labels

    def examples(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """As many training examples, or all if there are fewer, drawn for the direction, without
        augmentation: images (n, C, H, W), in the network's precision, and labels.
        """
        self._run()
        rng = np.random.default_rng((OTHER, self.seed, self.direction, 1))
        split = self.data.train
        chosen = torch.from_numpy(rng.permutation(len(split.labels))[:count])
        chosen = chosen.to(split.labels.device)
        return self._precise(self.data.normalised(split.images[chosen])), split.labels[chosen]

    def _precise(self, images: torch.Tensor) -> torch.Tensor:
        return in_precision(images, next(iter(trained(self.model).values())).dtype)

    def _run(self) -> Run:
        if self.run is None or self.data is None:
            raise RunError("this kind of perturbation needs `run` and `data`")
        return self.run


@torch.no_grad()
def perturb(
    model: nn.Module,
    perturbation: Kind,
    seed: int,
    direction: str,
    run: Run | None = None,
    data: Data | None = None,
    step: int = 0,
    optimizer: dict[str, list[torch.Tensor]] | None = None,
) -> tuple[float, float]:
    """Perturb the trained parameters of `model` in place, in the direction of this number.

    What is added depends on `perturbation` (`study/perturbations.py`) and is, for noise, the same
    for every t0. It is added in float64 and rounded to the parameters' own precision. Rounding
    swallows part of it, so the realised perturbation is measured. The direction `control` is the
    perturbation zero. Kinds other than Gaussian noise also need the `run` and its `data`, whose
    state at iteration `step` the model has, and a function of the user's own may need what the
    `optimizer` keeps there, and change it.

    Returns its L2 norm, and the share of parameters that it left unchanged. Raises `RunError` if
    it cannot be made.

    >>> from twophase.study.perturbations import Perturbation
    >>> model = nn.Linear(100, 100)
    >>> noise = Perturbation(kind="l2", size=1e-3)
    >>> norm, unchanged = perturb(model, noise, seed=0, direction="1")
    >>> round(norm, 5), unchanged < 0.01
    (0.001, True)
    >>> perturb(model, noise, seed=0, direction="control")
    (0.0, 1.0)
    """
    make = getattr(perturbations.imported(perturbation), "added", None)
    if direction == "control" or make is None:
        return 0.0, 1.0
    added = make(perturbation, At(model, seed, int(direction), run, data, step, optimizer))
    realised = []
    for name, parameter in trained(model).items():
        before = parameter.to(torch.float64, copy=True)
        if name in added:
            parameter.copy_(before + added[name])
        realised.append(parameter.double() - before)
    unchanged = sum(int((d == 0).sum()) for d in realised)
    return norm(realised), unchanged / sum(d.numel() for d in realised)


def other_noise(
    perturbation: Kind, seed: int, direction: str, run: Run, step: int
) -> OtherNoise | None:
    """The SGD noise that a fork from iteration `step` has in place of its base run's; None if it
    has the same, as the control does.
    """
    make = getattr(perturbations.imported(perturbation), "noise", None)
    if direction == "control" or make is None:
        return None
    return make(perturbation, At(nn.Identity(), seed, int(direction), run, None, step))


def norm(tensors: list[torch.Tensor]) -> float:
    """L2 norm of all entries together, in float64."""
    return sum(float(t.double().square().sum()) for t in tensors) ** 0.5


def of_length(vector: Added, perturbation: Kind, parameters: Added) -> Added:
    """A vector, by names of parameters, stretched to the size of a `Step` along it.

    Raises `RunError` if it is zero or not finite, and so has no direction.
    """
    length = norm(list(vector.values()))
    if not 0 < length < float("inf"):
        raise RunError(
            f"chaos: a perturbation of kind {perturbation.kind!r} has no direction: its vector has "
            f"the norm {length}"
        )
    size = perturbation.size
    if perturbation.relative:
        size *= norm(list(parameters.values()))
    return {name: tensor.double() * (size / length) for name, tensor in vector.items()}
