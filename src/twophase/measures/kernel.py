"""Distances between the tangent kernels of a run, and their picture in three dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch

from twophase.progress import progress

BLOCK = 32  # kernels held at once, twice


def gram(kernel: Callable[[int], torch.Tensor], count: int) -> torch.Tensor:
    """Frobenius products <H_a, H_b> (count, count), float64, of the kernels `kernel(0..count-1)`.

    Kernels are read in blocks, so that they need not be in memory together.
    """

    def block(start: int) -> torch.Tensor:
        stop = min(start + BLOCK, count)
        return torch.stack([kernel(index).flatten() for index in range(start, stop)]).double()

    starts = range(0, count, BLOCK)
    rows = []
    with progress("distances", len(starts) * (len(starts) + 1) // 2, "block") as bar:
        for i in starts:
            left = block(i)
            row = []
            for j in starts[: i // BLOCK + 1]:
                row.append(left @ (left if j == i else block(j)).T)
                bar.update()
            rows.append(torch.nn.functional.pad(torch.cat(row, 1), (0, count - i - len(left))))
    lower = torch.cat(rows).tril()
    return lower + lower.tril(-1).T


def kernel_distances(products: torch.Tensor) -> torch.Tensor:
    """S = 1 - <H, H'> / (|H| |H'|) for all pairs (arXiv 2505.13900, section 3), from `gram`."""
    squares = products.diagonal()
    return 1 - products / torch.outer(squares, squares).sqrt()


def project(products: torch.Tensor, dimensions: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates (count, dimensions) of the unit-normalised kernels, and each axis's share.

    The axes are the top principal directions without centring, so that the origin of the picture
    is the origin of kernel space and the apex of the cone. Shares are of the sum of squares. The
    sign of each axis makes its largest coordinate positive.
    """
    cosines = 1 - kernel_distances(products)
    values, vectors = torch.linalg.eigh(cosines)
    values = values.flip(0)[:dimensions].clamp(min=0)
    coordinates = vectors.flip(1)[:, :dimensions] * values.sqrt()
    largest = coordinates.gather(0, coordinates.abs().argmax(0, keepdim=True))
    return coordinates * largest.sign(), values / len(cosines)
