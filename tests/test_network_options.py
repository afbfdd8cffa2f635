from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from twophase.entk import entk
from twophase.measures.growth import branches
from twophase.networks.variants import group_norm
from twophase.study import networks
from twophase.training.loop import build


def _build(channels=1, **options):
    record = TypeAdapter(networks.Network).validate_python(options)
    record = networks.placed(record, Path(), 8)
    torch.manual_seed(0)
    return build(record, channels, 10)


def _widths(network):
    return [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(
    ("architecture", "width", "widths"),
    [
        ("vgg_small", 0.5, [8, 8, 16, 16, 32, 32, 32]),
        ("resnet8", 1.5, [12, 12, 12, 24, 24, 48, 48]),
        ("vgg_small", 0.01, [1] * 7),
    ],
)
def test_width_multiplies_the_channels_of_every_convolution(architecture, width, widths):
    network = _build(architecture=architecture, width=width)
    assert _widths(network) == widths
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("architecture", ["vgg16", "vgg_small", "resnet20", "resnet8"])
@pytest.mark.parametrize(("name", "kind"), [("gelu", nn.GELU), ("silu", nn.SiLU)])
def test_an_activation_replaces_every_relu_and_nothing_else(architecture, name, kind):
    plain = _build(architecture=architecture, width=0.25)
    other = _build(architecture=architecture, width=0.25, activation=name)
    assert [type(m) for m in other.modules()] == [
        kind if isinstance(m, nn.ReLU) else type(m) for m in plain.modules()
    ]
    weights = zip(plain.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_relu_networks_apply_relu_at_every_activation():
    # A gate that is computed past its module could not be counted.
    for architecture in ("vgg_small", "resnet8"):
        network = _build(architecture=architecture)
        lowest = []

        def look(module, inputs, out, lowest=lowest):
            lowest.append(float(out.detach().min()))

        for module in network.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(look)
        network(torch.randn(8, 1, 8, 8))
        assert lowest == [0.0] * 7


def test_the_last_layer_is_initialised_as_asked():
    # Fan-out of a linear layer with 10 outputs: deviation (2 / 10) ** 0.5.
    for head_init, deviation in (("normal", 0.01), ("kaiming_fan_out", 0.2**0.5)):
        last = _build(architecture="vgg_small", head_init=head_init).layers[-1]
        assert float(last.weight.detach().std()) == pytest.approx(deviation, rel=0.1)
        assert not last.bias.any()


def _kinds(network):
    return [type(m).__name__ for m in network.modules()]


@pytest.mark.parametrize(
    "options",
    [
        {"architecture": "resnet8"},
        {"architecture": "vgg_small", "batch_norm": True},
        {"architecture": "resnet18", "width": 0.125},
    ],
    ids=lambda options: options["architecture"],
)
def test_a_norm_takes_the_place_of_batch_norm_and_nothing_else(options):
    plain = _build(**options)
    for norm, kind in (("group", "GroupNorm"), ("none", "Identity")):
        other = _build(**options, norm=norm)
        assert _kinds(other) == [kind if k == "BatchNorm2d" else k for k in _kinds(plain)]
        weights, ours = plain.state_dict(), other.state_dict()
        same = [name for name in ours if name.endswith("weight") and ours[name].dim() > 1]
        assert all(torch.equal(ours[name], weights[name]) for name in same)
        assert all(m.bias is not None for m in other.modules() if isinstance(m, nn.Conv2d)) == (
            norm == "none" or "vgg" in options["architecture"]
        )
        # Without batch norm an example does not depend on the others, in training too.
        images = torch.randn(4, 1, 8, 8)
        assert torch.allclose(other.train()(images)[:1], other(images[:1]), atol=1e-5)


def test_group_norm_has_at_least_four_channels_in_a_group():
    for channels, groups in ((512, 32), (64, 16), (16, 4), (12, 3), (7, 1), (3, 1), (1, 1)):
        assert group_norm(channels).num_groups == groups


def test_networks_are_initialised_as_asked():
    for architecture in ("vgg_small", "resnet8", "mlp"):
        drawn = {
            init: _build(architecture=architecture, init=init)
            for init in ("default", "pytorch", "kaiming_fan_in", "kaiming_fan_out")
        }
        for init, network in drawn.items():
            layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
            layer = layers[-2]
            fan_in = layer.weight[0].numel()
            fan_out = layer.weight.numel() // layer.weight.shape[1]
            wanted = {
                "pytorch": (3 * fan_in) ** -0.5,
                "kaiming_fan_in": (2 / fan_in) ** 0.5,
                "kaiming_fan_out": (2 / fan_out) ** 0.5,
            }
            if init in wanted:
                found = float(layer.weight.detach().std())
                assert found == pytest.approx(wanted[init], rel=0.05), (architecture, init)


def test_the_wide_head_has_dropout_after_each_activation():
    with torch.device("meta"):
        record = {"architecture": "vgg16", "wide_head": True, "width": 0.25, "dropout": 0.5}
        head = _kinds(_build(3, **record).layers)[-8:]
    assert head == ["Flatten", *2 * ["Linear", "ReLU", "Dropout"], "Linear"]


def test_new_networks_have_the_sizes_that_their_options_say():
    mlp = _build(architecture="mlp", widths=[7, 5])
    assert [tuple(p.shape) for p in mlp.parameters() if p.dim() > 1] == [(7, 64), (5, 7), (10, 5)]
    vit = _build(architecture="vit", patch=2, width=8, depth=3, heads=2)
    assert tuple(vit.positions.shape) == (1, 16, 8)
    # Patches, positions; per block two norms, four square maps, two of twice the width; the end.
    block = 2 * 16 + 4 * (64 + 8) + (8 * 16 + 16) + (16 * 8 + 8)
    assert sum(p.numel() for p in vit.parameters()) == (4 * 8 + 8) + 128 + 3 * block + 16 + 90
    # He et al. 2016: 11.7 million with ImageNet's stem and 1,000 classes.
    with torch.device("meta"):
        assert sum(p.numel() for p in _build(3, architecture="resnet18").parameters()) == 11173962


def test_attention_is_pytorchs_and_sees_all_patches():
    vit = _build(architecture="vit", patch=4, width=8, depth=1, heads=2)
    images = torch.randn(1, 1, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(vit(images)[0, 0], images)
    assert bool(gradient.any(2).any(1).all())
    block, x = vit.blocks[0], torch.randn(2, 4, 8)
    a = block.attention
    y = block.norm1(x)
    q, k, v = (y @ a.in_proj_weight.T + a.in_proj_bias).view(2, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
    mixed = torch.softmax(q @ k.mT / 2, -1) @ v
    out = x + mixed.transpose(1, 2).reshape(2, 4, 8) @ a.out_proj.weight.T + a.out_proj.bias
    out = out + block.linear2(nn.functional.gelu(block.linear1(block.norm2(out))))
    assert torch.allclose(block(x), out, atol=1e-5)


@pytest.mark.parametrize("architecture", ["vgg16", "vgg_small"])
def test_average_pooling_replaces_every_maximum_and_nothing_else(architecture):
    plain = _build(architecture=architecture, width=0.25)
    other = _build(architecture=architecture, width=0.25, pooling="average")
    assert [type(m) for m in other.modules()] == [
        nn.AvgPool2d if isinstance(m, nn.MaxPool2d) else type(m) for m in plain.modules()
    ]
    weights = zip(plain.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_with_averages_and_gelu_nothing_can_flip():
    images = torch.randn(3, 1, 8, 8)
    maxima = _build(architecture="vgg_small", activation="gelu")
    averages = _build(architecture="vgg_small", activation="gelu", pooling="average")
    _, gates, winners = branches(maxima, images)
    assert len(gates) == 0
    assert len(winners) > 0
    _, gates, winners = branches(averages, images)
    assert len(gates) == len(winners) == 0
    kernel = entk(averages.double(), images.double())  # which checks itself
    assert kernel.shape == (30, 30)
