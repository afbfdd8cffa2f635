"""Stage `trajectory`: the way of a base run through the space of parameters."""

import pandas as pd
import torch

from twophase.measures.distance import parameter_vector
from twophase.measures.trajectory import trajectory_map
from twophase.store.artifacts import write_table
from twophase.study import stages
from twophase.study.base import checkpoints
from twophase.study.run import Run
from twophase.training.batches import load_data
from twophase.training.loop import initial_state, load_state
from twophase.training.machine import prepare


def trajectory(run: Run) -> None:
    """Write the table `trajectory` of one base run.

    Table: study, model, seed, t, u, then for all ordered pairs of its checkpoints `cosine` of
    theta_t and theta_u, `displacement_cosine` of theta_t - theta_0 and theta_u - theta_0 (not a
    number where one of them is zero), and `l2`, the distance of theta_t and theta_u.
    """
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    state = initial_state(run.model, data, run.seed)
    steps = checkpoints(run)

    def vector(index: int) -> torch.Tensor:
        load_state(stages.base_state(run, steps[index]), state, steps[index])
        return parameter_vector(state.model)

    maps = trajectory_map(vector, len(steps))
    rows = [
        {**run.identity, "t": t, "u": u, **{name: m[i, j].item() for name, m in maps.items()}}
        for i, t in enumerate(steps)
        for j, u in enumerate(steps)
    ]
    write_table(stages.run_table(run, "trajectory"), pd.DataFrame(rows))
