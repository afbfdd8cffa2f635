"""Known answers for the curvature of the loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, hessian

from twophase.measures.curvature import batch_sharpness, largest_eigenvalue, sharpness
from twophase.networks.resnet import resnet8
from twophase.stages.curvature import _thresholds
from twophase.study.optimizers import SGD
from twophase.training.tasks import REGRESSION


def _examples(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 1, 8, 8, generator=generator)
    return images, torch.randint(10, (n,), generator=generator)


def test_lanczos_finds_a_quadratics_largest_eigenvalue():
    values = torch.cat([torch.linspace(-3, 1, 39), torch.tensor([2.5])]).double()
    basis = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64))[0]
    matrix = basis @ torch.diag(values) @ basis.T
    start = torch.randn(40, dtype=torch.float64)
    assert largest_eigenvalue(lambda v: matrix @ v, start, 40) == pytest.approx(2.5, rel=1e-10)
    few = largest_eigenvalue(lambda v: matrix @ v, start, 12)
    assert 2.4 < few <= 2.5 + 1e-10
    # An invariant subspace ends it early: this start sees two eigenvalues only.
    start = basis[:, 0] + basis[:, 20]
    assert largest_eigenvalue(lambda v: matrix @ v, start, 40) == pytest.approx(float(values[20]))


def test_a_curvature_that_is_no_number_says_so():
    assert math.isnan(largest_eigenvalue(lambda v: math.nan * v, torch.ones(3), steps=3))
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    fitted = torch.ones(4, 2), torch.zeros(4, 1)
    assert math.isnan(batch_sharpness(model, [fitted], loss=REGRESSION.loss))


def _mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 10)).double()


def _hessian(model, images, labels):
    parameters = dict(model.named_parameters())

    def loss(flat):
        parts = flat.split([p.numel() for p in parameters.values()])
        values = {n: f.view_as(p) for f, (n, p) in zip(parts, parameters.items(), strict=True)}
        return F.cross_entropy(functional_call(model, values, (images,)), labels)

    flat = torch.cat([p.detach().flatten() for p in parameters.values()])
    gradient = torch.func.grad(loss)(flat)
    return hessian(loss)(flat), gradient


def test_the_sharpness_is_the_hessians_largest_eigenvalue():
    images, labels = _examples(20)
    model, images = _mlp(), images.double()
    matrix, _ = _hessian(model, images, labels)
    expected = float(torch.linalg.eigvalsh(matrix)[-1])
    assert sharpness(model, (images, labels), 60) == pytest.approx(expected, rel=1e-9)
    vector = torch.randn(len(matrix), dtype=torch.float64)
    for _ in range(3000):  # power iteration, shifted so that the largest is the largest in size
        vector = matrix @ vector + 5 * vector
        vector = vector / vector.norm()
    assert float(vector @ matrix @ vector) == pytest.approx(expected, rel=1e-6)


def test_the_batch_sharpness_is_each_batchs_own_curvature_along_its_own_gradient():
    model, above, below, batches = _mlp(), 0.0, 0.0, []
    for seed in range(3):
        images, labels = _examples(6, seed)
        batches.append((images.double(), labels))
        matrix, gradient = _hessian(model, images.double(), labels)
        above += float(gradient @ matrix @ gradient)
        below += float(gradient @ gradient)
    assert batch_sharpness(model, batches) == pytest.approx(above / below, rel=1e-9)


def test_the_network_stays_as_it_was():
    torch.manual_seed(0)
    model = resnet8()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    assert sharpness(model, _examples(16), 3) == sharpness(model, _examples(16), 3)
    batch_sharpness(model, [_examples(8)])
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_on_a_quadratic_grows_beyond_the_threshold_and_falls_below(momentum, nesterov):
    training = {"iterations": 1, "batch_size": 1, "lr": 0.1, "weight_decay": 0.0}
    told = _thresholds(SGD(**training, momentum=momentum, nesterov=nesterov), 0.1)
    assert told["threshold"] == pytest.approx(20)

    def after(curvature):
        x = torch.ones(1, dtype=torch.float64, requires_grad=True)
        steps = torch.optim.SGD([x], 0.1, momentum=momentum, nesterov=nesterov)
        for _ in range(600):
            steps.zero_grad()
            (curvature * x.square() / 2).backward()
            steps.step()
        return float(x.detach().abs())

    assert after(0.98 * told["momentum_threshold"]) < 1e-3
    assert after(1.02 * told["momentum_threshold"]) > 1e3
