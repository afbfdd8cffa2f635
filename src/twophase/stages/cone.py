"""Stage `cone`: distances between the kernels of a run, their cone, and what each of them holds."""

from __future__ import annotations

import pandas as pd
import torch

from twophase.measures.kernel import (
    alignment_with,
    cone_radii,
    effective_rank,
    gram,
    growth_exponents,
    kernel_distances,
    project,
    random_walk,
    velocities,
)
from twophase.store.artifacts import read_tensors, write_table
from twophase.study import stages
from twophase.study.kernel import kernel_steps
from twophase.study.run import Run
from twophase.training.batches import kernel_inputs, load_data
from twophase.training.machine import prepare
from twophase.training.tasks import wanted


def cone(run: Run) -> None:
    """Write the tables of one base run's kernels, each with study, model, seed.

    `kernel_distance`: t, u, distance, for all ordered pairs. `kernel_projection`: t, x, y, z,
    x_share, y_share, z_share. `kernel_content`: t, trace (over examples), norm (Frobenius),
    effective_rank, alignment (with the labels; not a number for a task of the user's own). `cone`:
    t, radius (degrees, of the kernels from t on), null_radius (of a random walk with the same
    angles between neighbours), exponent (of S in dt, over kernels at most the longest of the
    study's `intervals` away), velocity (S to the next kernel, each iteration; Fort et al. 2020).
    """
    device = prepare(run.study.compute)
    data = load_data(stages.data_file(run.study), run.study.data.images, device)
    options, steps = run.model.kernel, kernel_steps(run)
    labels = data.train.labels[kernel_inputs(data, options)]
    targets = wanted(labels, data.task, data.classes, options.projection)
    shape = [-1, -1]  # of the first kernel, as soon as it is read

    def kernel(index: int) -> torch.Tensor:
        tensors = read_tensors(stages.kernel_file(run, steps[index]), {"kernel": shape})
        shape[:] = tensors["kernel"].shape
        return tensors["kernel"].to(device)

    def write(name: str, rows: list[dict]) -> None:
        write_table(stages.run_table(run, name), pd.DataFrame({**run.identity, **r} for r in rows))

    content = []
    for index, t in enumerate(steps):
        found = kernel(index)
        row = {"t": t, "trace": float(found.double().trace() / len(labels))}
        row |= {"norm": float(found.double().norm()), "effective_rank": effective_rank(found)}
        content.append(row | {"alignment": alignment_with(found, targets)})
    products = gram(kernel, len(steps))
    distances = kernel_distances(products)
    coordinates, shares = project(products)
    axes = dict(zip(("x_share", "y_share", "z_share"), shares.tolist(), strict=False))

    write("kernel_content", content)
    write(
        "kernel_projection",
        [
            {"t": t, **dict(zip("xyz", point, strict=False)), **axes}
            for t, point in zip(steps, coordinates.tolist(), strict=True)
        ],
    )
    radii, null = cone_radii(1 - distances), cone_radii(random_walk(1 - distances))
    exponents = growth_exponents(distances, steps, max(options.intervals))
    speed = velocities(distances, steps)
    columns = zip(steps, radii.tolist(), null.tolist(), exponents, speed, strict=True)
    names = ("t", "radius", "null_radius", "exponent", "velocity")
    write("cone", [dict(zip(names, values, strict=True)) for values in columns])
    write(
        "kernel_distance",
        [
            {"t": t, "u": u, "distance": distances[i, j].item()}
            for i, t in enumerate(steps)
            for j, u in enumerate(steps)
        ],
    )
