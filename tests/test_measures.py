import numpy as np
import pytest
import torch
from torch import nn

from twophase.errors import RunError
from twophase.measures import barrier, distance
from twophase.study.networks import ResNet
from twophase.training.evaluation import CHUNK
from twophase.training.loop import build

ALPHAS = [index / 10 for index in range(11)]


def _network(seed):
    torch.manual_seed(seed)
    model = build(ResNet(architecture="resnet8"), 1, 10)
    # Running statistics that are not the initial ones.
    model.train()(torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(seed)))
    return model.eval()


@pytest.fixture
def examples():
    generator = torch.Generator().manual_seed(9)
    images = torch.randn(700, 1, 8, 8, generator=generator)
    return images, torch.randint(0, 10, (700,), generator=generator)


def test_the_barrier_of_a_convex_model_is_zero(examples):
    images, labels = examples
    one, other, between = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(3))
    losses = barrier.path_losses(between, one, other, ALPHAS, {"test": (images, labels)})
    assert barrier.barrier(ALPHAS, losses["test"]) == 0
    assert max(losses["test"]) > min(losses["test"])


def test_the_barrier_is_the_largest_gap_not_the_gap_at_the_largest_loss():
    # The loss is largest at an end, where the gap is zero; the largest gap is 1 at the middle.
    alphas, losses = [0.0, 0.5, 1.0], [0.0, 3.0, 4.0]
    assert barrier.barrier(alphas, losses) == 1.0


def test_the_barrier_is_above_the_line_from_the_first_loss_to_the_last():
    # The line is at 2 after a quarter of the way from 1 to 5.
    assert barrier.barrier([0.0, 0.25, 1.0], [1.0, 3.0, 5.0]) == 1.0
    assert barrier.barrier([0.0, 0.25, 1.0], [5.0, 4.5, 1.0]) == 0.5


def test_the_barrier_of_equal_losses_is_exactly_zero():
    assert barrier.barrier(ALPHAS, [0.1] * 11) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_loss_that_is_no_number_leaves_no_barrier(bad, place):
    losses = [1.0, 1.0, 1.0]
    losses[place] = bad
    assert np.isnan(barrier.barrier([0, 0.5, 1], losses))


def test_a_path_below_its_line_has_no_barrier():
    assert barrier.barrier([0.0, 0.5, 1.0], [1.0, 0.2, 1.0]) == 0.0


@pytest.mark.parametrize(
    "alphas", [[0.0, 1.0], [0.5], [], [0.25, 0.5, 0.75], [1.0, 0.5, 0.0], [0.5, 0.0, 1.0]]
)
def test_a_path_must_run_from_one_end_to_the_other(alphas):
    with pytest.raises(ValueError, match="alphas must rise from 0 to 1"):
        barrier.barrier(alphas, [1.0] * len(alphas))


def test_path_losses_agree_with_a_plain_interpolation(examples):
    images, labels = examples
    one, other, between = _network(1), _network(2), _network(3)
    losses = barrier.path_losses(between, one, other, ALPHAS, {"test": (images, labels)})["test"]
    reference = _network(4)
    for alpha, loss in zip(ALPHAS, losses, strict=True):
        mixed = {
            name: alpha * a + (1 - alpha) * other.state_dict()[name] if a.is_floating_point() else a
            for name, a in one.state_dict().items()
        }
        reference.load_state_dict(mixed)
        out = reference(images).detach().numpy().astype(np.float64)
        log_sum = np.log(np.exp(out).sum(1))
        expected = (log_sum - out[np.arange(700), labels.numpy()]).mean()
        assert loss == pytest.approx(expected, rel=1e-5)


def test_the_ends_of_a_path_are_the_networks_themselves(examples):
    one, other, between = _network(1), _network(2), _network(3)
    barrier.interpolate(between, one, other, 1.0)
    assert distance.identical(between, one)
    barrier.interpolate(between, one, other, 0.0)
    assert all(
        torch.equal(b, o) for b, o in zip(between.parameters(), other.parameters(), strict=True)
    )
    for alpha in ALPHAS:
        barrier.interpolate(between, one, one, alpha)
        assert distance.identical(between, one)


def test_recalibration_weighs_every_image_alike():
    norm = nn.BatchNorm2d(1)
    images = torch.zeros(CHUNK + 100, 1, 1, 1)
    images[-100:] = 1
    barrier.recalibrate_batch_norm(norm, images)
    assert float(norm.running_mean) == pytest.approx(100 / len(images))


def test_recalibration_gives_batch_norm_the_statistics_of_its_inputs(examples):
    images, _ = examples
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    barrier.recalibrate_batch_norm(model, images[:CHUNK])
    inputs = model[0](images[:CHUNK])
    assert torch.allclose(model[1].running_mean, inputs.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(model[1].running_var, inputs.var((0, 2, 3)), rtol=1e-4)
    assert model[1].momentum == 0.1


class _StaysInEval(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(False)


class _Frozen(nn.Sequential):
    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


def _without_tracking(features):
    norm = nn.BatchNorm2d(features)
    norm.track_running_stats = False  # after it was made: eval mode goes on using what is there
    return norm


FROZEN = {
    "by its class": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), _StaysInEval(4)),
    "by the network": lambda: _Frozen(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
    "by momentum 0": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=0.0)),
    "by tracking": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), _without_tracking(4)),
}


@pytest.mark.parametrize("how", FROZEN)
def test_recalibration_leaves_statistics_that_training_leaves(how, examples):
    model = FROZEN[how]()
    moves = nn.BatchNorm2d(4, momentum=None)
    model.append(moves).append(nn.Dropout(0.5))
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    before = [buffer.clone() for buffer in model[1].buffers()]
    state = torch.get_rng_state()
    barrier.recalibrate_batch_norm(model, examples[0][:CHUNK])
    assert all(map(torch.equal, model[1].buffers(), before))
    assert torch.equal(torch.get_rng_state(), state)
    seen = model[:2](examples[0][:CHUNK])
    assert torch.allclose(moves.running_mean, seen.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(moves.running_var, seen.var((0, 2, 3)), rtol=1e-4)


class _ByFunction(nn.Module):
    """Batch norm of a class of its own, by PyTorch's function or by hand."""

    def __init__(self, by_hand=False):
        super().__init__()
        self.conv, self.by_hand = nn.Conv2d(1, 4, 3), by_hand
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("spread", torch.ones(4))

    def forward(self, x):
        x = self.conv(x)
        if not self.by_hand:
            x = nn.functional.dropout(x, 0.3, self.training)
            return nn.functional.batch_norm(x, self.mean, self.spread, training=self.training)
        if self.training:
            self.mean.lerp_(x.mean((0, 2, 3)), 0.1)
        return x - self.mean[:, None, None]


def test_batch_norm_of_another_class_is_measured_or_refused(examples):
    model = _ByFunction()
    barrier.recalibrate_batch_norm(model, examples[0][:CHUNK])
    inputs = model.conv(examples[0][:CHUNK])
    assert torch.allclose(model.mean, inputs.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(model.spread, inputs.var((0, 2, 3)), rtol=1e-4)
    with pytest.raises(RunError, match="'recalibrate': mean holds statistics of the images"):
        barrier.recalibrate_batch_norm(_ByFunction(by_hand=True), examples[0])
    # What training moves without looking at the images is no statistic of theirs.
    model = nn.utils.spectral_norm(nn.Conv2d(1, 4, 3))
    before = model.weight_u.clone()
    barrier.recalibrate_batch_norm(model, examples[0])
    assert torch.equal(model.weight_u, before)


def test_dissimilarity_is_one_minus_the_cosine():
    one, other = torch.randn(50).double(), torch.randn(50).double()
    cosine = float(one @ other / one.norm() / other.norm())
    assert distance.dissimilarity(one, other) == pytest.approx(1 - cosine)
    assert distance.dissimilarity(one, 3 * one) == pytest.approx(0, abs=1e-15)
    assert distance.dissimilarity(one, -one) == pytest.approx(2)
    assert distance.dissimilarity(one, one) == 0


def test_the_state_holds_buffers_and_the_parameters_do_not():
    one, other = _network(1), _network(1)
    with torch.no_grad():
        other.norm.running_var += 3
        other.norm.num_batches_tracked += 1000
    pairs = [
        [vector(n) for n in (one, other)]
        for vector in (distance.parameter_vector, distance.state_vector)
    ]
    assert distance.dissimilarity(*pairs[0]) == 0
    assert distance.dissimilarity(*pairs[1]) > 0.5
    assert len(pairs[1][0]) == sum(t.numel() for t in one.state_dict().values())


def test_a_tiny_dissimilarity_keeps_its_digits():
    # 1 - cos in float64 would round 5e-21 to zero.
    one = torch.tensor([1.0, 0.0]).double()
    other = torch.tensor([1.0, 1e-10]).double()
    assert distance.dissimilarity(one, other) == pytest.approx(5e-21)


def test_disagreement_counts_other_predictions():
    one = torch.eye(4)
    other = torch.eye(4)[[0, 1, 3, 2]] * 5
    assert distance.disagreement(one, other) == 0.5
    assert distance.disagreement(one, 7 * one) == 0


def test_outputs_that_are_no_numbers_predict_nothing():
    lost, whole = torch.full((4, 3), torch.nan), torch.eye(4, 3)
    for pair in ((lost, lost), (whole, lost), (lost, whole)):
        assert np.isnan(distance.disagreement(*pair))
    assert distance.disagreement(whole, torch.where(whole > 0, whole, -torch.inf)) == 0.0


def test_disagreement_is_between_the_classes_of_each_example():
    one = torch.tensor([[0.0, 1, 2], [0, 1, 2]])
    assert distance.disagreement(one, torch.tensor([[5.0, 1, 2], [0, 1, 2]])) == 0.5


def test_parameters_that_are_not_trained_are_no_distance():
    one, other = _network(1), _network(1)
    with torch.no_grad():
        other.conv.weight += 1
    for network in (one, other):
        network.conv.requires_grad_(False)
    vectors = [distance.parameter_vector(network) for network in (one, other)]
    assert torch.equal(*vectors)
    assert len(vectors[0]) == sum(p.numel() for p in one.parameters()) - one.conv.weight.numel()


def test_identical_means_every_bit_of_parameters_and_buffers():
    one, other = _network(1), _network(1)
    assert distance.identical(one, other)
    with torch.no_grad():
        other.norm.running_mean[0] = torch.nextafter(
            other.norm.running_mean[0], torch.tensor(float("inf"))
        )
    assert not distance.identical(one, other)
    one, other = _network(1), _network(1)
    with torch.no_grad():
        one.linear.bias[0], other.linear.bias[0] = 0.0, -0.0
    assert not distance.identical(one, other)
