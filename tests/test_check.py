"""The trial of all stages: each kind of fault is one line before any training."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import edit, snakemake
from test_odd_networks import ODD, Plain
from torch import nn

from twophase import stages, studyfile, training
from twophase.errors import RunError
from twophase.stages.check import check
from twophase.stages.data import data
from twophase.store.artifacts import read_table
from twophase.store.fingerprint import closure
from twophase.study import runs


class Net(Plain):
    """Plain, with something between its layers in training and in evaluation."""

    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.between = self.part()

    def part(self):
        return nn.Identity()

    def forward(self, x):
        return self.h(self.between(F.relu(self.a(x))).mean((2, 3)))


class NoStatistics(Net):
    def part(self):
        return nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8, track_running_stats=False))


class OwnNorm(Net):
    """As batch norm of the batch at hand, by hand."""

    def part(self):
        class Standard(nn.Module):
            def forward(self, x):
                return (x - x.mean((0, 2, 3), keepdim=True)) / (x.std() + 1)

        return Standard()


class Dropout(Net):
    def part(self):
        return nn.Dropout(0.2)


class DropoutByFunction(Net):
    def forward(self, x):
        return self.h(F.dropout(self.between(F.relu(self.a(x))).mean((2, 3)), 0.1, self.training))


class NumpyNoise(Net):
    """Only in evaluation, as with random crops of test images."""

    def part(self):
        class Shift(nn.Module):
            def forward(self, x):
                return x if self.training else x + float(np.random.rand())

        return Shift()


class Counter(Net):
    """What a non-deterministic operation looks like: each call rounds otherwise."""

    def part(self):
        class Uneven(nn.Module):
            calls = 0

            def forward(self, x):
                Uneven.calls += 1
                return x * (1 + 1e-7 * Uneven.calls)

        return Uneven()


class Attribute(Net):
    """A running mean that is no buffer, so no state holds it."""

    def part(self):
        class Running(nn.Module):
            mean = 0.0

            def forward(self, x):
                if self.training:
                    self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()
                return x - self.mean

        return Running()


class UnevenBackward(Net):
    def part(self):
        class Uneven(torch.autograd.Function):
            calls = 0

            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, g):
                Uneven.calls += 1
                return g * (1 + 1e-7 * Uneven.calls)

        class Layer(nn.Module):
            def forward(self, x):
                return Uneven.apply(x)

        return Layer()


class Cache(Net):
    """Evaluates with the weights that it saw first."""

    def part(self):
        class Scale(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale, self.kept = nn.Parameter(torch.ones(1)), None

            def forward(self, x):
                if self.training:
                    return x * self.scale
                if self.kept is None:
                    self.kept = self.scale.detach().clone()
                return x * self.kept

        return Scale()


class StartsAnywhere(Net):
    def part(self):
        norm = nn.GroupNorm(2, 8)
        nn.init.constant_(norm.bias, float(np.random.default_rng().normal()))
        return norm


class MoreOutputs(Net):
    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.h = nn.Linear(8, classes + 3)


class OnePerPixel(Net):
    def forward(self, x):
        return self.h(F.relu(self.a(x)).permute(0, 2, 3, 1))


class Dictionary(Net):
    def forward(self, x):
        return {"logits": super().forward(x)}


class LogOfZero(Net):
    def part(self):
        class Log(nn.Module):
            def forward(self, x):
                return x.log() * 0

        return nn.Sequential(nn.ReLU(), Log())


class RootOfZero(Net):
    """Finite; but the root's derivative at zero is not."""

    def forward(self, x):
        return self.h(F.relu(self.a(x)).amin((2, 3)).mul(0).sqrt())


class InPlace(Net):
    """Changes what the derivative of the exponential function needs."""

    def part(self):
        class Exp(nn.Module):
            def forward(self, x):
                y = x.exp()
                y += 1
                return y

        return Exp()


class Once(torch.autograd.Function):
    """Twice x, whose derivative has none, as with kernels written by hand."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g


class DifferentiableOnce(Net):
    def part(self):
        class Twice(nn.Module):
            def forward(self, x):
                return Once.apply(x)

        return Twice()


class OwnPrecision(Net):
    """Calculates with a tensor that no `.double()` reaches."""

    def part(self):
        class Fixed(nn.Module):
            weight = torch.ones(8, 8)

            def forward(self, x):
                return F.conv2d(x, self.weight[:, :, None, None])

        return Fixed()


class FixedBatch(Net):
    def forward(self, x):
        return super().forward(x).view(16, -1)


class Auxiliary(Net):
    """Gives more in training, as Inception does."""

    def forward(self, x):
        out = super().forward(x)
        return (out, out) if self.training else out


class RandomDepth(Net):
    """Leaves out a layer, now and then."""

    def forward(self, x):
        x = F.relu(self.a(x))
        if random.random() < 0.5:
            x = self.between(x)
        return self.h(x.mean((2, 3)))

    def part(self):
        return nn.Conv2d(8, 8, 1)


class NoSuchLayer(Net):
    def part(self):
        return nn.Conv2d(8, 8, 3, groups=3)


class TwoByTwo(Net):
    """Divides by the spread of one image's pixels after pooling, of which there is one."""

    def part(self):
        class Whiten(nn.Module):
            def forward(self, x):
                x = F.adaptive_avg_pool2d(x, 1)
                return x / x.std((2, 3), keepdim=True)

        return Whiten()


class Overflow(Net):
    """Infinite in training, where no mask makes it finite."""

    def part(self):
        class Power(nn.Module):
            def forward(self, x):
                return (100 * x.abs()).exp() if self.training else x

        return Power()


class Detached(Net):
    def forward(self, x):
        return super().forward(x).detach()


class Groups(Net):
    def part(self):
        return nn.GroupNorm(2, 8)


FAULTS = {
    Auxiliary: ("base", "Auxiliary itself", "a tuple in training; return only the logits"),
    RandomDepth: ("base", "RandomDepth itself", r"random numbers \(random\)"),
    NoSuchLayer: ("base", "NoSuchLayer itself", "must be divisible by groups; mend the network"),
    TwoByTwo: ("base", "layer between (Whiten)", "NaN.*divisions"),
    Overflow: ("base", "layer between (Power)", "infinity.*overflow"),
    Detached: ("base", "layer unknown", "does not require grad"),
    NoStatistics: ("kernel", "layer between.1 (BatchNorm2d)", "running statistics"),
    OwnNorm: ("kernel", "layer between (Standard)", "the others of its batch"),
    Dropout: ("base", "layer between (Dropout)", r"random numbers \(torch\).*p = 0"),
    DropoutByFunction: ("base", "DropoutByFunction itself", "random numbers"),
    NumpyNoise: ("base", "layer between (Shift)", r"random numbers \(numpy\)"),
    Counter: ("base", "layer between (Uneven)", "not deterministic"),
    Attribute: ("base", "layer between (Running)", "register_buffer"),
    UnevenBackward: ("base", "a.bias", "not deterministic"),
    Cache: ("base", "layer between (Scale)", "register_buffer"),
    StartsAnywhere: ("base", "between.bias", "draw them from torch's generator"),
    MoreOutputs: ("base", "layer h (Linear)", r"\(16, 13\), not \(16, 10\)"),
    OnePerPixel: ("base", "layer h (Linear)", r"\(16, 8, 8, 10\)"),
    Dictionary: ("base", "Dictionary itself", "a dict; return only the logits"),
    LogOfZero: ("base", "layer between.1 (Log)", "gives NaN.*logarithms"),
    RootOfZero: ("base", "layer a (Conv2d)", "gradient of bias is not finite.*root"),
    InPlace: ("base", "layer between (Exp)", "modified by an inplace operation"),
    DifferentiableOnce: (
        "curvature",
        "layer between (Twice)",
        "once_differentiable.*`curvature: false`",
    ),
    OwnPrecision: ("growth", "layer between (Fixed)", "`growth: false`"),
    FixedBatch: ("kernel", "FixedBatch itself", "shape.*`kernel: false`"),
    Groups: ("matching", "units cannot be matched: layer between (GroupNorm)", "`matching: false`"),
}


@pytest.fixture
def study(raw, write_study, in_tmp, monkeypatch):
    """Function of a network's class and sections to leave out: a study that trains it."""

    def study(kind, *without):
        build = training.build

        def own(network, *sizes):
            return kind(*sizes) if network.architecture == "resnet8" else build(network, *sizes)

        monkeypatch.setattr(training, "build", own)
        raw["models"] = {"mine": {"network": {"architecture": "resnet8"}}}
        raw["models"]["mine"] |= dict.fromkeys(without, False)
        found = studyfile.load(write_study(raw))
        data(found)
        return found

    return study


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_a_fault_is_one_line_with_stage_layer_and_remedy(kind, study):
    stage, layer, rest = FAULTS[kind]
    with pytest.raises(RunError, match=rest) as caught:
        check(studied := study(kind))
    start = f"workflow/config/mine.yaml: models.mine: stage {stage}: {layer}"
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    assert not stages.check_mark(studied).path.exists()


class Double(Net):
    """All in float64, with a buffer of its own kind."""

    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.register_buffer("on", torch.tensor([True, False, True]))
        self.double()

    def forward(self, x):
        return super().forward(x.double())


class Masked(Net):
    """Infinite on the way, and finite in the end."""

    def part(self):
        class Mask(nn.Module):
            def forward(self, x):
                return x.masked_fill(x < 0.1, -torch.inf)

        return nn.Sequential(Mask(), nn.Softmax(1))


class InPlaceAndRight(Net):
    def part(self):
        return nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(inplace=True))


class Constant(Net):
    """Whose logits are zero at first."""

    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        nn.init.zeros_(self.h.weight)


class Recurrent(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.rows, self.h = nn.GRU(8 * channels, 8, batch_first=True), nn.Linear(8, classes)

    def forward(self, x):
        return self.h(self.rows(x.flatten(1, 2))[0][:, -1])


class Spectral(Net):
    """With a weight that is computed, from buffers that each call in training changes."""

    def part(self):
        return nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 1))


# Networks that are right, and the sections that they must do without.
GOOD = dict.fromkeys(ODD.values(), ("matching",)) | {
    ODD["Frozen"]: (),
    Double: ("growth", "matching"),  # it knows one precision
    Masked: ("matching",),
    InPlaceAndRight: (),
    Constant: (),
    Recurrent: ("kernel", "matching"),
    Spectral: ("matching",),
    NoStatistics: ("kernel",),
    DifferentiableOnce: ("curvature", "linearized", "matching"),
}


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_odd_networks_that_are_right_pass(kind, study):
    check(studied := study(kind, *GOOD[kind]))
    tried = read_table(stages.check_mark(studied))
    own = [s for s, row in stages.STAGES.items() if row.scope == "run"]
    left_out = [s for s in own if stages.STAGES[s].section in GOOD[kind]]
    assert tried["stage"].tolist() == [s for s in own if s not in left_out]


def test_a_wrong_derivative_is_told_by_the_linearised_stage(study):
    with pytest.raises(RunError, match=r"stage linearized: layer between \(Twice\): .*`jvp`"):
        check(study(DifferentiableOnce, "curvature"))


def test_nothing_but_the_mark_is_left(study):
    studied = study(Net)
    before = {path for path in Path().rglob("*") if path.is_file()}
    check(studied)
    assert {path for path in Path().rglob("*") if path.is_file()} - before == {
        stages.check_mark(studied).path
    }


def test_each_network_that_fails_has_its_line(study, raw, write_study):
    study(MoreOutputs)
    raw["models"]["other"] = {**raw["models"]["mine"], "chaos": False}
    raw["models"]["vgg"] = {"network": {"architecture": "vgg_small"}}
    with pytest.raises(RunError) as caught:
        check(studyfile.load(write_study(raw)))
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["models.mine", "models.other"]


def _mark(raw, write_study):
    return stages.check_mark(studyfile.load(write_study(raw))).path


def test_the_mark_is_of_what_is_tried_and_nothing_else(raw, write_study):
    first = _mark(raw, write_study)
    raw["seeds"] = [1, 2]
    raw["title"] = "Another"
    raw["training"].update(iterations=500, batch_size=100, lr_drops=[3])
    raw["chaos"].update(forks=[3, 7], compare=[9], control=[], directions=7, barrier_threshold=9)
    raw["models"]["resnet"]["chaos"] = {}
    raw["kernel"].update(every=10, until=50, references=[10], intervals=[20])
    raw["linearized"]["switches"] = [3, 4]
    raw["curvature"].update(every=3, batches=3)
    assert _mark(raw, write_study) == first
    for change in (
        lambda: raw["training"].update(lr=0.03),
        lambda: raw["models"]["vgg"]["network"].update(batch_norm=True),
        lambda: raw["data"]["augmentation"].update(shift=2),
        lambda: raw["kernel"].update(kind="trace"),
        lambda: raw.pop("growth"),
        lambda: raw["compute"].update(threads=2),
        lambda: raw["data"]["images"].update(test_examples=300),
    ):
        before = _mark(raw, write_study)
        change()
        assert _mark(raw, write_study) != before


def test_the_mark_is_of_all_code_that_the_study_runs(smoke):
    (run,) = runs(smoke)[:1]
    counted = closure(*stages.STAGES["check"].code(run))
    own = {f"stages.{stage}" for stage in stages.STAGES}
    assert own | {"networks.vgg", "networks.resnet", "optimizers.sgd", "trial", "entk"} <= counted
    assert "optimizers.adamw" not in counted


def test_a_fault_stops_the_workflow_before_any_training(copy_checkout, tmp_path):
    folder = copy_checkout(tmp_path / "checkout")
    edit(
        folder / "src/twophase/networks/resnet.py",
        "self.linear = nn.Linear(before, classes)",
        "self.linear = nn.Sequential(nn.Dropout(0.1), nn.Linear(before, classes))",
    )
    run = snakemake(folder, "--cores", "2", "figures/smoke/all")
    assert run.returncode == 1
    expected = (
        "    workflow/config/smoke.yaml: models.resnet: stage base: layer linear.0 (Dropout): "
        "draws random numbers (torch), and a fork without perturbation would not equal its base "
        "run; do without (dropout: p = 0)"
    )
    assert expected in run.stderr.splitlines()
    assert "Traceback" not in run.stderr
    made = {file.name.split("-")[0] for file in folder.glob("results/**/*-*.*")}
    assert made == {"data", "check"}  # the second only its log
    assert not list(folder.glob("results/smoke/check-*"))
