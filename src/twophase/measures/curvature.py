"""Curvature of the training loss: the largest Hessian eigenvalue, and batch sharpness.

The Hessian is never formed: its products with vectors come from two backward passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from twophase.training.attention import plain_attention
from twophase.training.tasks import CLASSIFICATION
from twophase.training.tensors import named_state, trained

Examples = tuple[torch.Tensor, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Product = Callable[[torch.Tensor], torch.Tensor]


def largest_eigenvalue(product: Product, start: torch.Tensor, steps: int) -> float:
    """Largest eigenvalue of a symmetric matrix, by `steps` steps of Lanczos from `start` (p,).

    `product(v)` multiplies the matrix with v (p,). All vectors are kept orthogonal to each other,
    so that no eigenvalue is found twice. Exact after p steps, and from below before. Not a number
    if a product is not finite.

    >>> matrix = torch.diag(torch.tensor([3.0, -5.0, 1.0]))
    >>> round(largest_eigenvalue(lambda v: matrix @ v, torch.ones(3), steps=3), 4)
    3.0
    """
    basis = [start / start.norm()]
    diagonal, beside = [], []
    for _ in range(steps):
        w = product(basis[-1])
        diagonal.append(w @ basis[-1])
        for _ in range(2):  # once more for what rounding left
            for v in basis:
                w = w - (w @ v) * v
        beside.append(w.norm())
        if beside[-1] <= 1e-6 * abs(diagonal[0]):
            break
        basis.append(w / beside[-1])
    size = len(diagonal)
    # The small matrix of Lanczos, in float64.
    matrix = torch.diag(torch.stack(diagonal).double())
    if size > 1:
        off = torch.stack(beside[: size - 1]).double()
        matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    return float(torch.linalg.eigvalsh(matrix.cpu())[-1]) if matrix.isfinite().all() else math.nan


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Leave batch norm's running statistics as they were.

    >>> norm = torch.nn.BatchNorm1d(1)
    >>> with buffers_kept(norm):
    ...     _ = norm(torch.tensor([[3.0], [5.0]]))
    >>> norm.running_mean
    tensor([0.])
    """
    before = {name: t.clone() for name, t in named_state(model).items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, t in named_state(model).items():
                t.copy_(before[name])


def loss_gradient(
    model: nn.Module,
    examples: Examples,
    parameters: list[torch.Tensor],
    mean_loss: Loss = CLASSIFICATION.loss,
) -> torch.Tensor:
    """The gradient (p,) of the mean loss in these parameters, with its graph.

    >>> model = torch.nn.Linear(1, 2, bias=False)
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> examples = torch.tensor([[2.0]]), torch.tensor([0])
    >>> loss_gradient(model, examples, [model.weight]).tolist()  # (p - one hot) x at p = 1/2
    [-1.0, 1.0]
    """
    images, labels = examples
    with torch.enable_grad(), plain_attention():
        loss = mean_loss(model(images), labels)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in gradients])


def hessian_product(gradient: torch.Tensor, parameters: list[torch.Tensor]) -> Product:
    """What multiplies the Hessian with a vector (p,), from the gradient (p,) with its graph.

    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> (gradient,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    >>> hessian_product(gradient, [x])(torch.tensor([1.0, 1.0]))  # 6 x on the diagonal
    tensor([ 6., 12.])
    """

    def product(v: torch.Tensor) -> torch.Tensor:
        products = torch.autograd.grad(
            gradient, parameters, v, retain_graph=True, materialize_grads=True
        )
        return torch.cat([p.flatten() for p in products]).detach()

    return product


def sharpness(
    model: nn.Module, examples: Examples, steps: int, loss: Loss = CLASSIFICATION.loss
) -> float:
    """Largest eigenvalue of the Hessian of the mean loss, cross-entropy unless `loss(out, labels)`
    is another, of `examples`, images (n, C, H, W) and labels (n,), in train mode: batch norm takes
    their own statistics (Cohen et al. 2021).

    >>> model = torch.nn.Linear(1, 2, bias=False).double()
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> examples = torch.tensor([[2.0]]).double(), torch.tensor([0])
    >>> round(sharpness(model, examples, steps=2), 6)  # p (1 - p) |x|^2 |(1, -1)|^2 at p = 1/2
    2.0
    """
    model.train()
    with buffers_kept(model):
        parameters = list(trained(model).values())
        gradient = loss_gradient(model, examples, parameters, loss)
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(len(gradient), generator=generator).to(gradient)
        return largest_eigenvalue(hessian_product(gradient, parameters), start, steps)


def batch_sharpness(
    model: nn.Module, batches: list[Examples], loss: Loss = CLASSIFICATION.loss
) -> float:
    """E[g^T H g] / E[g^T g] over batches, with each batch's own gradient g and Hessian H
    (Andreyev and Beneventano 2024, arXiv 2412.20553). Not a number where all gradients are zero.

    >>> model = torch.nn.Linear(1, 2, bias=False).double()
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> batches = [(torch.tensor([[x]]).double(), torch.tensor([0])) for x in (1.0, 2.0)]
    >>> round(batch_sharpness(model, batches), 6)  # Hessians 1/2 and 2, squared gradients 1/2 and 2
    1.7
    """
    model.train()
    parameters = list(trained(model).values())
    above = below = 0.0
    with buffers_kept(model):
        for examples in batches:
            gradient = loss_gradient(model, examples, parameters, loss)
            g = gradient.detach()
            above += float((hessian_product(gradient, parameters)(g) * g).double().sum())
            below += float(g.double().square().sum())
    return above / below if below else math.nan
