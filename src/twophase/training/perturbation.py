"""The perturbation that a fork starts from (arXiv 2505.13900, section 3)."""

import numpy as np
import torch
from torch import nn

from twophase.study.chaos import Perturbation
from twophase.training.tensors import trained

DIRECTION = 3  # first number of the counters that seed directions; see batches.py for the others


@torch.no_grad()
def perturb(
    model: nn.Module, perturbation: Perturbation, seed: int, direction: str
) -> tuple[float, float]:
    """Add the perturbation called `direction` to the trained parameters of `model`, in place.

    The noise is Gaussian and the same for every t0; it is added in float64 and rounded to the
    parameters' float32. Rounding swallows part of it, so the realised perturbation is measured.
    The direction `control` is the perturbation zero.

    Returns its L2 norm, and the share of parameters that it left unchanged.

    >>> model = nn.Linear(100, 100)
    >>> noise = Perturbation(kind="l2", size=1e-3)
    >>> norm, unchanged = perturb(model, noise, seed=0, direction="1")
    >>> round(norm, 5), unchanged < 0.01
    (0.001, True)
    >>> perturb(model, noise, seed=0, direction="control")
    (0.0, 1.0)
    """
    if direction == "control":
        return 0.0, 1.0
    rng = np.random.default_rng((DIRECTION, seed, int(direction)))
    parameters = list(trained(model).values())
    noise = [torch.from_numpy(rng.standard_normal(p.shape)).to(p.device) for p in parameters]
    scale = perturbation.size
    if perturbation.kind != "std":
        scale /= _norm(noise)
    if perturbation.kind == "relative":
        scale *= _norm(parameters)
    realised = []
    for parameter, direction_of_it in zip(parameters, noise, strict=True):
        before = parameter.double()
        parameter.copy_(before + scale * direction_of_it)
        realised.append(parameter.double() - before)
    unchanged = sum(int((d == 0).sum()) for d in realised)
    return _norm(realised), unchanged / sum(d.numel() for d in realised)


def _norm(tensors: list[torch.Tensor]) -> float:
    """L2 norm of all entries together, in float64."""
    return sum(float(t.double().square().sum()) for t in tensors) ** 0.5
