"""Networks that are built in ways that this package's own are not, through every stage."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twophase.errors import RunError
from twophase.measures.barrier import interpolate
from twophase.measures.distance import identical, state_vector
from twophase.stages.base import base
from twophase.stages.chaos import chaos
from twophase.stages.curvature import curvature
from twophase.stages.data import data
from twophase.stages.fork import fork, perturb
from twophase.stages.growth import growth
from twophase.stages.kernel import kernel
from twophase.stages.linearized import linearized
from twophase.stages.trajectory import trajectory
from twophase.store.artifacts import read_table
from twophase.study import stages, studyfile
from twophase.study.chaos import Perturbation
from twophase.study.run import runs
from twophase.training import loop
from twophase.training.batches import batch, load_data
from twophase.training.loop import advance, initial_state
from twophase.training.machine import prepare
from twophase.training.tensors import named_state, place


class Plain(nn.Module):
    """A convolution, ReLU, the mean over pixels, a linear layer."""

    def __init__(self, channels, classes):
        super().__init__()
        self.a, self.h = nn.Conv2d(channels, 8, 3, padding=1), nn.Linear(8, classes)

    def forward(self, x):
        return self.h(F.relu(self.a(x)).mean((2, 3)))


class Frozen(Plain):
    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.a.requires_grad_(False)
        self.unused = nn.Linear(3, 2)


class Shared(nn.Module):
    """Two layers that share a weight, one that has two names, and a shared buffer."""

    def __init__(self, channels, classes):
        super().__init__()
        self.a = nn.Linear(64 * channels, 16)
        self.b, self.c = nn.Linear(16, 16), nn.Linear(16, 16)
        self.c.weight = self.b.weight
        self.again = self.b
        self.h = nn.Linear(16, classes)
        for layer in (self.b, self.c):
            layer.register_buffer("scale", torch.ones(1) if layer is self.b else self.b.scale)

    def forward(self, x):
        x = F.relu(self.a(x.flatten(1)))
        for layer in (self.b, self.c, self.again):
            x = F.relu(layer.scale * layer(x))
        return self.h(x)


class Buffers(Plain):
    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.register_buffer("temperature", torch.tensor(np.log(3.0)))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("on", torch.tensor([True, False]))
        self.register_buffer("phase", torch.tensor([1 + 2j]))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("repeated", torch.ones(1).expand(5))
        self.register_buffer("five_axes", torch.ones(2, 1, 3, 3, 2, dtype=torch.bfloat16))
        self.register_buffer("mean", torch.zeros(8), persistent=False)

    def forward(self, x):
        x = F.relu(self.a(x))
        if self.training:
            self.calls += 1
            self.mean += 0.1 * (x.detach().mean((0, 2, 3)) - self.mean)
        return self.h(x.mean((2, 3)) - self.mean) / self.temperature.float()


class Volume(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.a, self.h = nn.Conv3d(1, 4, (1, 3, 3)), nn.Linear(4, classes)

    def forward(self, x):
        return self.h(F.relu(self.a(x[:, None])).mean((2, 3, 4)))


class Attention(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.e = nn.Conv2d(channels, 8, 4, 4)
        self.t = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.h = nn.Linear(8, classes)

    def forward(self, x):
        return self.h(self.t(self.e(x).flatten(2).transpose(1, 2)).mean(1))


ODD = {c.__name__: c for c in (Frozen, Shared, Buffers, Volume, Attention)}


@pytest.fixture
def own(raw, write_study, in_tmp, monkeypatch):
    """Function of a network's class: the run of a study of four iterations that trains it."""

    def run(kind):
        monkeypatch.setattr(loop, "build", lambda network, *numbers: kind(*numbers))
        raw["models"] = {"mine": {"network": {"architecture": "resnet8"}}}
        raw["training"].update(iterations=4, lr_drops=[])
        raw["chaos"].update(forks=[1], compare=[3, 4], directions=1, control=[1])
        raw["kernel"].update(every=2, until=4, references=[0], intervals=[2])
        raw["linearized"]["switches"] = [2]
        raw["growth"]["forks"] = raw["sizes"]["forks"] = [1]
        raw["curvature"]["every"] = 2
        (run,) = runs(studyfile.load(write_study(raw)))
        data(run.study)
        return run

    return run


def _ready(run):
    """The run's data and its state before the first step."""
    data = _read(run)
    return data, initial_state(run.model, data, run.seed)


def _read(run):
    return load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_network_goes_through_all_training(own, kind):
    run = own(ODD[kind])
    for stage in (base, fork, chaos, kernel, linearized, curvature, growth, trajectory):
        stage(run)
    found = read_table(stages.run_table(run, "chaos"))
    control = found["direction"] == "control"
    assert found["identical"].tolist() == control.tolist()
    assert found.select_dtypes("number").notna().all(axis=None)
    assert (found.loc[control, "test_barrier"] == 0).all()
    end = read_table(stages.run_table(run, "linearized"))
    assert end["test_loss"].notna().all()


class Related(Plain):
    """Each example's logits less the mean over its batch."""

    def forward(self, x):
        logits = super().forward(x)
        return logits - logits.mean(0)


def test_a_network_without_a_tangent_kernel_is_refused_in_one_line(own):
    run = own(Related)
    base(run)
    with pytest.raises(
        RunError, match=r"mine.*: kernel at t = 0: .* depend on the other"
    ) as caught:
        kernel(run)
    assert "\n" not in str(caught.value)
    assert not stages.kernel_file(run, 0).path.exists()


@pytest.mark.parametrize("kind", ["Frozen", "Shared"])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_training_is_torchs(own, raw, kind, optimizer):
    if optimizer == "AdamW":
        del raw["training"]["momentum"]
        raw["training"].update(optimizer="adamw", weight_decay=0.1)
    run = own(ODD[kind])
    data, ours = _ready(run)
    _, theirs = _ready(run)
    start = {name: tensor.clone() for name, tensor in named_state(ours.model).items()}
    options = run.model.training
    keys = {"momentum": options.momentum} if optimizer == "SGD" else {}
    step = getattr(torch.optim, optimizer)(
        theirs.model.parameters(), options.lr, weight_decay=options.weight_decay, **keys
    )
    advance(ours, run, data, 3)
    for index in range(3):
        images, labels = batch(data, run.study.data.augmentation, 0, index, options.batch_size)
        step.zero_grad()
        F.cross_entropy(theirs.model(images), labels).backward()
        step.step()
    for name, tensor in named_state(ours.model).items():
        if kind == "Frozen" and name.split(".")[0] in ("a", "unused"):
            assert torch.equal(tensor, start[name])
        assert torch.allclose(tensor, named_state(theirs.model)[name], rtol=1e-5, atol=1e-6)


def test_a_perturbation_leaves_what_is_frozen(own):
    _, state = _ready(own(Frozen))
    before = {name: tensor.clone() for name, tensor in named_state(state.model).items()}
    perturb(state.model, Perturbation(kind="std", size=1e-3), 0, "1")
    same = {n for n, t in named_state(state.model).items() if torch.equal(t, before[n])}
    assert same == {"a.weight", "a.bias"}


def test_shared_tensors_are_kept_once_and_stay_shared(own):
    data, one = _ready(own(Shared))
    _, other = _ready(own(Shared))
    _, between = _ready(own(Shared))
    names = [name for name in one.tensors() if name.startswith("model.")]
    expected = "a.weight a.bias b.weight b.bias b.scale c.bias h.weight h.bias"
    assert names == [f"model.{name}" for name in expected.split()]
    with torch.no_grad():
        other.model.c.weight.zero_()
    interpolate(between.model, one.model, other.model, 0.25)
    assert between.model.b.weight is between.model.c.weight
    assert torch.allclose(between.model.b.weight, one.model.b.weight / 4)
    assert not identical(one.model, other.model)


def test_every_bit_of_a_buffer_counts_and_infinity_is_no_distance(own):
    run = own(Buffers)
    (_, one), (_, other), (_, between) = _ready(run), _ready(run), _ready(run)
    assert identical(one.model, other.model)
    for name, buffer in other.model.named_buffers():
        kept = buffer.clone()
        last = buffer.flatten()[-1:].view(torch.uint8)
        last[-1] ^= 1
        assert not identical(one.model, other.model), name
        buffer.copy_(kept)
    assert state_vector(one.model).isfinite().all()
    interpolate(between.model, one.model, other.model, 0.3)
    assert identical(one.model, between.model)


def test_layouts_are_those_of_module_to():
    ours, theirs = (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 1)) for _ in range(2))
    theirs.to("cpu", memory_format=torch.channels_last)
    place(ours, torch.device("cpu"))
    strides = [[p.stride() for p in network.parameters()] for network in (ours, theirs)]
    assert strides[0] == strides[1]
