"""Where every result of a study lies, relative to the working directory.

    results/<study>/data-<fingerprint>.safetensors
    results/<study>/<model>/seed<k>/<what>-<fingerprint>...

Stages and the Snakefile both ask here, so they cannot disagree. Checkpoints and kernels lie in
folders, one file per iteration; the table that a stage writes last, beside the folder, is what
Snakemake watches. A table's fingerprint also covers its grid: a new point in a grid asks for a
new table, and the stage then adds what the folder lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from twophase.fingerprint import fingerprint
from twophase.study import Model, Study

RESULTS = Path("results")


def _made_by_data(study: Study) -> str:
    # Where the images lie is not part of it: a checksum says what they are.
    return fingerprint("sources", study.data.images.model_dump(exclude={"path", "folder"}))


def _made_by_base(study: Study, model: Model) -> str:
    # The length of training is not part of it: a longer run begins with the shorter one.
    training = model.training.model_dump(exclude={"iterations", "lr_drops"})
    drops = [drop for drop in model.training.lr_drops if drop < model.training.iterations]
    batches = [_made_by_data(study), study.data.augmentation.model_dump()]
    network = model.network.model_dump()
    return fingerprint("base", batches, study.compute.model_dump(), network, training, drops)


def _made_by_fork(study: Study, model: Model) -> str:
    perturbation = model.chaos.perturbation.model_dump()
    return fingerprint("fork", _made_by_base(study, model), perturbation)


def _made_by_kernel(study: Study, model: Model) -> str:
    kernel = model.kernel.model_dump(include={"examples_per_class", "kind"})
    return fingerprint("kernel", _made_by_base(study, model), kernel)


def _run(study: Study, model: str, seed: int) -> Path:
    return RESULTS / study.name / model / f"seed{seed}"


def data(study: Study) -> Path:
    """The data set of the study, in its canonical form."""
    return RESULTS / study.name / f"data-{_made_by_data(study)}.safetensors"


def base(study: Study, model: str, seed: int) -> Path:
    """Folder of the base run's checkpoints."""
    return _run(study, model, seed) / f"base-{_made_by_base(study, study.models[model])}"


def checkpoint(folder: Path, step: int) -> Path:
    """The file of one iteration, of a run's state or of its kernel."""
    return folder / f"step{step:06d}.safetensors"


def training(study: Study, model: str, seed: int) -> Path:
    """Table of losses and accuracies along the base run."""
    plan = study.models[model]
    made_by = fingerprint(
        "base", _made_by_base(study, plan), plan.evaluation.model_dump(), plan.checkpoints()
    )
    return _run(study, model, seed) / f"training-{made_by}.parquet"


def fork(study: Study, model: str, seed: int, t0: int, direction: str) -> Path:
    """Folder of the checkpoints of one fork."""
    made_by = _made_by_fork(study, study.models[model])
    return _run(study, model, seed) / f"fork{t0:06d}-{made_by}" / f"direction-{direction}"


def perturbation(study: Study, model: str, seed: int, t0: int) -> Path:
    """Table of the perturbations at t0; written when all forks from t0 have ended."""
    plan = study.models[model]
    grid = [plan.directions(t0), plan.compare_points(t0)]
    made_by = fingerprint("fork", _made_by_fork(study, plan), grid)
    return _run(study, model, seed) / f"perturbation{t0:06d}-{made_by}.parquet"


def _made_by_chaos(study: Study, model: Model) -> str:
    # The threshold only tells how the barrier is judged, not how it is measured.
    chaos = model.chaos.model_dump(exclude={"barrier_threshold"})
    return fingerprint("chaos", _made_by_fork(study, model), chaos, model.evaluation.model_dump())


def comparison(study: Study, model: str, seed: int, t0: int, direction: str, t1: int) -> Path:
    """Table of one comparison, of a fork with its base run at t1."""
    plan = study.models[model]
    barrier = plan.chaos.model_dump(include={"barrier_points", "barrier_batch_norm"})
    made_by = fingerprint(
        "chaos", _made_by_fork(study, plan), barrier, plan.evaluation.model_dump()
    )
    folder = f"comparison{t0:06d}-{made_by}"
    return _run(study, model, seed) / folder / f"direction-{direction}" / f"step{t1:06d}.parquet"


def chaos(study: Study, model: str, seed: int) -> Path:
    """Table of the measures between forks and base run."""
    return _run(study, model, seed) / f"chaos-{_made_by_chaos(study, study.models[model])}.parquet"


def barrier_path(study: Study, model: str, seed: int) -> Path:
    """Table of the losses along the straight paths between forks and base run."""
    made_by = _made_by_chaos(study, study.models[model])
    return _run(study, model, seed) / f"barrier_path-{made_by}.parquet"


def kernel(study: Study, model: str, seed: int) -> Path:
    """Folder of the kernels along the base run."""
    return _run(study, model, seed) / f"kernel-{_made_by_kernel(study, study.models[model])}"


def kernel_norm(study: Study, model: str, seed: int) -> Path:
    """Table of the kernels' norms; written when all kernels are there."""
    plan = study.models[model]
    made_by = fingerprint("kernel", _made_by_kernel(study, plan), plan.kernel_steps())
    return _run(study, model, seed) / f"kernel_norm-{made_by}.parquet"


def _made_by_cone(study: Study, model: Model) -> str:
    return fingerprint("cone", _made_by_kernel(study, model), model.kernel_steps())


def kernel_distance(study: Study, model: str, seed: int) -> Path:
    """Table of the distances between all pairs of kernels."""
    made_by = _made_by_cone(study, study.models[model])
    return _run(study, model, seed) / f"kernel_distance-{made_by}.parquet"


def kernel_projection(study: Study, model: str, seed: int) -> Path:
    """Table of the kernels' coordinates in three dimensions."""
    made_by = _made_by_cone(study, study.models[model])
    return _run(study, model, seed) / f"kernel_projection-{made_by}.parquet"


def _made_by_linearized(study: Study, model: Model) -> str:
    options = [model.training.iterations, model.evaluation.model_dump()]
    return fingerprint("linearized", _made_by_base(study, model), *options)


def switch(study: Study, model: str, seed: int, t: int) -> Path:
    """Table of the end of one linearised training, switched at t."""
    folder = f"switch-{_made_by_linearized(study, study.models[model])}"
    return _run(study, model, seed) / folder / f"step{t:06d}.parquet"


def linearized(study: Study, model: str, seed: int) -> Path:
    """Table of the ends of linearised training, one row for each switch."""
    plan = study.models[model]
    switches = plan.linearized.switches
    made_by = fingerprint("linearized", _made_by_linearized(study, plan), switches)
    return _run(study, model, seed) / f"linearized-{made_by}.parquet"


# The tables of a run that have a summary over all runs of the study.
RUN_TABLES = {
    "training": training,
    "chaos": chaos,
    "kernel_distance": kernel_distance,
    "linearized": linearized,
}


def runs(study: Study, table: str) -> list[Path]:
    """The table called `table` of every model and seed of the study."""
    return [RUN_TABLES[table](study, m, seed) for m in study.models for seed in study.seeds]


def summary(study: Study, table: str) -> Path:
    """Mean and range, over seeds and directions, of the table called `table`."""
    made_by = fingerprint("summary", [str(path) for path in runs(study, table)])
    return RESULTS / study.name / f"{table}_summary-{made_by}.parquet"


def every(study: Study) -> Iterator[Path]:
    """Every result that the study asks for."""
    yield data(study)
    for table in RUN_TABLES:
        yield summary(study, table)
    for model, options in study.models.items():
        for seed in study.seeds:
            for step in options.checkpoints():
                yield checkpoint(base(study, model, seed), step)
            for step in options.kernel_steps():
                yield checkpoint(kernel(study, model, seed), step)
            for t0 in options.chaos.forks:
                yield perturbation(study, model, seed, t0)
                for direction in options.directions(t0):
                    for t1 in options.compare_points(t0):
                        yield checkpoint(fork(study, model, seed, t0, direction), t1)
                        yield comparison(study, model, seed, t0, direction, t1)
            yield from (switch(study, model, seed, t) for t in options.linearized.switches)
            for table in (
                *RUN_TABLES.values(),
                barrier_path,
                kernel_norm,
                kernel_projection,
            ):
                yield table(study, model, seed)
