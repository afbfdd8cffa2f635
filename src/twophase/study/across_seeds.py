"""The kernels of different seeds: section and stage `across_seeds`."""

from __future__ import annotations

from twophase.study.kernel import KERNEL, cone_work, kernel_steps
from twophase.study.records import Section
from twophase.study.stage import Stage


class AcrossSeeds(Section):
    """The angles between the kernels of different seeds at the same iteration: what two runs of one
    network share, beside what one run's kernels share.
    """


ACROSS_SEEDS = Stage(
    "across_seeds",
    "Measure the angles between the kernels of different seeds.",
    scope="study",
    reads=(KERNEL,),
    tables={"across_seeds": ("t",)},
    options=lambda run: None,
    parts=lambda run: [],
    grid=lambda run: [kernel_steps(run), run.study.seeds],
    work=cone_work,  # each kernel is read
    section="across_seeds",
    points=("points", "seeds"),
    summarised=("across_seeds",),
    memory_mb=8000,
    minutes=120,
)
