"""Networks modulo permutation, and the similarity of their features: known answers."""

import functools
import itertools
import math

import pandas as pd
import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from twophase.commands import plan
from twophase.errors import RunError, StudyError
from twophase.measures.barrier import barrier, path_losses
from twophase.measures.features import last_hidden, linear_cka, unbiased_cka
from twophase.measures.permutation import (
    check_units,
    moved,
    permute,
    shuffled,
    units,
    weight_matching,
)
from twophase.networks.resnet import resnet8, resnet20
from twophase.networks.vgg import vgg16, vgg_small
from twophase.stages.chaos import chaos
from twophase.stages.matching import matching
from twophase.store.artifacts import read_table
from twophase.study import stages
from twophase.study.matching import matching_points
from twophase.study.run import runs
from twophase.study.studyfile import load
from twophase.training.evaluation import logits
from twophase.training.tensors import named_state

pytestmark = pytest.mark.usefixtures("one_thread")


def _mlp(*widths):
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


class Flat(nn.Module):
    """Pixels are flattened behind a residual block; batch norm of both kinds."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1)
        self.pool, self.n = nn.MaxPool2d(2), nn.BatchNorm1d(80)
        self.h, self.out = nn.Linear(80, 7), nn.Linear(7, 10)

    def forward(self, x):
        x = torch.relu(self.a(x))
        x = self.pool(x + self.b(x).relu())
        return self.out(torch.tanh(self.h(self.n(torch.flatten(x, 1)))))


class People(nn.Module):
    """What the networks of others have, in the spellings that they use."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        for part, layers in PARTS.get(kind, {}).items():
            setattr(self, part, layers())
        self.h, self.out = nn.Linear(HEADS.get(kind, 8), 6), nn.Linear(6, 10)

    def forward(self, x):
        x, kind = self.a(x), self.kind
        if kind == "elementwise":
            x = self.slope(self.layers(x)) * 0.5 + 1
            x = self.b(nn.functional.leaky_relu(x, 0.2).clamp(min=-1).sigmoid())
        elif kind == "group norm":
            x = self.norm(x).relu()
            x = self.b(x) + x
        elif kind == "instance norm":
            x = self.b(self.each(x).relu())
        elif kind in ("depthwise", "depthwise, wider"):
            x = self.deep(self.b(x)).relu()
        elif kind == "grouped":
            x = self.grouped(self.b(x).relu())
        elif kind == "gates":
            gate = torch.sigmoid(self.gate(nn.functional.adaptive_avg_pool2d(x, 1)))
            x = self.b(x * gate)
            x = x * torch.sigmoid(x)
        else:
            x = self.b(x).relu()
        return self.out(self.h(POOLED.get(kind, POOLED[""])(x)).relu())


PARTS = {
    "elementwise": {
        "layers": lambda: nn.Sequential(nn.LeakyReLU(), nn.Mish(), nn.Hardswish(), nn.Softplus()),
        "slope": lambda: nn.PReLU(8),
    },
    "group norm": {"norm": lambda: nn.GroupNorm(2, 8)},
    "instance norm": {"each": lambda: nn.InstanceNorm2d(8, affine=True)},
    "depthwise": {"deep": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8)},
    "depthwise, wider": {"deep": lambda: nn.Conv2d(8, 16, 3, padding=1, groups=8)},
    "grouped": {"grouped": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=4)},
    "gates": {"gate": lambda: nn.Conv2d(8, 8, 1)},
}
HEADS = {"depthwise, wider": 16, "view": 8 * 64, "reshape": 8 * 64}
POOLED = {
    "": lambda x: torch.mean(x, dim=[2, 3], keepdim=True).flatten(start_dim=1),
    "view": lambda x: x.view(x.size(0), -1),
    "reshape": lambda x: x.reshape(x.shape[0], -1),
    "pooled": lambda x: nn.functional.adaptive_avg_pool2d(x, (1, 1)).view(x.size(0), -1),
    "mean, mean": lambda x: x.mean(-1).mean(-1),
    "squeezed": lambda x: nn.functional.adaptive_max_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "pooled by its size": lambda x: torch.flatten(
        nn.functional.avg_pool2d(x, x.size()[2:]), start_dim=1
    ),
}
PEOPLE = [*PARTS, *(kind for kind in POOLED if kind)]
NETWORKS = {
    **{name: functools.partial(People, name) for name in PEOPLE},
    "vgg_small": vgg_small,
    "vgg_small with batch norm": lambda: vgg_small(batch_norm=True),
    "vgg16 narrow": lambda: vgg16(1, width=0.05),
    "resnet8": resnet8,
    "resnet20 narrow": lambda: resnet20(1, width=0.5),
    "flat": Flat,
    "mlp": lambda: _mlp(64, 9, 8, 10),
}


def _any(name, seed=0):
    """A network all of whose entries are random."""
    model = NETWORKS[name]()
    generator = torch.Generator().manual_seed(seed)
    for tensor in named_state(model).values():
        if tensor.is_floating_point():
            spread = 2 / max(1, tensor[0].numel()) ** 0.5 if tensor.dim() > 1 else 0.1
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)
            if tensor.dim() == 1:  # batch norm's scale and variance among them
                tensor.abs_().add_(0.5)
    return model.eval()


def _images(name, n=16):
    size = 32 if name.startswith("vgg16") else 8
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_permuted_network_computes_the_same_and_is_matched_back(name):
    one, other, between = (_any(name) for _ in range(3))
    images = _images(name)
    found = units(one, images[:2])
    check_units(_any(name), found, images)
    for seed in (1, 2, 3, 0):
        permute(between, found, shuffled(found, seed))
        assert torch.allclose(logits(one, images), logits(between, images), rtol=1e-3, atol=1e-4)
    places = shuffled(found)
    permute(other, found, places)
    assert moved(found, places) > 0.5
    assert torch.allclose(logits(one, images), logits(other, images), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(*(next(m.parameters()).detach() for m in (one, other)))
    back = weight_matching(one, other, found, 100)
    permute(other, found, back)
    assert torch.equal(places[back], torch.arange(found.count))
    for a, b in zip(named_state(one).values(), named_state(other).values(), strict=True):
        assert torch.equal(a, b)
    sets = {"all": (images, torch.randint(10, (len(images),)))}
    for recalibrate in (None, images):
        losses = path_losses(between, one, other, [0.0, 0.25, 0.5, 1.0], sets, recalibrate)
        assert barrier([0.0, 0.25, 0.5, 1.0], losses["all"]) == 0.0


def _numbers(model, images=None):
    images = torch.zeros(2, 1, 8, 8) if images is None else images
    return sorted(len(group) for group in units(model, images).groups)


def test_a_padded_shortcut_leaves_fewer_permutations_than_channels():
    # Of ResNet-8's streams of 8, 16 and 32 channels each is part of the next, and each block has
    # hidden channels of its own.
    assert _numbers(resnet8()) == sorted([8, 16 - 8, 32 - 16, 8, 16, 32])
    assert _numbers(vgg_small()) == [16, 16, 32, 32, 64, 64, 64]


def test_units_stay_within_the_groups_of_a_norm_and_before_a_grouped_convolution():
    # The stream's two groups of four, and six hidden units of the head.
    assert _numbers(People("group norm")) == [4, 4, 6]
    # What leads into the grouped convolution stays; behind it there are four groups of two.
    assert _numbers(People("grouped")) == [2, 2, 2, 2, 6, 8]
    # Behind a depthwise convolution are the units before it.
    assert _numbers(People("depthwise")) == [6, 8, 8]
    assert _numbers(People("depthwise, wider")) == [6, 8, 8]
    # Depthwise of the images: each image channel's own.
    images = nn.Sequential(nn.Conv2d(2, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 3, 1))
    assert _numbers(images, torch.zeros(2, 2, 8, 8)) == [3, 3]


def test_a_network_that_cannot_be_matched_leaves_the_match_out_and_nothing_else(
    in_trained, smoke, monkeypatch, capsys
):
    run = runs(smoke)[0]
    monkeypatch.setattr("twophase.stages.matching.units", lambda _, x: units(Odd("sorted"), x))
    matching(run)
    table = read_table(stages.run_table(run, "matching"))
    assert table[["matched_barrier", "moved"]].isna().all(axis=None)
    rest = ["test_barrier", "recalibrated_barrier", "cka", "unbiased_cka"]
    assert table[rest].notna().all(axis=None)
    assert "units cannot be matched: " in capsys.readouterr().err
    assert any("what `sort` does to units" in line for line in plan.unmatched(smoke))


def _inner(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return sum(float((a.detach().double() * b.detach().double()).sum()) for a, b in pairs)


@pytest.mark.parametrize("widths", [(4, 6, 3), (4, 4, 4, 3)])
def test_the_match_is_the_best_of_all_permutations(widths):
    torch.manual_seed(3)
    one, other = _mlp(*widths).eval(), _mlp(*widths).eval()
    first = {name: t.clone() for name, t in named_state(other).items()}

    def restored():
        other.load_state_dict(first)
        return other

    found = units(one, torch.zeros(2, 1, 2, 2))
    places = weight_matching(one, other, found, 100)
    permute(restored(), found, places)
    reached = _inner(one, other)
    best, local = -torch.inf, -torch.inf
    orders = [list(itertools.permutations(group.tolist())) for group in found.groups]
    for choice in itertools.product(*orders):
        tried = torch.arange(found.count)
        for group, order in zip(found.groups, choice, strict=True):
            tried[group] = torch.tensor(order)
        permute(restored(), found, tried)
        value = _inner(one, other)
        best = max(best, value)
        # With one layer changed and the others held, nothing is better.
        if sum(not torch.equal(tried[g], places[g]) for g in found.groups) <= 1:
            local = max(local, value)
    assert reached == pytest.approx(local, rel=1e-6)
    if len(found.groups) == 1:
        assert reached == pytest.approx(best, rel=1e-6)


def test_equal_networks_and_broken_ones_are_left_as_they_are():
    one, other = _any("resnet8"), _any("resnet8")
    found = units(one, _images("resnet8", 2))
    assert moved(found, weight_matching(one, other, found, 10)) == 0.0
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(torch.nan)
    assert moved(found, weight_matching(one, other, found, 10)) == 0.0


class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.c, self.h = nn.Conv2d(4, 4, 1), nn.Linear(4, 10)
        self.register_buffer("places", torch.arange(4.0).view(4, 1, 1))

    def forward(self, x):
        x = self.a(x)
        if self.kind == "groups":
            x = self.b(x)
        elif self.kind == "twice":
            x = self.c(self.c(x))
        elif self.kind == "product":
            x = x * self.c(x)
        elif self.kind == "values decide" and x.sum() > 0:
            x = self.c(x)
        elif self.kind == "sorted":
            x = x.sort(1).values
        elif self.kind == "half of them":
            x = torch.cat([x[:, :2].relu(), x[:, 2:]], 1)
        elif self.kind == "written into":
            y = torch.zeros_like(x)
            y[:, 1:] = x[:, 1:]
            x = y
        elif self.kind == "one pixel":
            return self.h(x.flatten(2).transpose(1, 2)[:, 0])
        elif self.kind == "mixed":
            return self.h(x.flatten(1)[:, ::65][:, :4])
        elif self.kind == "images added":
            x = x + self.c(x) + self.images
        elif self.kind == "places added":
            x = x + self.places
        elif self.kind == "next one added":
            x = x + x.roll(1, 1)
        return self.h(x.mean((2, 3)))


@pytest.mark.parametrize("kind", ["sorted", "values decide", "written into", "images added"])
def test_what_is_not_known_to_keep_channels_apart_is_refused(kind):
    images = torch.zeros(2, 1, 8, 8)
    with pytest.raises(RunError, match=r"^units cannot be matched: .*: `matching: false`$"):
        units(Odd(kind), images)
    with pytest.raises(RunError, match="Sequential itself: has no hidden units"):
        units(_mlp(64, 10), images)


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("none", [4]),
        ("twice", [4]),  # the layer's inputs are its outputs
        ("half of them", [2, 2]),
        ("one pixel", [4]),
        ("mixed", [1, 1, 1, 1]),  # each of another pixel
    ],
)
def test_units_that_may_change_places(kind, groups):
    images, model = torch.randn(2, 1, 8, 8), Odd(kind)
    assert _numbers(model) == groups
    check_units(model, units(model, images), images)


@pytest.mark.parametrize("kind", ["places added", "next one added"])
def test_units_to_which_something_is_added_that_does_not_move_with_them_stay(kind):
    with pytest.raises(RunError, match="Odd itself: has no hidden units"):
        units(Odd(kind), torch.zeros(2, 1, 8, 8))


def test_a_hook_is_seen():
    model, images = _any("mlp"), _images("mlp")
    assert _numbers(model, images) == [8, 9]
    model[1].register_forward_hook(lambda layer, inputs, out: out + torch.arange(9))
    assert _numbers(model, images) == [8]


def test_masked_weights_cannot_be_copied_and_are_seen():
    model, images = _mlp(64, 9, 8, 10).eval(), _images("mlp")
    nn.utils.prune.random_unstructured(model[1], "weight", 0.5)
    assert _numbers(model, images) == [8]  # the mask of the others does not move with them


def test_what_changed_after_the_units_were_found_is_refused():
    model, images = _any("mlp"), _images("mlp")
    found = units(model, images)
    check_units(model, found, images)
    model[1].register_forward_hook(lambda layer, inputs, out: out + torch.arange(9))
    with pytest.raises(RunError, match="Sequential itself: computes something else"):
        check_units(model, found, images)


def test_the_check_moves_each_group_of_two():
    model, images = _mlp(64, 2, 2, 10).eval(), _images("mlp")
    found = units(model, images)
    check_units(model, found, images)
    for layer in ("1.weight", "3.weight"):  # of one group, what leads to it is forgotten
        axes = {key: each for key, each in found.axes.items() if key != (layer, 0)}
        with pytest.raises(RunError, match="computes something else with its units permuted"):
            check_units(model, found._replace(axes=axes), images)


def test_cka_of_equal_features_is_one_up_to_rotation_scale_and_offset():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, width, generator=generator) for width in (8, 5))
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, 3 * x @ rotation + 7) == pytest.approx(1, abs=1e-6)
    assert linear_cka(3 * x @ rotation + 7, y) == pytest.approx(linear_cka(x, y), rel=1e-4)
    assert 0 < linear_cka(x, y) < 0.5
    assert linear_cka(x, torch.ones(50, 3)) != linear_cka(x, torch.ones(50, 3))  # not a number
    # By the examples' kernels: HSIC with centring matrices, normalised.
    k, m = (f.double() @ f.double().T for f in (x, y))
    centre = torch.eye(50, dtype=torch.float64) - 1 / 50

    def hsic(a, b):
        return float((a @ centre @ b @ centre).trace())

    assert linear_cka(x, y) == pytest.approx(hsic(k, m) / (hsic(k, k) * hsic(m, m)) ** 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cka", [linear_cka, unbiased_cka])
def test_features_that_do_not_vary_have_no_cka(cka, dtype):
    generator = torch.Generator().manual_seed(0)
    for n in (4, 7, 300):
        noise = torch.randn(n, 3, generator=generator, dtype=dtype)
        constant = torch.tensor([0.1, -5.3, 1e6 / 7], dtype=dtype).repeat(n, 1)
        # A sum in another order, as a batch of another size has, is no feature either.
        rounded = constant * (1 + torch.finfo(dtype).eps * noise.sign())
        for same in (constant, rounded):
            for pair in ((same, noise), (noise, same), (same, same)):
                assert math.isnan(cka(*pair))
            # What varies is not lost beside what does not.
            both = torch.cat([noise, same], 1)
            assert cka(both, noise) == pytest.approx(1, abs=1e-6)


def test_unbiased_cka_is_that_of_all_pairs_of_four_examples():
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(9, p, generator=generator, dtype=torch.float64) for p in (5, 3))
    k, m = (f @ f.T for f in (x, y))

    def hsic(a, b):  # the U-statistic of Song et al. 2012 by its definition
        terms = [
            a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q])
            for i, j, q, r in itertools.permutations(range(9), 4)
        ]
        return float(sum(terms)) / len(terms)

    expected = hsic(k, m) / (hsic(k, k) * hsic(m, m)) ** 0.5
    assert unbiased_cka(x, y) == pytest.approx(expected)
    assert unbiased_cka(x - 3, 2 * y) == pytest.approx(expected)
    # Nothing in common, more features than examples: 0 on average, where the biased one is near 1.
    pairs = [torch.randn(2, 30, 400, generator=generator) for _ in range(60)]
    assert abs(sum(unbiased_cka(*pair) for pair in pairs)) / 60 < 0.02
    assert all(linear_cka(*pair) > 0.8 for pair in pairs)
    assert math.isnan(unbiased_cka(x[:3], y[:3]))


def test_the_last_hidden_features_are_what_the_last_layer_reads():
    model, images = _any("flat"), _images("flat", 600)  # in two chunks
    features = last_hidden(model, images)
    assert features.shape == (600, 7)
    assert torch.allclose(model.out(features), logits(model, images), atol=1e-5)


def test_the_stage_keeps_what_is_there_and_its_plain_barrier_is_that_of_chaos(in_trained, smoke):
    keys = ["t0", "direction", "t1"]
    for run in runs(smoke):
        chaos(run)
        matching(run)
        table = read_table(stages.run_table(run, "matching"))
        points = list(table[keys].itertuples(index=False, name=None))
        assert points == matching_points(run)
        assert {t1 for _, _, t1 in points} == {12}
        both = pd.merge(table, read_table(stages.run_table(run, "chaos")), on=keys)
        assert both["test_barrier_x"].tolist() == both["test_barrier_y"].tolist()
        if run.name == "vgg":  # no batch norm
            assert table["recalibrated_barrier"].tolist() == table["test_barrier"].tolist()
        assert table["cka"].between(0.5, 1 + 1e-9).all()
        assert table["moved"].between(0, 1).all()
        # One of the pairs made again is the same, and the others are kept.
        parts = stages.STAGES["matching"].parts(run)
        parts[0].path.unlink()
        stages.run_table(run, "matching").path.unlink()
        kept = [part.path.stat().st_mtime_ns for part in parts[1:]]
        matching(run)
        assert kept == [part.path.stat().st_mtime_ns for part in parts[1:]]
        pd.testing.assert_frame_equal(read_table(stages.run_table(run, "matching")), table)


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        ([12, 6], "matching.compare = [12, 6]: must rise"),
        ([7], "matching.compare = 7: is no compare point; must be among chaos.compare = [6, 12]"),
    ],
)
def test_points_that_forks_do_not_have_are_refused(raw, write_study, compare, message):
    raw["matching"]["compare"] = compare
    with pytest.raises(StudyError) as caught:
        load(write_study(raw))
    assert message in str(caught.value)
