"""The tangent kernels of a run: their distances, their cone, and what each of them holds."""

from __future__ import annotations

from collections.abc import Callable

import torch

from twophase.training.progress import progress
from twophase.training.tasks import CLASSIFICATION

BLOCK = 32  # kernels held at once, twice


def gram(kernel: Callable[[int], torch.Tensor], count: int, size: int = BLOCK) -> torch.Tensor:
    """Frobenius products <H_a, H_b> (count, count), float64, of the kernels `kernel(0..count-1)`,
    or of other tensors of one shape.

    They are read in blocks of `size`, so that they need not be in memory together.

    >>> kernels = torch.eye(2), 3 * torch.eye(2)
    >>> gram(lambda index: kernels[index], count=2)
    tensor([[ 2.,  6.],
            [ 6., 18.]], dtype=torch.float64)
    """

    def block(start: int) -> torch.Tensor:
        stop = min(start + size, count)
        return torch.stack([kernel(index).flatten() for index in range(start, stop)]).double()

    starts = range(0, count, size)
    rows = []
    with progress("distances", len(starts) * (len(starts) + 1) // 2, "block") as bar:
        for i in starts:
            left = block(i)
            row = []
            for j in starts[: i // size + 1]:
                row.append(left @ (left if j == i else block(j)).T)
                bar.update()
            rows.append(torch.nn.functional.pad(torch.cat(row, 1), (0, count - i - len(left))))
    lower = torch.cat(rows).tril()
    return lower + lower.tril(-1).T


def kernel_distances(products: torch.Tensor) -> torch.Tensor:
    """S = 1 - <H, H'> / (|H| |H'|) for all pairs (arXiv 2505.13900, section 3), from `gram`.

    >>> kernels = torch.eye(2), 3 * torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> kernel_distances(gram(lambda index: kernels[index], count=3))[0]
    tensor([0.0000, 0.0000, 0.2929], dtype=torch.float64)
    """
    squares = products.diagonal()
    return 1 - products / torch.outer(squares, squares).sqrt()


def project(products: torch.Tensor, dimensions: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates (count, dimensions) of the unit-normalised kernels, and each axis's share.

    The axes are the top principal directions without centring, so that the origin of the picture
    is the origin of kernel space and the apex of the cone. Shares are of the sum of squares. The
    sign of each axis makes its largest coordinate positive.

    >>> coordinates, shares = project(torch.tensor([[1.0, 2.0], [2.0, 4.0]]).double(), 2)
    >>> coordinates[:, 0].round(decimals=6), shares.round(decimals=6)  # one direction
    (tensor([1., 1.], dtype=torch.float64), tensor([1., 0.], dtype=torch.float64))
    """
    cosines = 1 - kernel_distances(products)
    values, vectors = torch.linalg.eigh(cosines)
    values = values.flip(0)[:dimensions].clamp(min=0)
    coordinates = vectors.flip(1)[:, :dimensions] * values.sqrt()
    largest = coordinates.gather(0, coordinates.abs().argmax(0, keepdim=True))
    return coordinates * largest.sign(), values / len(cosines)


def effective_rank(kernel: torch.Tensor) -> float:
    """exp of the entropy of the eigenvalues over their sum (Roy and Vetterli 2007): r for r equal
    eigenvalues, whatever their size.

    >>> round(effective_rank(torch.diag(torch.tensor([5.0, 5.0, 0.0]))), 6)
    2.0
    """
    values = torch.linalg.eigvalsh(kernel.double()).clamp(min=0)
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def alignment(kernel: torch.Tensor, labels: torch.Tensor, classes: int) -> float:
    """Cosine of the kernel and that of the labels, <H, Y> / (|H| |Y|) (Baratin et al. 2021; Shan
    and Bordelon 2021).

    `labels` (n,) are of the kernel's examples, the same number of each class; y are their one-hot
    codes less their mean 1/C. For a kernel (n C, n C), Y is the product of y (n C,) with itself;
    for one (n, n) the product over classes, y y^T.

    >>> labels = torch.tensor([0, 1, 0, 1])
    >>> one_hot = torch.nn.functional.one_hot(labels).double() - 0.5
    >>> round(alignment(one_hot @ one_hot.T, labels, classes=2), 6)
    1.0
    """
    return alignment_with(kernel, CLASSIFICATION.targets(labels, classes))


def alignment_with(kernel: torch.Tensor, y: torch.Tensor | None) -> float:
    """The same with targets y (n, C) of any task, less their means; not a number without them.

    >>> y = torch.tensor([[1.0], [-1.0]]).double()
    >>> round(alignment_with(y @ y.T, y), 6)
    1.0
    """
    if y is None:
        return float("nan")
    y = y.reshape(-1, 1) if len(kernel) == y.numel() else y
    product = torch.trace(y.T @ kernel.double() @ y)
    return float(product / (kernel.double().norm() * (y.T @ y).norm()))


def cone_radii(cosines: torch.Tensor) -> torch.Tensor:
    """Angular radius (count,), in degrees, of the kernels from each on to the last: the largest
    angle between one of them and their mean direction.

    `cosines` (count, count) are those between the kernels.

    >>> cone_radii(torch.eye(2).double()).round()  # two kernels at right angles, then one alone
    tensor([45.,  0.], dtype=torch.float64)
    """
    radii = []
    for start in range(len(cosines)):
        window = cosines[start:, start:]
        along = window.sum(1) / window.sum().sqrt()  # with the mean of the unit vectors
        radii.append(along.min().clamp(-1, 1).arccos().rad2deg())
    return torch.stack(radii)


def random_walk(cosines: torch.Tensor) -> torch.Tensor:
    """Cosines (count, count) of a random walk with the same angles between neighbours, each step
    at right angles to all before: what a direction in a space of many dimensions does if nothing
    confines it. They are the products of the cosines between neighbours.

    >>> random_walk(torch.tensor([[1.0, 0.5, 0.9], [0.5, 1.0, 0.5], [0.9, 0.5, 1.0]]))[0]
    tensor([1.0000, 0.5000, 0.2500])
    """
    way = cosines.diagonal(offset=1).clamp(min=torch.finfo(cosines.dtype).tiny).log().cumsum(0)
    way = torch.cat([way.new_zeros(1), way])
    return (-(way[:, None] - way[None, :]).abs()).exp()


def velocities(distances: torch.Tensor, times: list[int]) -> list[float]:
    """S from each kernel to the next over the iterations between the two (Fort et al. 2020); not a
    number for the last.

    >>> velocities(torch.tensor([[0.0, 0.5, 0.9], [0.5, 0.0, 0.25], [0.9, 0.25, 0.0]]), [0, 1, 5])
    [0.5, 0.0625, nan]
    """
    between = torch.tensor(times).diff().to(distances)
    return [*(distances.diagonal(offset=1) / between).tolist(), float("nan")]


def growth_exponents(distances: torch.Tensor, times: list[int], reach: int) -> list[float]:
    """For each kernel the slope of log S(t, t + dt) over log dt, over the later kernels at most
    `reach` iterations away: 0 if the kernel is confined, 1 if it diffuses freely, 2 if it moves
    straight on.

    `distances` (count, count) are between the kernels at `times`, which rise. Not a number where
    fewer than three kernels are so near, or one of them is the same kernel.

    >>> t = torch.tensor([0.0, 1, 2, 4, 7])
    >>> squares = (t[:, None] - t[None, :]).abs() ** 2
    >>> [round(each, 3) for each in growth_exponents(squares, [0, 1, 2, 4, 7], 6)]
    [2.0, 2.0, nan, nan, nan]
    """
    # In units of the smallest interval: the slope is the same, and so its bits on an even grid.
    at = torch.tensor(times)
    unit = int(at.diff().min())
    exponents = []
    for t in range(len(distances)):
        near = (at > at[t]) & (at <= at[t] + reach)
        ahead = distances[t, near].clamp(min=0).log()
        dt = ((at[near] - at[t]).to(ahead) / unit).log()
        if len(ahead) < 3 or not ahead.isfinite().all():
            exponents.append(float("nan"))
            continue
        dt = dt - dt.mean()
        exponents.append(float((dt * ahead).sum() / dt.square().sum()))
    return exponents
