"""Gaussian noise on the parameters."""

import torch

from twophase.study.perturbations import Perturbation
from twophase.training.perturbation import Added, At, norm
from twophase.training.tensors import trained


def added(perturbation: Perturbation, at: At) -> Added:
    """The noise: of one direction always the same numbers, whatever its size, kind and `only`."""
    rng, every = at.rng(), trained(at.model)
    noise = {
        n: torch.from_numpy(rng.standard_normal(p.shape)).to(p.device) for n, p in every.items()
    }
    chosen = at.parameters(perturbation.only)
    noise = {name: noise[name] for name in chosen}
    scale = perturbation.size
    if perturbation.kind == "initial":
        return {
            name: scale * start.double().std(correction=0) * noise[name]
            for name, start in at.initial().items()
            if name in chosen
        }
    if perturbation.kind != "std":
        scale /= norm(list(noise.values()))
    if perturbation.kind == "relative":
        scale *= norm(list(chosen.values()))
    return {name: scale * direction for name, direction in noise.items()}
