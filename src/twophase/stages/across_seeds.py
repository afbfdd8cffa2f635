"""Stage `across_seeds`: angles between the kernels of different seeds at the same iteration."""

import pandas as pd
import torch

from twophase.measures.seeds import angles_to_others
from twophase.store.artifacts import read_tensors, write_table
from twophase.study import stages
from twophase.study.kernel import kernel_steps
from twophase.study.model import Study
from twophase.training.machine import prepare
from twophase.training.progress import progress


def across_seeds(study: Study) -> None:
    """Write the table `across_seeds` of every base run: study, model, seed, t, angle (degrees, of
    the run's kernel with the mean direction of those of the model's other seeds at t; not a number
    if there is no other).

    It says how far apart kernels are that share nothing but network, images and time.
    """
    device = prepare(study.compute)
    runs = stages.runs_of(study, "across_seeds")
    models = [[run for run in runs if run.name == name] for name in study.models]
    models = [its_runs for its_runs in models if its_runs]
    total = sum(len(kernel_steps(its_runs[0])) for its_runs in models)
    with progress("angles", total, "iteration") as bar:
        for its_runs in models:
            rows: list[dict] = []
            for t in kernel_steps(its_runs[0]):
                kernels = []
                for run in its_runs:
                    shapes = {"kernel": kernels[0].shape if kernels else [-1, -1]}
                    tensors = read_tensors(stages.kernel_file(run, t), shapes)
                    kernels.append(tensors["kernel"].to(device))
                angles = angles_to_others(torch.stack(kernels)).tolist()
                rows += [
                    {**run.identity, "t": t, "angle": angle}
                    for run, angle in zip(its_runs, angles, strict=True)
                ]
                bar.update()
            table = pd.DataFrame(rows)
            for run in its_runs:
                own = table[table["seed"] == run.seed].reset_index(drop=True)
                write_table(stages.run_table(run, "across_seeds"), own)
