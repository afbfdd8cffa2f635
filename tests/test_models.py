import pytest
import torch
import torchvision

from twophase.models import initialised, resnet8, resnet20, vgg16, vgg_small


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


def test_initialisation_depends_on_the_seed_alone_and_leaves_the_global_generator():
    def weights(seed):
        torch.randn(seed + 3)  # the global generator does not count
        return initialised({"architecture": "resnet8"}, 1, 10, seed).state_dict()

    before = torch.random.get_rng_state()
    initialised({"architecture": "resnet8"}, 1, 10, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["conv.weight"], other["conv.weight"])


@pytest.mark.parametrize(
    ("network", "weight", "shape", "deviation"),
    [
        ("vgg16", "layers.7.weight", (128, 64, 3, 3), (2 / (128 * 9)) ** 0.5),  # fan-out
        ("vgg16", "layers.45.weight", (10, 512), 0.01),
        ("resnet20", "blocks.3.conv1.weight", (32, 16, 3, 3), (2 / (16 * 9)) ** 0.5),  # fan-in
        ("resnet20", "linear.weight", (10, 64), (2 / 64) ** 0.5),
    ],
)
def test_weights_have_the_deviation_of_the_authors_code(network, weight, shape, deviation):
    drawn = initialised({"architecture": network}, 3, 10, 0).state_dict()[weight]
    assert drawn.shape == shape
    assert float(drawn.std()) == pytest.approx(deviation, rel=0.05)
