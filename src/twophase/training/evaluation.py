"""What a network says of examples. What that is worth, `tasks.py` says."""

from __future__ import annotations

import torch
from torch import nn

from twophase.study.base import Evaluation
from twophase.training.batches import Data

# Images that pass through the network at once: part of the result, because a batch of another
# size may round differently.
CHUNK = 500

Examples = tuple[torch.Tensor, torch.Tensor]


def evaluation_sets(data: Data, evaluation: Evaluation) -> dict[str, Examples]:
    """The first examples of each split, without augmentation: normalised images and labels.

    Raises `StudyError` if there are not as many.
    """
    sets = {
        "train": data.train.first(evaluation.train_examples, "evaluation.train_examples"),
        "test": data.test.first(evaluation.test_examples, "evaluation.test_examples"),
    }
    return {name: (data.normalised(split.images), split.labels) for name, split in sets.items()}


@torch.no_grad()
def logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits (n, classes), or what else the network gives, of images (n, C, H, W) or of other
    examples, with the network in eval mode.
    """
    model.eval()
    return torch.cat([model(chunk) for chunk in images.split(CHUNK)])
