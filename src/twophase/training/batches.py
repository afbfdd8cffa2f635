"""Examples on the device, and batches that are a function of (seed, step).

Examples are images as bytes; or real vectors, or sequences of tokens, which are called images, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from twophase.errors import ArtifactError, StudyError
from twophase.store.artifacts import read_tensors
from twophase.store.paths import Result
from twophase.study.data import Augmentation
from twophase.study.datasets import Images
from twophase.study.kernel import Kernel
from twophase.training import tasks
from twophase.training.noise import OtherNoise
from twophase.training.tasks import Task

# First number of every counter that seeds a random stream: no two uses share one.
ORDER, AUGMENTATION = 1, 2


@dataclass(frozen=True)
class Split:
    """Images (n, channels, height, width) as bytes, or vectors (n, features), or tokens
    (n, length); and their labels (n,), or whatever the task has.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def first(self, count: int, option: str) -> Split:
        """The first examples, as many as `option` of the study says.

        Raises `StudyError` if there are fewer.
        """
        if count > len(self.labels):
            raise StudyError(f"{option} = {count}: must be at most {len(self.labels)}")
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """A data set on one device; `mean` and `std` (channels,) of the training pixels, in bytes, or
    of each feature. Tokens have neither, but a `vocabulary`. `classes` is the number of outputs
    that the `task` needs of a network for an example, or for each token.
    """

    train: Split
    test: Split
    classes: int
    mean: torch.Tensor
    std: torch.Tensor
    task: Task = tasks.CLASSIFICATION
    vocabulary: int = 0

    @property
    def channels(self) -> int:
        """Channels of images, features of vectors, the number of different tokens."""
        return self.vocabulary or self.train.images.shape[1]

    @property
    def rarest(self) -> int | None:
        """Training examples of the rarest class; none where there are no classes."""
        known = self.task is tasks.CLASSIFICATION
        return int(self.train.labels.bincount().min()) if known else None

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Bytes to float32 with mean 0 and standard deviation 1 for each channel, and features so,
        too. Tokens to whole numbers of 64 bits, which an embedding takes.
        """
        if self.vocabulary:
            return images.long()
        along = (1, -1, *(1,) * (images.dim() - 2))
        mean, std = (t.view(along) for t in (self.mean, self.std))
        return (images.float() - mean) / std


def load_data(file: Result, images: Images, device: torch.device) -> Data:
    """Read the canonical file of `images` (see `stages/data.py`) onto `device`.

    Raises `ArtifactError` if the file is missing, damaged, or has other numbers of images or
    classes than the study.
    """
    task, tokens = tasks.of(images.task), images.form == "tokens"
    shapes = {"mean": (images.channels,), "std": (images.channels,)}
    shapes = {"vocabulary": (-1,)} if tokens else shapes
    for split in ("train", "test"):
        shapes |= {f"{split}_images": (-1, *images.shape)}
        shapes |= {f"{split}_labels": (-1,) * (task.axes or 1)}
    tensors = read_tensors(file, shapes if task.axes else None)
    vocabulary = len(tensors["vocabulary"]) if tokens else 0
    classes = tasks.outputs(task, tensors["train_labels"], vocabulary)
    counts = {f"{s}_examples": len(tensors[f"{s}_labels"]) for s in ("train", "test")}
    for option, found in {**counts, "classes": classes}.items():
        if (asked := getattr(images, option, None)) not in (None, found):
            raise ArtifactError(
                f"{file.path}: data.images.{option} = {asked}, but it holds {found}: correct the "
                "study, or delete the file and run the same command again"
            )
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    train = Split(tensors["train_images"], tensors["train_labels"])
    test = Split(tensors["test_images"], tensors["test_labels"])
    none = torch.empty(0, device=device)
    mean, std = (tensors.get(name, none) for name in ("mean", "std"))
    return Data(train, test, classes, mean, std, task, vocabulary)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, examples: int) -> np.ndarray:
    return np.random.default_rng((ORDER, seed, epoch)).permutation(examples)


def steps_per_epoch(examples: int, batch_size: int, drop_last: bool = True) -> int:
    """How many batches an epoch has."""
    return examples // batch_size if drop_last else math.ceil(examples / batch_size)


def batch_indices(
    seed: int, step: int, examples: int, batch_size: int, drop_last: bool = True
) -> np.ndarray:
    """Which training examples (batch_size,) step `step` sees.

    Each epoch is a new permutation. Its last, incomplete batch is dropped, or without `drop_last`
    is a smaller one.
    """
    epoch, position = divmod(step, steps_per_epoch(examples, batch_size, drop_last))
    return _order(seed, epoch, examples)[position * batch_size :][:batch_size]


def batch(
    data: Data,
    augmentation: Augmentation,
    seed: int,
    step: int,
    batch_size: int,
    drop_last: bool = True,
    other: OtherNoise | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augmented images (batch_size, C, H, W), float32, and labels of step `step`.

    A pure function of (seed, step): two runs at the same step see the same SGD noise, whatever
    happened before. Random numbers come from the CPU, so every device sees the same batches. With
    `other` SGD noise it is a function of that and the step.

    >>> digits = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    >>> split = Split(digits, torch.arange(10))
    >>> data = Data(split, split, 10, mean=torch.zeros(1), std=torch.ones(1))
    >>> still = Augmentation(shift=0, flip=False)
    >>> images, labels = batch(data, still, seed=0, step=3, batch_size=4)
    >>> images.shape, torch.equal(images.flatten(), labels.float())
    (torch.Size([4, 1, 1, 1]), True)
    >>> torch.equal(labels, batch(data, still, seed=0, step=3, batch_size=4)[1])
    True
    """
    drawn = draw(augmentation, seed, step, len(data.train.labels), batch_size, drop_last, other)
    return assemble(data, augmentation, drawn.to(data.train.images.device))


def draw(
    augmentation: Augmentation,
    seed: int,
    step: int,
    examples: int,
    batch_size: int,
    drop_last: bool = True,
    other: OtherNoise | None = None,
) -> torch.Tensor:
    """What is random in the batch of step `step`: (4, batch_size) whole numbers, on the CPU.

    The rows: which examples, how far each is shifted down and to the right, and whether it is
    flipped. With a cut-out there are two more: row and column of its centre, as shares of the
    image's height and width, times 2**32.
    """
    rng = np.random.default_rng((AUGMENTATION, other.seed if other else seed, step))
    sizes = examples, batch_size, drop_last
    chosen = other.examples(step, *sizes) if other else batch_indices(seed, step, *sizes)
    rows = [chosen, *rng.integers(0, 2 * augmentation.shift + 1, (2, len(chosen)))]
    rows += [rng.integers(0, 2, len(chosen))]
    if augmentation.cutout:
        rows += [*rng.integers(0, 2**32, (2, len(chosen)))]
    return torch.from_numpy(np.stack(rows))


def assemble(
    data: Data, augmentation: Augmentation, drawn: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch that was `drawn`, on the device of the data."""
    chosen, down, right, flips, *centre = drawn
    images, shift = data.train.images[chosen], augmentation.shift
    if shift:
        height, width = images.shape[2:]
        rows = down[:, None] + torch.arange(height, device=images.device)
        columns = right[:, None] + torch.arange(width, device=images.device)
        each = torch.arange(len(images), device=images.device)[:, None, None]
        padded = F.pad(images, (shift,) * 4)
        # Advanced indices around the channel slice put it last: (batch, height, width, channel).
        images = padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if augmentation.flip:
        images = torch.where(flips[:, None, None, None] == 1, images.flip(3), images)
    images = data.normalised(images)
    if augmentation.cutout:
        images = _cut_out(images, centre, augmentation.cutout)
    return images, data.train.labels[chosen]


def _cut_out(images: torch.Tensor, centre: list[torch.Tensor], side: int) -> torch.Tensor:
    """Images with a square of zeros around a centre of each, as far as it lies within the image."""
    within = []
    for share, length in zip(centre, images.shape[2:], strict=True):
        first = (share * length >> 32)[:, None] - side // 2
        at = torch.arange(length, device=images.device)
        within.append((first <= at) & (at < first + side))
    rows, columns = within
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def kernel_inputs(data: Data, options: Kernel) -> torch.Tensor:
    """Indices of the training examples that kernels are of: as many of each class, or where there
    are none the first ones.

    Raises `StudyError` if there are not as many.
    """
    if options.examples is None:
        return balanced_subset(data.train.labels, options.examples_per_class)
    return torch.arange(len(data.train.first(options.examples, "kernel.examples").labels))


def balanced_subset(labels: torch.Tensor, per_class: int) -> torch.Tensor:
    """Indices of the first `per_class` examples of every class, in the order of `labels`.

    Raises `StudyError` if a class has fewer.
    """
    kept = []
    for label in range(int(labels.max()) + 1):
        members = (labels == label).nonzero().flatten()
        if len(members) < per_class:
            raise StudyError(
                f"kernel.examples_per_class = {per_class}: class {label} has only {len(members)} "
                "training examples"
            )
        kept.append(members[:per_class])
    return torch.cat(kept).sort().values
