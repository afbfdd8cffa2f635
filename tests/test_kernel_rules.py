"""Rules of the engine for each kind of layer: exact, in every order, and without a fallback."""

import math
import warnings

import pytest
import torch
from test_network_fuzz import by_autograd, by_kind, error
from torch import nn

from twophase.entk import contract, entk, plan

pytestmark = pytest.mark.usefixtures("one_thread")


class Volume(nn.Module):
    """Convolutions of one kind, with a step to logits."""

    def __init__(self, axes, groups):
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.a = conv(2, 4, 3, padding=1, groups=groups)
        uneven = {"kernel_size": (2, 3, 1)[:axes], "padding": (2, 0, 1)[:axes]}
        self.b = conv(4, 4, **uneven, stride=(2, 1, 2)[:axes], dilation=(1, 2, 1)[:axes])
        self.c = conv(4, 4, 3, padding="same", dilation=2)
        self.d, self.h = conv(4, 3, 1), nn.Linear(3, 3)

    def forward(self, x):
        for layer in (self.a, self.b, self.c, self.d):
            x = torch.tanh(layer(x))
        return self.h(x.flatten(2).sum(2))


@pytest.mark.parametrize("kind", ["full", "trace", "pseudo"])
@pytest.mark.parametrize("order", sorted(contract.ORDERS))
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions_of_each_number_of_axes_are_exact(axes, order, kind, monkeypatch):
    torch.manual_seed(0)
    model, inputs = Volume(axes, 1).double(), torch.randn(5, 2, *(5, 6, 4)[:axes]).double()
    expected = by_kind(model, inputs, kind)
    monkeypatch.setattr(plan, "_cheapest", lambda costs: order)
    for chunk, by_pixels in ((1, 0), (1 << 20, 0), (1 << 20, math.inf)):
        monkeypatch.setattr(plan, "CHUNK", chunk)
        monkeypatch.setattr(plan, "CACHE", chunk)
        monkeypatch.setattr(plan, "ELEMENT", by_pixels)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "torch.func computes|plain autograd")
            assert error(entk(model, inputs, kind=kind), expected) < 1e-12


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.filterwarnings("error:torch.func computes", "error:plain autograd")
def test_convolutions_in_groups_called_twice_and_sharing_a_weight_are_exact(axes):
    torch.manual_seed(0)
    model, inputs = Volume(axes, 2).double(), torch.randn(4, 2, *(5, 6, 4)[:axes]).double()
    model.c.weight = nn.Parameter(model.c.weight.detach())
    assert error(entk(model, inputs), by_autograd(model, inputs)) < 1e-12
    one = nn.Sequential(*(model.c for _ in range(2)))
    whole = nn.Sequential(model.a, model.b, one, nn.Flatten(), nn.LazyLinear(3).double())
    whole(inputs)
    assert error(entk(whole, inputs), by_autograd(whole, inputs)) < 1e-12
