"""Stage `cone`: distances between the kernels of a run, and their picture in three dimensions."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch

from twophase import paths
from twophase.artifacts import read_tensors, write_table
from twophase.compute import prepare
from twophase.progress import progress
from twophase.study import Study

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


def measure_cone(study: Study, model: str, seed: int) -> None:
    """Write the tables `kernel_distance` and `kernel_projection` of one base run.

    `kernel_distance`: study, model, seed, t, u, distance, for all ordered pairs.
    `kernel_projection`: study, model, seed, t, x, y, z, x_share, y_share, z_share.
    """
    device = prepare(study.compute)
    steps = study.models[model].kernel_steps()
    identity = {"study": study.name, "model": model, "seed": seed}
    folder = paths.kernel(study, model, seed)

    shape = [-1, -1]  # of the first kernel, as soon as it is read

    def kernel(index: int) -> torch.Tensor:
        t = steps[index]
        expect = {"kind": "kernel", **identity, "step": t}
        tensors = read_tensors(paths.checkpoint(folder, t), expect, {"kernel": shape})
        shape[:] = tensors["kernel"].shape
        return tensors["kernel"].to(device)

    products = gram(kernel, len(steps))
    distances = kernel_distances(products).tolist()
    rows = [
        {**identity, "t": t, "u": u, "distance": distances[i][j]}
        for i, t in enumerate(steps)
        for j, u in enumerate(steps)
    ]
    coordinates, shares = project(products)
    shares = dict(zip(("x_share", "y_share", "z_share"), shares.tolist(), strict=False))
    points = [
        {**identity, "t": t, **dict(zip("xyz", point, strict=False)), **shares}
        for t, point in zip(steps, coordinates.tolist(), strict=True)
    ]
    table = paths.kernel_projection(study, model, seed)
    write_table(table, pd.DataFrame(points), {"kind": "kernel_projection", **identity})
    table = paths.kernel_distance(study, model, seed)
    write_table(table, pd.DataFrame(rows), {"kind": "kernel_distance", **identity})
