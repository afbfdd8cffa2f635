"""Stage `kernel`: the tangent kernels along a base run."""

import pandas as pd

from twophase import paths
from twophase.artifacts import read_tensors, write_table, write_tensors
from twophase.compute import prepare
from twophase.data import balanced_subset, load_data
from twophase.kernels import entk
from twophase.progress import progress
from twophase.study import Study
from twophase.train import initial_state, load_state


def compute_kernels(study: Study, model: str, seed: int) -> None:
    """Write the kernel of every kernel checkpoint, and the table `kernel_norm`.

    Kernels that are there already are kept. Inputs are training images without augmentation, the
    same number of each class. Table: study, model, seed, t, norm (Frobenius).
    """
    plan = study.models[model]
    data = load_data(study, prepare(study.compute))
    chosen = balanced_subset(data.train.labels, plan.kernel.examples_per_class)
    inputs = data.normalised(data.train.images[chosen])
    identity = {"study": study.name, "model": model, "seed": seed}
    state = initial_state(plan, data, seed)
    rows = []
    steps = plan.kernel_steps()
    with progress(f"kernels of {model}, seed {seed}", len(steps), "kernel") as bar:
        for t in steps:
            file = paths.checkpoint(paths.kernel(study, model, seed), t)
            kernel_identity = {"kind": "kernel", **identity, "step": t}
            if not file.exists():
                origin = paths.checkpoint(paths.base(study, model, seed), t)
                load_state(origin, state, {**identity, "run": "base"}, t)
                kernel = entk(state.model, inputs, kind=plan.kernel.kind)
                write_tensors(file, {"kernel": kernel}, kernel_identity)
            kernel = read_tensors(file, kernel_identity, {"kernel": (-1, -1)})["kernel"]
            rows.append({**identity, "t": t, "norm": float(kernel.double().norm())})
            bar.update()
    table = paths.kernel_norm(study, model, seed)
    write_table(table, pd.DataFrame(rows), {"kind": "kernel_norm", **identity})
