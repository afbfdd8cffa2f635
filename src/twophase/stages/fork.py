"""Stage `fork`: perturb a base run at t0 and train on, with the same SGD noise, unless that is
what differs."""

from functools import partial

import pandas as pd

from twophase.store.artifacts import check_origin, write_table
from twophase.store.origin import ORIGIN
from twophase.study import stages
from twophase.study.chaos import alone, compare_points, fork_shares
from twophase.study.run import Run
from twophase.training.batches import load_data
from twophase.training.loop import KEEP_MINUTES, advance, initial_state, load_state, trajectory
from twophase.training.machine import prepare
from twophase.training.perturbation import other_noise, perturb
from twophase.training.progress import progress


def fork(run: Run, part: int = 1, parts: int = 1, keep_minutes: float = KEEP_MINUTES) -> None:
    """Write the checkpoints of the run's forks, and of each fork its `perturbation`.

    Several jobs may share the forks: this does those of `part` of `parts`. Forks that have ended
    are kept. Perturbation: study, model, seed, direction (its number), t0, perturbation_l2
    (realised), unchanged (share of parameters that rounding left as they were).

    Raises `RunError` if the base run was made by other packages or on another kind of machine.
    """
    model = run.model
    chosen = fork_shares(run, parts)[part - 1]
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    state = initial_state(model, data, run.seed)
    total = sum(compare_points(run, t0)[-1] - t0 for t0, _ in chosen)
    with progress(f"forks of {run}", total) as bar:
        for t0, direction in chosen:
            end = stages.perturbation(run, t0, direction)
            files = {
                t1: stages.fork_state(run, t0, direction, t1) for t1 in compare_points(run, t0)
            }
            if end.path.exists() and all(file.path.exists() for file in files.values()):
                bar.update(max(files) - t0)
                continue
            origin = stages.base_state(run, t0)
            load_state(origin, state, t0)
            check_origin(origin.path, ORIGIN, "this fork")
            one, number = alone(run, direction)
            kind = one.model.chaos.perturbation
            given = run, data, t0, state.optimizer
            l2, unchanged = perturb(state.model, kind, run.seed, number, *given)
            noise = other_noise(kind, run.seed, number, run, t0)
            on = partial(advance, noise=noise) if noise else advance
            unfinished = stages.unfinished(next(iter(files.values())))
            for _ in trajectory(state, files, run, data, bar, unfinished, keep_minutes, on):
                pass
            row = {**run.identity, "direction": number, "t0": t0}
            row |= {"perturbation_l2": l2, "unchanged": unchanged}
            write_table(end, pd.DataFrame([row]))
