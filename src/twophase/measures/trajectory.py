"""The map of a trajectory: cosines between all pairs of its points (Singh et al. 2025).

The map of displacements is the within-run map of arXiv 2505.13900, equation 1, of which that paper
shows no picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from twophase.measures.kernel import gram

BLOCK_BYTES = 256 << 20  # of vectors that are held at once, twice


def trajectory_map(vector: Callable[[int], torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Maps (count, count) of the points `vector(0..count-1)`, each (parameters,) in float64.

    `cosine` of the points, `displacement_cosine` of the ways from the first one (not a number
    where a way is zero), and `l2` distance.

    >>> points = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, -1.0]]).double()
    >>> found = trajectory_map(lambda index: points[index], 3)
    >>> found["displacement_cosine"][1, 2], found["l2"][1, 2]
    (tensor(-1., dtype=torch.float64), tensor(2., dtype=torch.float64))
    """
    start = vector(0)
    # The first point and the ways from it: differences of large products would lose small ways.
    size = max(1, BLOCK_BYTES // (start.numel() * start.element_size()))
    products = gram(lambda i: start if i == 0 else vector(i - 1) - start, count + 1, size)
    along, ways = products[0, 1:], products[1:, 1:]
    points = products[0, 0] + along[:, None] + along[None, :] + ways
    squares = ways.diagonal()
    return {
        "cosine": points / torch.outer(points.diagonal(), points.diagonal()).sqrt(),
        "displacement_cosine": ways / torch.outer(squares, squares).sqrt(),
        "l2": (squares[:, None] + squares[None, :] - 2 * ways).clamp(min=0).sqrt(),
    }
