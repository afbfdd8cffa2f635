import pytest
import torch

from twophase.study.chaos import Perturbation
from twophase.study.networks import SmallVGG
from twophase.training.loop import build
from twophase.training.perturbation import perturb


def _model():
    torch.manual_seed(0)
    return build(SmallVGG(architecture="vgg_small"), 1, 10)


def _vector(model):
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


@pytest.mark.parametrize("kind", ["std", "l2", "relative"])
def test_the_size_is_what_its_kind_says(kind):
    model = _model()
    before = _vector(model)
    l2, unchanged = perturb(model, Perturbation(kind=kind, size=1e-3), 0, "1")
    difference = _vector(model) - before
    expected = {
        "std": 1e-3 * len(before) ** 0.5,
        "l2": 1e-3,
        "relative": 1e-3 * float(before.norm()),
    }[kind]
    assert l2 == pytest.approx(float(difference.norm()), rel=1e-12)
    assert l2 == pytest.approx(expected, rel=1e-2)
    assert unchanged == float((difference == 0).double().mean())


def test_the_realised_size_tells_what_rounding_left():
    # One ulp of a typical weight (0.1) is 7e-9: noise of that size is mostly rounded away.
    model = _model()
    before = _vector(model)
    l2, unchanged = perturb(model, Perturbation(kind="std", size=1e-9), 0, "1")
    assert unchanged > 0.3
    assert l2 == pytest.approx(float((_vector(model) - before).norm()), rel=1e-12)


def test_directions_differ_between_names_and_seeds_and_repeat():
    def direction(seed, name):
        model = _model()
        before = _vector(model)
        perturb(model, Perturbation(kind="std", size=1e-3), seed, name)
        return _vector(model) - before

    first = direction(0, "1")
    assert torch.equal(first, direction(0, "1"))
    for other in (direction(0, "2"), direction(1, "1")):
        cosine = float(first @ other / first.norm() / other.norm())
        assert abs(cosine) < 0.02  # about 1 / sqrt(109,000 parameters) for independent noise


def test_the_control_changes_no_bit():
    model = _model()
    with torch.no_grad():
        model.layers[0].bias.fill_(-0.0)
    before = [p.clone() for p in model.parameters()]
    assert perturb(model, Perturbation(kind="std", size=1e-7), 0, "control") == (0.0, 1.0)
    for p, q in zip(model.parameters(), before, strict=True):
        assert torch.equal(p.view(torch.int32), q.view(torch.int32))
