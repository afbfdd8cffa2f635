"""A change of one entry alone of the parameters."""

import math

import numpy as np
import torch

from twophase.study.perturbations import OneWeight, Ulp
from twophase.training.perturbation import Added, At, of_length


def added(perturbation: OneWeight | Ulp, at: At) -> Added:
    """Zero, but for an entry that is drawn evenly from all entries."""
    parameters = at.parameters(perturbation.only)
    entry = int(at.rng().integers(sum(p.numel() for p in parameters.values())))
    ends = np.cumsum([p.numel() for p in parameters.values()])
    which = int(np.searchsorted(ends, entry, side="right"))
    name, parameter = list(parameters.items())[which]
    entry -= int(ends[which]) - parameter.numel()
    place = tuple(int(i) for i in torch.unravel_index(torch.tensor(entry), parameter.shape))
    vector = torch.zeros(parameter.shape, dtype=torch.float64, device=parameter.device)
    vector[place] = 1.0
    if isinstance(perturbation, OneWeight):
        return of_length({name: vector}, perturbation, parameters)
    before = parameter.detach()[place]
    after = torch.nextafter(before, torch.full_like(before, math.inf))
    return {name: vector * (after.double() - before.double())}
