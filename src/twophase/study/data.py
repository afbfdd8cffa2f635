"""The data set of a study: section `data`, and the stage that brings it into its canonical file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from twophase.store.paths import RESULTS, Result, table
from twophase.study import datasets, tasks
from twophase.study.datasets import Images
from twophase.study.records import GIVEN, Mistakes, Positive, Record, show
from twophase.study.run import Run, runs
from twophase.study.stage import Stage, Work, part_maker

if TYPE_CHECKING:
    from twophase.study.model import Study


class Augmentation(Record):
    """Random crop after zero padding by `shift` pixels, random horizontal flip, and a square of
    `cutout` x `cutout` pixels around a random one that is 0 after normalisation (DeVries and Taylor
    2017).
    """

    shift: Annotated[int, Field(ge=0)]
    flip: bool
    cutout: Annotated[int, Field(ge=0)] = 0


NO_AUGMENTATION = Augmentation(shift=0, flip=False)  # of what is no image


class Statistics(Record):
    """Mean and standard deviation of each channel, where 0 is black and 1 white."""

    mean: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    std: Annotated[list[Positive], Field(min_length=1)]


class Data(Record):
    """Where the images come from, how their channels are brought to mean 0 and deviation 1, and how
    training augments them. Without `statistics` these are measured on the training images.

    Vectors and tokens are named under `images`, too. They have no `statistics` or `augmentation`.
    """

    images: Images
    statistics: Annotated[Statistics | None, GIVEN] = None
    augmentation: Annotated[Augmentation | None, GIVEN] = None

    def mistakes(self, model: Any) -> Mistakes:
        """Statistics of other channels, a cut-out that is larger than an image, and what is only of
        images.
        """
        if self.images.form != "images":
            for option in ("statistics", "augmentation"):
                if given := getattr(self, option):
                    line = f"is of images, not of {self.images.form}; leave it out"
                    yield option, f"= {show(given.model_dump())}: {line}"
            return
        channels, size = self.images.channels, self.images.image_size
        for option in ("mean", "std") if self.statistics else ():
            given = getattr(self.statistics, option)
            if len(given) != channels:
                line = f"must have a number for each channel of data.images, {channels}"
                yield f"statistics.{option}", f"= {show(given)}: {line}"
        if self.augmentation and self.augmentation.cutout > size:
            line = f"= {self.augmentation.cutout}: must be at most the images' {size} pixels"
            yield "augmentation.cutout", line


def data_file(study: Study) -> Result:
    """The data set of the study, in its canonical form."""
    maker, identity = part_maker(DATA, runs(study)[0]), {"source": study.data.images.source}
    return table(RESULTS / study.name, "data", identity, maker, ".safetensors", "data")


def _options(run: Run) -> dict:
    """The images, but for what lies beside them, and their statistics where they are given."""
    images, statistics = run.study.data.images, run.study.data.statistics
    given = {"statistics": statistics.options()} if statistics else {}
    return tasks.counted(images.options(exclude=set(images.beside))) | given


DATA = Stage(
    "data",
    "Bring the data set into its canonical file.",
    scope="study",
    reads=(),
    tables={},
    options=_options,
    parts=lambda run: [data_file(run.study)],
    grid=lambda run: None,
    work=lambda run, part: Work(),
    named=("data.images",),
    code=lambda run: ("stages.data", *datasets.code(run.study.data.images)),
    memory_mb=2000,
)
