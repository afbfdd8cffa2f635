"""What a network says of examples: logits, losses, accuracy.

Losses are evaluated in the study's float32 and averaged in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
    """Logits (n, classes) of images (n, C, H, W), with the network in eval mode."""
    model.eval()
    return torch.cat([model(chunk) for chunk in images.split(CHUNK)])


def mean_loss(out: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean cross-entropy, in nats, of logits (n, classes)."""
    return float(F.cross_entropy(out, labels, reduction="none").double().mean())


def accuracy(out: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of examples whose largest logit is their label's."""
    return float((out.argmax(1) == labels).double().mean())
