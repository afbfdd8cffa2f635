"""Units with several entries on one axis change places entry by entry, or not at all."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twophase.errors import RunError
from twophase.measures.permutation import check_units, permute, shuffled, units
from twophase.training.evaluation import logits

pytestmark = pytest.mark.usefixtures("one_thread")
CYCLES = [1, 2, 0, 5, 3, 4]


class Between(nn.Module):
    """What a function (n, width) does with units, between two linear layers."""

    def __init__(self, function, width):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.function = nn.Linear(16, width), function
        self.last = nn.Linear(function(torch.randn(2, width)).shape[1], 5)

    def forward(self, x):
        return self.last(self.function(self.a(x.flatten(1))).relu())


def shuffle(x, groups=2):
    return x.view(len(x), groups, -1).transpose(1, 2).reshape(len(x), -1)


def gates(x):
    """Two heads of units, each scaled by its own gate."""
    rows = x.view(len(x), 2, -1)
    return (rows * rows.mean(2, keepdim=True).sigmoid()).reshape(x.shape)


# By what is done: a function, a width, and the sizes of the groups that remain.
ORDERS = {
    "cycles": (lambda x: x + x.tanh()[:, CYCLES], 6, [1, 1]),  # one turns left, one right
    "pairs": (lambda x: x + x.tanh()[:, [1, 0, 3, 2]], 4, [2]),
    "beside, turned": (lambda x: shuffle(torch.cat([x, x.tanh().flip(1)], 1)), 4, [2, 2]),
    "beside": (lambda x: shuffle(torch.cat([x, x.tanh()], 1)), 4, [4]),
    "shuffled added": (lambda x: x + shuffle(x.tanh()), 8, [1, 1, 2]),
    "channels shuffled": (
        lambda x: x + F.channel_shuffle(x.tanh()[..., None, None], 2).flatten(1), 8, [1, 1, 2]
    ),
    "halves": (lambda x: F.glu(shuffle(x)), 8, [4]),
    "halves of cycles": (lambda x: F.glu(torch.cat([x, x[:, CYCLES]], 1)), 6, [1, 1]),
    "turned added": (lambda x: x + x.tanh().flip(1), 8, [4]),
    "padded": (lambda x: x + F.pad((x[:, :4] + x[:, 4:]).tanh(), (0, 4)), 8, [4]),
    "padded, other pairs": (
        lambda x: (x + x.tanh()[:, [1, 0, 3, 2]]) + F.pad(x.cos()[:, 1:3], (1, 1)), 4, [1, 1]
    ),
    "gates": (gates, 8, [4, 4]),
}  # fmt: skip


def _images(n=8):
    return torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ORDERS)
def test_units_change_places_if_the_order_of_their_entries_does_alike(kind):
    function, width, groups = ORDERS[kind]
    model, images = Between(function, width).eval(), _images()
    found = units(model, images[:2])
    before = logits(model, images)
    for seed in range(10):
        permute(model, found, shuffled(found, seed))
        assert (logits(model, images) - before).abs().max() <= 1e-5 * before.abs().max()
    check_units(model, found, images)
    assert sorted(len(group) for group in found.groups) == groups


def test_all_that_two_moves_in_a_row_leave_is_right():
    moves = [shuffle, gates, F.glu, lambda x: x.flip(1), lambda x: x + x.tanh().roll(2, 1)]
    moves += [lambda x: torch.cat([x[:, ::2], x.tanh()], 1), lambda x: x + shuffle(x.tanh())]
    moves += [
        lambda x: x.view(len(x), 2, -1).softmax(2).flatten(1),
        lambda x: x.unflatten(1, (-1, 2)).sum(2),
    ]
    images, kept = _images(), 0
    for one, two in itertools.product(moves, repeat=2):
        model = Between(lambda x, one=one, two=two: two(one(x)), 8).eval()
        try:
            found = units(model, images[:2])
        except RunError:
            continue
        check_units(model, found, images)
        kept += max(len(group) for group in found.groups) > 1
    assert kept > 40


LAID = {
    "strides": lambda x: x.as_strided(x.shape, (1, len(x))),
    "offset": lambda x: torch.cat([x.tanh(), x])[: len(x)].as_strided(x.shape, (4, 1), x.numel()),
    "in place": lambda x: x.tanh().as_strided_(x.shape, (1, len(x))),
}


@pytest.mark.parametrize("change", LAID)
def test_the_same_shape_laid_otherwise_in_memory_is_another_order(change):
    with pytest.raises(RunError, match="what `as_strided` does to units is not known"):
        units(Between(LAID[change], 4).eval(), _images())
    model = Between(lambda x: x.as_strided(x.shape, (4, 1)), 4).eval()
    check_units(model, units(model, _images()), _images())


def test_pooling_without_an_axis_of_examples_is_over_the_last_axes():
    def pooled(x):  # of axes (units, n, 1), and of (n, units, 1)
        return F.avg_pool2d(x.T[..., None], 1).squeeze(-1).T

    model = Between(pooled, 4).eval()
    check_units(model, units(model, _images()), _images())
    model = Between(lambda x: F.avg_pool2d(x[..., None], (2, 1)).flatten(1), 4).eval()
    with pytest.raises(RunError, match="what `avg_pool2d` does to units is not known"):
        units(model, _images())
