"""Known answers for the numbers of the cone, the kernel's content and the trajectory's map."""

import math

import pytest
import torch

from twophase.measures.kernel import (
    alignment,
    cone_radii,
    effective_rank,
    growth_exponents,
    random_walk,
)
from twophase.measures.trajectory import trajectory_map

DOUBLE = torch.float64


def _cosines(points):
    units = points / points.norm(dim=1, keepdim=True)
    return units @ units.T


def test_the_effective_rank_of_r_equal_eigenvalues_is_r():
    basis = torch.linalg.qr(torch.randn(30, 30, dtype=DOUBLE))[0][:, :7]
    assert effective_rank(5 * basis @ basis.T) == pytest.approx(7, rel=1e-9)
    assert effective_rank(torch.eye(30)) == pytest.approx(30, rel=1e-6)


@pytest.mark.parametrize("full", [True, False])
def test_the_alignment_of_the_labels_own_kernel_is_one_and_of_what_they_do_not_see_zero(full):
    labels, classes = torch.arange(12) % 3, 3
    y = torch.nn.functional.one_hot(labels, classes).double() - 1 / 3
    own = torch.outer(y.flatten(), y.flatten()) if full else y @ y.T
    assert alignment(7 * own, labels, classes) == pytest.approx(1, rel=1e-12)
    assert alignment(torch.ones(len(own), len(own)), labels, classes) == pytest.approx(0, abs=1e-12)


def test_the_radius_of_points_on_a_circle_is_half_the_arc():
    angles = torch.linspace(0, 40, 9, dtype=DOUBLE).deg2rad()
    radii = cone_radii(_cosines(torch.stack([angles.cos(), angles.sin()], 1)))
    assert radii.tolist() == pytest.approx([20 - 2.5 * i for i in range(9)], abs=1e-5)


def test_the_null_is_a_random_walk_in_many_dimensions():
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(12, 200_000, generator=generator, dtype=DOUBLE) * 0.2 / 200_000**0.5
    steps[0] = torch.nn.functional.one_hot(torch.tensor(0), 200_000)
    walk = _cosines(steps.cumsum(0))
    # Of any length of its steps, and whatever its growing distance from the origin.
    assert torch.allclose(random_walk(walk), walk, atol=0.005)


def test_the_exponents_of_diffusion_straight_motion_and_confinement():
    generator = torch.Generator().manual_seed(1)
    start = torch.nn.functional.one_hot(torch.tensor(0), 50_000).double()
    noise = torch.randn(20, 50_000, generator=generator, dtype=DOUBLE) / 50_000**0.5
    line = torch.arange(20, dtype=DOUBLE)[:, None] * noise[:1]
    paths = {
        1: start + 1e-3 * noise.cumsum(0),
        2: start + 1e-3 * line,
        0: start + 1e-3 * noise,
    }
    for exponent, points in paths.items():
        found = growth_exponents(1 - _cosines(points), list(range(0, 200, 10)), 80)
        assert found[0] == pytest.approx(exponent, abs=0.1)
        assert [math.isnan(each) for each in found] == [False] * 17 + [True] * 3


def test_the_map_of_a_trajectory_is_that_of_its_vectors():
    generator = torch.Generator().manual_seed(2)
    points = 1e3 + torch.randn(7, 40, generator=generator, dtype=DOUBLE)
    maps = trajectory_map(lambda i: points[i], 7)
    ways = points - points[0]
    assert torch.allclose(maps["cosine"], _cosines(points), rtol=0, atol=1e-12)
    assert torch.allclose(maps["displacement_cosine"][1:, 1:], _cosines(ways[1:]), atol=1e-12)
    assert maps["displacement_cosine"][0].isnan().all()
    assert torch.allclose(maps["l2"], torch.cdist(points, points), atol=1e-6)
