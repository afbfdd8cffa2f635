"""A step along the direction in which the training loss bends most."""

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from twophase.errors import RunError
from twophase.measures.curvature import Product, buffers_kept, hessian_product, loss_gradient
from twophase.study.perturbations import Hessian
from twophase.training.noise import network_noise
from twophase.training.perturbation import Added, At, of_length

TOLERANCE, RESTARTS = 1e-4, 100  # of the eigenvalue; of Lanczos' method


def added(perturbation: Hessian, at: At) -> Added:
    """The step, of the length that was asked for, to the side on which the loss rises."""
    examples, parameters = at.examples(perturbation.examples), at.parameters(perturbation.only)
    tensors = list(parameters.values())
    at.model.train()
    with buffers_kept(at.model), network_noise(at.other_seed(), at.step, examples[0].device):
        gradient = loss_gradient(at.model, examples, tensors, at.data.task.loss)
        start = torch.from_numpy(at.rng().standard_normal(len(gradient))).to(gradient)
        flat = top_eigenvector(hessian_product(gradient, tensors), start)
    flat = flat if float(flat @ gradient.detach()) >= 0 else -flat
    parts = flat.split([p.numel() for p in tensors])
    vector = {n: v.view(p.shape) for (n, p), v in zip(parameters.items(), parts, strict=True)}
    return of_length(vector, perturbation, parameters)


def top_eigenvector(product: Product, start: torch.Tensor) -> torch.Tensor:
    """The eigenvector (p,), of norm 1, of a symmetric matrix's largest eigenvalue: Lanczos' method
    with restarts, from `start` (p,). `product(v)` multiplies the matrix with v (p,).

    Raises `RunError` if it is not found.

    >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    >>> vector = top_eigenvector(lambda v: matrix @ v, torch.tensor([1.0, 0.0]))
    >>> vector.abs().numpy().round(4)
    array([0.7071, 0.7071], dtype=float32)
    """
    if len(start) == 1:
        return torch.ones_like(start)
    first = start.cpu().numpy()

    def times(v: np.ndarray) -> np.ndarray:
        vector = torch.from_numpy(np.ascontiguousarray(v.reshape(-1)))
        return product(vector.to(start)).cpu().numpy()

    operator = LinearOperator((len(first),) * 2, matvec=times, dtype=first.dtype)
    options = {"k": 1, "which": "LA", "v0": first, "tol": TOLERANCE, "maxiter": RESTARTS}
    try:
        _, vectors = eigsh(operator, **options)
    except ArpackNoConvergence:
        raise RunError(
            "chaos: the Hessian's top eigenvector was not found: two are alike"
        ) from None
    return torch.from_numpy(vectors[:, 0].copy()).to(start)
