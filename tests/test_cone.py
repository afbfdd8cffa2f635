import pytest
import torch

from twophase.measures import kernel


def _kernels(count, size=6):
    generator = torch.Generator().manual_seed(count)
    factors = torch.randn(count, size, size, generator=generator).double()
    return factors @ factors.transpose(1, 2)


def test_blocks_give_all_products(monkeypatch):
    monkeypatch.setattr(kernel, "BLOCK", 3)
    kernels = _kernels(8)
    flat = kernels.flatten(1)
    products = kernel.gram(lambda index: kernels[index], 8)
    assert torch.allclose(products, flat @ flat.T, rtol=1e-12)
    assert torch.equal(products, products.T)


def test_the_distance_is_the_definitions_and_blind_to_scale():
    kernels = _kernels(4)
    distances = kernel.kernel_distances(kernel.gram(lambda index: kernels[index], 4))
    a, b = kernels[0], kernels[1]
    expected = 1 - (a * b).sum() / (a.norm() * b.norm())
    assert float(distances[0, 1]) == pytest.approx(float(expected))
    scaled = kernel.kernel_distances(kernel.gram(lambda index: (index + 2.0) * kernels[index], 4))
    assert torch.allclose(scaled, distances, atol=1e-14)
    assert distances.diagonal().tolist() == [0] * 4


def test_a_projection_of_three_dimensional_kernels_loses_nothing():
    # Kernels that are mixtures of three: unit vectors in a space of three dimensions.
    mixtures = torch.rand(9, 3, generator=torch.Generator().manual_seed(1)).double()
    kernels = torch.einsum("ak,kij->aij", mixtures, _kernels(3))
    products = kernel.gram(lambda index: kernels[index], 9)
    coordinates, shares = kernel.project(products)
    assert torch.allclose(coordinates @ coordinates.T, 1 - kernel.kernel_distances(products))
    assert torch.allclose(coordinates.norm(dim=1), torch.ones(9).double())
    assert float(shares.sum()) == pytest.approx(1)
    assert float(shares[0]) >= float(shares[1]) >= float(shares[2])
