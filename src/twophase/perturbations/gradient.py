"""A step up the gradient of a batch that training does not see."""

from twophase.measures.curvature import buffers_kept, loss_gradient
from twophase.study.perturbations import Gradient
from twophase.training.noise import network_noise
from twophase.training.perturbation import Added, At, of_length


def added(perturbation: Gradient, at: At) -> Added:
    """The step, of the length that was asked for."""
    batch, parameters = at.batch(), at.parameters(perturbation.only)
    tensors = list(parameters.values())
    at.model.train()
    with buffers_kept(at.model), network_noise(at.other_seed(), at.step, batch[0].device):
        gradient = loss_gradient(at.model, batch, tensors, at.data.task.loss).detach()
    parts = gradient.split([p.numel() for p in tensors])
    vector = {n: g.view(p.shape) for (n, p), g in zip(parameters.items(), parts, strict=True)}
    return of_length(vector, perturbation, parameters)
