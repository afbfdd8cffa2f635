"""Stage `kernel`: the tangent kernels along a base run."""

import pandas as pd

from twophase.entk import KernelError, entk
from twophase.errors import RunError
from twophase.store.artifacts import read_tensors, write_table, write_tensors
from twophase.study import stages
from twophase.study.kernel import kernel_steps
from twophase.study.run import Run
from twophase.training.batches import kernel_inputs, load_data
from twophase.training.loop import initial_state, load_state
from twophase.training.machine import prepare
from twophase.training.progress import progress
from twophase.training.tasks import of_outputs


def kernel(run: Run) -> None:
    """Write the kernel of every kernel checkpoint, and the table `kernel`.

    Kernels that are there already are kept. Inputs are training images without augmentation, the
    same number of each class; where the task has no classes, the first examples. Table: study,
    model, seed, t, norm (Frobenius).
    """
    options = run.model.kernel
    device = prepare(run.study.compute.of_kernels())
    data = load_data(stages.data_file(run.study), run.study.data.images, device)
    chosen = kernel_inputs(data, options)
    inputs = data.normalised(data.train.images[chosen])
    state = initial_state(run.model, data, run.seed)
    network = of_outputs(state.model, data.task, data.classes, options.projection)
    rows = []
    steps = kernel_steps(run)
    with progress(f"kernels of {run}", len(steps), "kernel") as bar:
        for t in steps:
            file = stages.kernel_file(run, t)
            if not file.path.exists():
                load_state(stages.base_state(run, t), state, t)
                try:
                    found = entk(network, inputs, kind=options.kind)
                except KernelError as error:
                    raise RunError(f"{run}: kernel at t = {t}: {error}") from error
                write_tensors(file, {"kernel": found})
            found = read_tensors(file, {"kernel": (-1, -1)})["kernel"]
            rows.append({**run.identity, "t": t, "norm": float(found.double().norm())})
            bar.update()
    write_table(stages.run_table(run, "kernel"), pd.DataFrame(rows))
