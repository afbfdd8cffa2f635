import pytest
import torch
import torch.nn.functional as F
import torchvision

from twophase.networks.resnet import resnet8, resnet20
from twophase.networks.vgg import vgg16, vgg_small
from twophase.study.networks import VGG16, ResNet, SmallVGG
from twophase.training.loop import build


def _size(model):
    return sum(p.numel() for p in model.parameters())


def test_resnet20_has_the_papers_size():
    # He et al. 2016, table 6: 0.27 M; with parameter-free shortcuts exactly this many.
    assert _size(resnet20()) == 269_722


def test_vgg16_is_torchvisions_convolutions_and_one_linear_layer():
    for batch_norm, theirs in (
        (False, torchvision.models.vgg16),
        (True, torchvision.models.vgg16_bn),
    ):
        features = theirs(weights=None).features
        assert _size(vgg16(batch_norm=batch_norm)) == _size(features) + 512 * 10 + 10


def test_vgg16_computes_what_torchvisions_features_compute():
    ours, theirs = vgg16().eval(), torchvision.models.vgg16_bn(weights=None).features.eval()
    theirs.load_state_dict(
        dict(zip(theirs.state_dict(), list(ours.state_dict().values())[:-2], strict=True))
    )
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours.layers[:-2](images), theirs(images))


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (resnet20, (3, 32, 32)),
        (vgg16, (3, 32, 32)),
        (lambda: vgg16(wide_head=True), (3, 32, 32)),
        (resnet8, (1, 8, 8)),
        (vgg_small, (1, 8, 8)),
    ],
)
def test_logits_have_a_column_for_each_class(build, shape):
    assert build()(torch.randn(4, *shape)).shape == (4, 10)


@pytest.mark.parametrize(("network", "size"), [(resnet20, 32), (resnet8, 8)])
def test_a_resnet_is_its_plain_second_implementation(network, size):
    # He et al. 2016, section 4.2: maps and channels change between the stages alone.
    torch.manual_seed(0)
    ours = network(3)
    images = torch.randn(4, 3, size, size)
    ours.train()(images)  # statistics that are not the first ones
    w = ours.eval().state_dict()

    def layer(x, conv, norm, stride=1):
        y = F.conv2d(x, w[f"{conv}.weight"], stride=stride, padding=1)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(y, *(w[f"{norm}.{name}"] for name in names))

    x, depth = layer(images, "conv", "norm").relu(), len(ours.blocks) // 3
    for index in range(3 * depth):
        block, stride = f"blocks.{index}", 2 if index in (depth, 2 * depth) else 1
        y = layer(x, f"{block}.conv1", f"{block}.norm1", stride).relu()
        y = layer(y, f"{block}.conv2", f"{block}.norm2")
        beside = torch.zeros(4, (y.shape[1] - x.shape[1]) // 2, *y.shape[2:])  # on both sides
        x = (y + torch.cat([beside, x[:, :, ::stride, ::stride], beside], 1)).relu()
    assert x.shape[2] == size // 4
    expected = x.mean((2, 3)) @ w["linear.weight"].T + w["linear.bias"]
    assert torch.allclose(ours(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    ("record", "architecture", "size"), [(SmallVGG, "vgg_small", 8), (VGG16, "vgg16", 32)]
)
def test_the_options_of_a_record_reach_the_network(record, architecture, size, norm):
    network = build(record(architecture=architecture, batch_norm=norm), 2, 7)
    assert network.eval()(torch.randn(1, 2, size, size)).shape == (1, 7)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()) == norm


@pytest.mark.parametrize(
    ("architecture", "weight", "shape", "deviation"),
    [
        ("vgg16", "layers.7.weight", (128, 64, 3, 3), (2 / (128 * 9)) ** 0.5),  # fan-out
        ("vgg16", "layers.45.weight", (10, 512), 0.01),
        ("resnet20", "blocks.3.conv1.weight", (32, 16, 3, 3), (2 / (16 * 9)) ** 0.5),  # fan-in
        ("resnet20", "linear.weight", (10, 64), (2 / 64) ** 0.5),
    ],
)
def test_weights_have_the_deviation_of_the_authors_code(architecture, weight, shape, deviation):
    torch.manual_seed(0)
    record = VGG16 if architecture == "vgg16" else ResNet
    network = build(record(architecture=architecture), 3, 10)
    drawn = network.state_dict()[weight]
    assert drawn.shape == shape
    assert float(drawn.std()) == pytest.approx(deviation, rel=0.05)
