import torch
from torch import nn

from twophase.data import Data, Split
from twophase.linearized import advance_linearized, linear_logits
from twophase.models import initialised
from twophase.study import Augmentation
from twophase.train import State, advance


def _state(model, step=0):
    return State(model, {n: torch.zeros_like(p) for n, p in model.named_parameters()}, step)


def _data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.randint(0, 10, (60,), generator=generator))
    return Data(split, split, 10, torch.tensor([128.0]), torch.tensor([70.0]))


PLAIN = Augmentation(shift=0, flip=False)


def test_a_linear_network_trains_as_its_linearisation(smoke):
    training = smoke.models["vgg"].training
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    data = _data()
    data = Data(data.train, data.test, 10, data.mean.double(), data.std.double())
    object.__setattr__(data, "normalised", lambda x: (x.double() - 128) / 70)
    state = _state(model)
    advance(state, data, PLAIN, training, 0, 4)  # momentum to carry over
    origin = {name: p.detach().clone() for name, p in model.named_parameters()}
    offset = advance_linearized(state, data, PLAIN, training, 0, 12)
    assert all(torch.equal(origin[name], p) for name, p in model.named_parameters())
    advance(state, data, PLAIN, training, 0, 12)
    for name, p in model.named_parameters():
        assert torch.allclose(origin[name] + offset[name], p, rtol=1e-10, atol=1e-12)


def test_the_linear_part_is_the_derivative_along_the_offset():
    model = initialised({"architecture": "resnet8"}, 1, 10, 0).double()
    generator = torch.Generator().manual_seed(1)
    model.train()(torch.randn(64, 1, 8, 8, generator=generator).double())
    images = torch.randn(5, 1, 8, 8, generator=generator).double()
    offset = {
        name: torch.randn(p.shape, generator=generator).double()
        for name, p in model.named_parameters()
    }
    primal, tangent = linear_logits(_state(model), offset, images)
    assert torch.equal(primal, model.eval()(images))

    def shifted(size):
        moved = {name: p + size * offset[name] for name, p in model.named_parameters()}
        return torch.func.functional_call(model, moved, images).detach()

    size = 1e-8  # small, so that hardly a ReLU switches in between
    difference = (shifted(size) - shifted(-size)) / (2 * size)
    assert float((difference - tangent).norm() / tangent.norm()) < 1e-5


def test_linearised_training_starts_at_the_network_itself(smoke):
    model = initialised({"architecture": "resnet8"}, 1, 10, 0)
    offset = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    images = torch.randn(5, 1, 8, 8)
    primal, tangent = linear_logits(_state(model), offset, images)
    assert torch.equal(primal + tangent, model(images))
