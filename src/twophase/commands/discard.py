"""What a study does not keep is deleted once all that reads it has ended."""

from __future__ import annotations

from collections.abc import Iterable

from twophase.study import stages
from twophase.study.run import Run


def discard(its_runs: Iterable[Run]) -> None:
    """Delete the kernels and states of these runs that are not needed any more (`kernel.keep`).

    Nothing plans the work to make them again until something that reads them has to be made again.
    """
    for run in its_runs:
        for stage in stages.READ_BY:
            for part in stages.spent(stage, run):
                part.path.unlink(missing_ok=True)
