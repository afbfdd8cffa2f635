import numpy as np
import pytest
import torch
from torch import nn

from twophase.training import evaluation
from twophase.training.tasks import CLASSIFICATION


def test_accuracy_and_loss_of_known_logits():
    scores = CLASSIFICATION.scores
    out = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    assert scores(out, torch.tensor([1, 0]), "test")["test_accuracy"] == 0.5
    found = scores(torch.zeros(3, 10), torch.tensor([1, 2, 3]), "train")
    assert found["train_loss"] == pytest.approx(np.log(10))


def test_logits_are_the_networks_in_eval_mode_whatever_their_number():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3)).train()
    images = torch.randn(2 * evaluation.CHUNK + 1, 1, 2, 2)
    found = evaluation.logits(model, images)
    assert torch.allclose(found, model.eval()(images).detach(), atol=1e-6)
    assert model[0].num_batches_tracked == 0
    assert not found.requires_grad
