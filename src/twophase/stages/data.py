"""Stage `data`: bring a study's images, wherever they come from, into one canonical file."""

from __future__ import annotations

import torch

from twophase import datasets, stages
from twophase.store.artifacts import write_tensors
from twophase.study import Study


def data(study: Study) -> None:
    """Write the canonical file: `train_images` (n, channels, height, width) as bytes,
    `train_labels` (n,), the same for `test`, and `mean` and `std` (channels,) of the training
    pixels.
    """
    tensors = datasets.read(study.data.images)
    channels = tensors["train_images"].unbind(1)
    tensors["mean"] = torch.stack([channel.double().mean() for channel in channels]).float()
    tensors["std"] = torch.stack([channel.double().std() for channel in channels]).float()
    write_tensors(stages.data_file(study), tensors)
