"""Stage `sizes`: fork and compare again, with perturbations of other sizes."""

import pandas as pd

from twophase.stages.chaos import chaos
from twophase.stages.fork import fork
from twophase.store.artifacts import read_table, write_table
from twophase.study import stages
from twophase.study.run import Run
from twophase.study.sizes import of_size, other_sizes, size_points, sized, sized_name
from twophase.training.loop import KEEP_MINUTES


def sizes(run: Run, keep_minutes: float = KEEP_MINUTES) -> None:
    """Write the table `sizes` of one base run: `chaos`, where forks end and without the controls,
    for each size of the perturbation.

    `sizes`: study, model, seed, size (as the study says it), then the columns of `chaos`. The rows
    of the size that `chaos` has are its own. All sizes of a direction are multiples of one noise.
    """
    points = pd.DataFrame(size_points(run), columns=["t0", "direction", "t1"])
    own = read_table(stages.run_table(run, "chaos")).merge(points)  # the rows of these points
    called = sized_name(run.model)
    compared = {sized(run.model).size: own}
    for size in other_sizes(run):
        other = of_size(run, size)
        fork(other, keep_minutes=keep_minutes)
        chaos(other)
        theirs = read_table(stages.run_table(other, "chaos"))
        if called:
            theirs["direction"] = f"{called}-" + theirs["direction"]
        compared[size] = theirs.merge(points)
        for name in stages.STAGES["chaos"].tables:  # so that a run has one table `chaos`
            stages.run_table(other, name).path.unlink()
    rows = pd.concat(dict(sorted(compared.items())), names=["size", None]).reset_index("size")
    columns = [*run.identity, "size", *own.columns.drop(list(run.identity))]
    write_table(stages.run_table(run, "sizes"), rows[columns].reset_index(drop=True))
