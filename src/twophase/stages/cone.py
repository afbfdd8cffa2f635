"""Stage `cone`: distances between the kernels of a run, and their picture in three dimensions."""

from __future__ import annotations

import pandas as pd
import torch

from twophase import stages
from twophase.compute import prepare
from twophase.measures.kernel import gram, kernel_distances, project
from twophase.store.artifacts import read_tensors, write_table
from twophase.study import Run


def cone(run: Run) -> None:
    """Write the tables `kernel_distance` and `kernel_projection` of one base run.

    `kernel_distance`: study, model, seed, t, u, distance, for all ordered pairs.
    `kernel_projection`: study, model, seed, t, x, y, z, x_share, y_share, z_share.
    """
    device = prepare(run.study.compute)
    steps = run.model.kernel_steps()
    shape = [-1, -1]  # of the first kernel, as soon as it is read

    def kernel(index: int) -> torch.Tensor:
        tensors = read_tensors(stages.kernel_file(run, steps[index]), {"kernel": shape})
        shape[:] = tensors["kernel"].shape
        return tensors["kernel"].to(device)

    products = gram(kernel, len(steps))
    distances = kernel_distances(products).tolist()
    rows = [
        {**run.identity, "t": t, "u": u, "distance": distances[i][j]}
        for i, t in enumerate(steps)
        for j, u in enumerate(steps)
    ]
    coordinates, shares = project(products)
    shares = dict(zip(("x_share", "y_share", "z_share"), shares.tolist(), strict=False))
    points = [
        {**run.identity, "t": t, **dict(zip("xyz", point, strict=False)), **shares}
        for t, point in zip(steps, coordinates.tolist(), strict=True)
    ]
    write_table(stages.run_table(run, "kernel_projection"), pd.DataFrame(points))
    write_table(stages.run_table(run, "kernel_distance"), pd.DataFrame(rows))
