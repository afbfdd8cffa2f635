import numpy as np
import pytest
import torch

from twophase.measures import kernel
from twophase.stages.cone import cone
from twophase.stages.kernel import kernel as compute_kernels
from twophase.store.artifacts import read_table, read_tensors
from twophase.study import stages
from twophase.study.run import Run


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


def test_the_tables_of_a_run_agree_with_a_plain_second_implementation(smoke, in_trained):
    run = Run(smoke, "vgg", 0)
    compute_kernels(run)
    cone(run)
    steps, every = [0, 4, 8, 12], 4
    kernels = [read_tensors(stages.kernel_file(run, t))["kernel"].double().numpy() for t in steps]
    units = np.stack([k.ravel() / np.linalg.norm(k) for k in kernels])
    table = read_table(stages.run_table(run, "kernel_distance"))
    distance = table.pivot(index="t", columns="u", values="distance").loc[steps, steps].to_numpy()
    assert distance == pytest.approx(1 - units @ units.T, abs=1e-12)

    found = read_table(stages.run_table(run, "cone")).set_index("t")
    speeds = [distance[i, i + 1] / every for i in range(3)]  # each iteration
    assert found["velocity"].tolist()[:3] == pytest.approx(speeds)
    middle = units.sum(0) / np.linalg.norm(units.sum(0))
    assert found["radius"][0] == pytest.approx(np.degrees(np.arccos((units @ middle).min())))
    assert found["exponent"].isna().all()  # dt goes up to two kernels, and three make a slope

    content = read_table(stages.run_table(run, "kernel_content")).set_index("t")
    assert content["norm"].tolist() == pytest.approx([np.linalg.norm(k) for k in kernels])
    assert content["trace"].tolist() == pytest.approx([np.trace(k) / 10 for k in kernels])
