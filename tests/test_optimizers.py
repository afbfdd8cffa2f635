"""Each optimizer is PyTorch's, on parameters and on offsets from an origin."""

import pytest
import torch

from twophase.study.optimizers import SGD, Adam, AdamW, Schedule, imported
from twophase.training.loop import learning_rate, optimizer_step

SHARED = {"iterations": 20, "batch_size": 1, "lr": 0.05, "weight_decay": 0.1, "lr_drops": [8, 15]}
OPTIMIZERS = {
    "sgd": (
        SGD(momentum=0.9, **SHARED),
        lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=0.1),
    ),
    "nesterov": (
        SGD(momentum=0.9, nesterov=True, **SHARED),
        lambda parameters: torch.optim.SGD(
            parameters, 0.05, momentum=0.9, weight_decay=0.1, nesterov=True
        ),
    ),
    "adam": (
        Adam(optimizer="adam", **SHARED),
        lambda parameters: torch.optim.Adam(parameters, 0.05, weight_decay=0.1),
    ),
    "adamw": (
        AdamW(optimizer="adamw", **SHARED),
        lambda parameters: torch.optim.AdamW(parameters, 0.05, weight_decay=0.1),
    ),
    "adamw with its own options": (
        AdamW(optimizer="adamw", betas=[0.5, 0.7], eps=1e-3, **SHARED),
        lambda parameters: torch.optim.AdamW(
            parameters, 0.05, betas=(0.5, 0.7), eps=1e-3, weight_decay=0.1
        ),
    ),
}
SHAPES = [(3, 2, 4, 4), (7,), ()]


def _random(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).double() for shape in SHAPES]


def _empty_state(training):
    return {name: [torch.zeros_like(p) for p in _random(0)] for name in imported(training).STATE}


@pytest.fixture(params=OPTIMIZERS)
def optimizer(request):
    """The study's options, and the path of 20 steps of PyTorch's optimizer."""
    training, make = OPTIMIZERS[request.param]
    parameters = [p.requires_grad_() for p in _random(0)]
    theirs = make(parameters)
    schedule = torch.optim.lr_scheduler.MultiStepLR(theirs, training.lr_drops, gamma=0.1)
    path = []
    for step in range(20):
        for p, gradient in zip(parameters, _random(step + 1), strict=True):
            p.grad = gradient
        theirs.step()
        schedule.step()
        path.append([p.detach().clone() for p in parameters])
    return training, path


def _close(ours, theirs):
    return all(
        torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(ours, theirs, strict=True)
    )


def test_twenty_steps_are_torchs(optimizer):
    training, path = optimizer
    ours, state = _random(0), _empty_state(training)
    for step in range(20):
        optimizer_step(ours, _random(step + 1), state, training, step)
        assert _close(ours, path[step])


def test_steps_of_an_offset_are_those_of_its_sum_with_the_origin(optimizer):
    training, path = optimizer
    # The origin lies on the way, and takes the optimizer's state along.
    origin, state = _random(0), _empty_state(training)
    for step in range(5):
        optimizer_step(origin, _random(step + 1), state, training, step)
    kept = [t.clone() for t in origin]
    offset = [torch.zeros_like(t) for t in origin]
    for step in range(5, 20):
        optimizer_step(offset, _random(step + 1), state, training, step, origin)
        assert _close([o + d for o, d in zip(origin, offset, strict=True)], path[step])
    assert all(torch.equal(a, b) for a, b in zip(origin, kept, strict=True))


def test_a_gradient_of_another_layout_changes_the_right_parameters(optimizer):
    training, _ = optimizer
    _, make = next(each for each in OPTIMIZERS.values() if each[0] is training)
    start, gradient = torch.randn(3, 5), torch.randn(5, 3).t()
    ours = start.clone()
    state = {name: [torch.zeros(3, 5)] for name in imported(training).STATE}
    theirs = torch.nn.Parameter(start.clone())
    theirs.grad = gradient.contiguous()
    make([theirs]).step()
    optimizer_step([ours], [gradient], state, training, 0)
    assert torch.allclose(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_the_gradients_are_left_as_they_are(optimizer):
    training, _ = optimizer
    gradients = _random(1)
    optimizer_step(_random(0), gradients, _empty_state(training), training, 0, _random(2))
    assert all(torch.equal(a, b) for a, b in zip(gradients, _random(1), strict=True))


def test_the_learning_rate_falls_by_ten_at_each_drop():
    training = SGD(momentum=0, **{**SHARED, "lr_drops": [4, 8], "lr": 1.0})
    rates = [learning_rate(training, step) for step in (0, 3, 4, 7, 8)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def _torchs(schedule, lr, iterations):
    """The rates of torch's own schedulers, of which the first one warms up."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)
    schedulers, warmup, span = torch.optim.lr_scheduler, schedule.warmup, iterations
    if schedule.falls:
        span = (schedule.until or iterations) - warmup
    then = {
        "constant": lambda: schedulers.ConstantLR(optimizer, 1),
        "steps": lambda: schedulers.MultiStepLR(optimizer, [d - warmup for d in DROPS]),
        "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, span, schedule.end_factor * lr),
        "linear": lambda: schedulers.LinearLR(optimizer, 1, schedule.end_factor, span),
    }[schedule.kind]()
    if warmup:
        first = schedulers.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
        then = schedulers.SequentialLR(optimizer, [first, then], [warmup])
    rates = []
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        then.step()
    return rates


DROPS = [12, 17]


@pytest.mark.parametrize("warmup", [0, 2, 5])
@pytest.mark.parametrize(
    "schedule",
    [
        {"kind": "constant"},
        {"kind": "steps"},
        {"kind": "cosine"},
        {"kind": "cosine", "end_factor": 0.1},
        {"kind": "cosine", "until": 50, "end_factor": 0.2},  # the first part of a longer training
        {"kind": "linear"},
        {"kind": "linear", "until": 25, "end_factor": 0.01},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The epoch parameter")  # of SequentialLR's own calls
def test_the_learning_rate_is_that_of_torchs_schedulers(schedule, warmup):
    schedule = Schedule(warmup=warmup, **schedule)
    drops = {"lr_drops": DROPS if schedule.kind == "steps" else []}
    training = SGD(momentum=0, **SHARED | drops | {"iterations": 40, "schedule": schedule})
    if schedule.until == 25:  # torch's stays there, too
        assert learning_rate(training, 39) == pytest.approx(0.05 * 0.01)
    rates = [learning_rate(training, step) for step in range(40)]
    assert rates == pytest.approx(_torchs(schedule, 0.05, 40), rel=1e-12)
    assert list(training.mistakes(None)) == []


def test_a_cosine_that_has_ended_stays_there():
    schedule = Schedule(kind="cosine", until=10, end_factor=0.5)
    training = SGD(momentum=0, **SHARED | {"lr_drops": [], "schedule": schedule})
    rates = [learning_rate(training, step) for step in (10, 11, 20, 1000)]
    assert rates == pytest.approx(4 * [0.025])
