"""Stage `data`: bring a study's examples, wherever they come from, into one canonical file."""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from twophase.errors import RunError, StudyError
from twophase.store.artifacts import write_tensors
from twophase.study import datasets, stages
from twophase.study.model import Study, check_sizes
from twophase.training import tasks


def data(study: Study) -> None:
    """Write the canonical file: `train_images` (n, channels, height, width) as bytes,
    `train_labels` (n,), the same for `test`, and `mean` and `std` (channels,) of the training
    pixels, in bytes, or as the study gives them. What the file says of itself holds the numbers of
    images and classes.

    Examples of other forms are called images, too: vectors (n, features), with mean and std of each
    feature, and tokens (n, length), with a `vocabulary`, the number that each stands for in the
    text. Labels for regression are (n, k) real numbers, of next tokens (n, length).

    Raises `RunError` if the images cannot be used, `StudyError` if the study asks for more than
    there are.
    """
    tensors = datasets.imported(study.data.images).read(study.data.images)
    labels = [tensors[f"{split}_labels"] for split in ("train", "test")]
    task, tokens = tasks.of(study.data.images.task), tensors.get("vocabulary", ())
    classes = tasks.outputs(task, labels[0], len(tokens))
    rarest = int(labels[0].bincount().min()) if task is tasks.CLASSIFICATION else None
    check_sizes(study, study.models, *map(len, labels), rarest)
    if not len(tokens):
        tensors["mean"], tensors["std"] = _moments(tensors)
    if given := study.data.statistics:
        tensors["mean"], tensors["std"] = (255 * torch.tensor(v) for v in (given.mean, given.std))
    file = stages.data_file(study)
    counts = {
        "classes" if task is tasks.CLASSIFICATION else "outputs": classes,
        "train_examples": len(labels[0]),
        "test_examples": len(labels[1]),
    }
    write_tensors(replace(file, identity=file.identity | counts), tensors)
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()), file=sys.stderr)


def _moments(tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (channels,) of the training pixels, in bytes.

    A channel that is the same everywhere gets 1 for its deviation, and so is 0 once normalised.
    """
    channels = tensors["train_images"].unbind(1)
    mean = torch.stack([channel.double().mean() for channel in channels])
    std = torch.stack([channel.double().std() for channel in channels])
    # The mean of equal real numbers is not always that number.
    std[[bool((channel == channel.flatten()[0]).all()) for channel in channels]] = 0.0
    for channel in (std == 0).nonzero().flatten().tolist():
        value = tensors["train_images"][0, channel].flatten()[0].item()
        if bool((tensors["test_images"][:, channel] != value).any()):
            raise RunError(
                f"channel {channel} of the images (of {len(std)}, from 0) is {value:g} in every "
                "training image, but not in every test image: damaged, or split amiss"
            )
    if bool((std == 0).all()):
        raise RunError("every pixel of every training image is the same: there is nothing to learn")
    return mean.float(), torch.where(std == 0, 1.0, std).float()


def digest(study: Study) -> None:
    """Print the line `sha256: …` that names the images of the study as they are now."""
    images = study.data.images
    if "sha256" not in type(images).model_fields:
        raise StudyError(f"data.images.source '{images.source}' takes no sha256")
    print(f"sha256: {datasets.imported(images).digest(images)}")
