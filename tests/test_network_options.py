import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from twophase import networks
from twophase.training import build


def _build(channels=1, **options):
    record = TypeAdapter(networks.Network).validate_python(options)
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
