import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twophase.stages.linearized import advance_linearized, linear_logits, linearize, linearized
from twophase.store.artifacts import read_table, read_tensors
from twophase.study import stages
from twophase.study.linearized import linearized_steps
from twophase.study.networks import ResNet
from twophase.study.optimizers import imported as load_optimizer
from twophase.study.run import Run
from twophase.study.studyfile import load
from twophase.training.batches import Data, Split, load_data
from twophase.training.loop import State, advance, build

OPTIMIZERS = {
    "sgd": {"optimizer": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "lr": 0.02, "weight_decay": 0.1},
    "adam, cosine": {
        "optimizer": "adam",
        "lr": 0.02,
        "weight_decay": 0.1,
        "lr_drops": [],
        "schedule": {"kind": "cosine", "warmup": 6},
    },
    "nesterov, a smaller last batch": {  # of 28, at steps 1 and 3 and so on
        "lr": 0.02,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.1,
        "drop_last": False,
    },
}


def _state(model, training):
    """A state at step 0 of a network that no study names."""
    optimizer = {
        name: [torch.zeros_like(p) for p in model.parameters()]
        for name in load_optimizer(training).STATE
    }
    return State(model, optimizer, 0)


def _data():
    """Float64 images of noise, which `batch` leaves as they are."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.randint(0, 10, (60,), generator=generator))
    data = Data(split, split, 10, torch.tensor([128.0]), torch.tensor([70.0]))
    object.__setattr__(data, "normalised", lambda x: (x.double() - 128) / 70)
    return data


@pytest.fixture(params=OPTIMIZERS)
def run(request, raw, write_study):
    """A run of a study without augmentation, for each optimizer."""
    raw["training"] = {"iterations": 12, "batch_size": 32, "lr_drops": [8]}
    raw["training"] |= OPTIMIZERS[request.param]
    raw["data"]["augmentation"] = {"shift": 0, "flip": False}
    return Run(load(write_study(raw)), "vgg", 0)


def test_a_linear_network_trains_as_its_linearisation(run):
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double(), _data()
    state = _state(model, run.model.training)
    advance(state, run, data, 4)  # momentum to carry over
    origin = {name: p.detach().clone() for name, p in model.named_parameters()}
    linear = linearize(state)
    advance_linearized(linear, run, data, 12)
    assert linear.step == 12
    assert state.step == 4
    assert all(torch.equal(origin[name], p) for name, p in model.named_parameters())
    advance(state, run, data, 12)
    for name, p in model.named_parameters():
        assert torch.allclose(origin[name] + linear.offset[name], p, rtol=1e-10, atol=1e-12)
    # The optimizer's own state is that of normal training, too.
    for name, tensors in state.optimizer.items():
        for a, b in zip(linear.optimizer[name], tensors, strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)


def test_the_linear_part_is_the_derivative_along_the_offset():
    torch.manual_seed(0)
    model = build(ResNet(architecture="resnet8"), 1, 10).double()
    generator = torch.Generator().manual_seed(1)
    model.train()(torch.randn(64, 1, 8, 8, generator=generator).double())
    images = torch.randn(5, 1, 8, 8, generator=generator).double()
    offset = {
        name: torch.randn(p.shape, generator=generator).double()
        for name, p in model.named_parameters()
    }
    primal, tangent = linear_logits(model, offset, images)
    assert torch.equal(primal, model.eval()(images))

    def shifted(size):
        moved = {name: p + size * offset[name] for name, p in model.named_parameters()}
        return torch.func.functional_call(model, moved, images).detach()

    size = 1e-8  # small, so that hardly a ReLU switches in between
    difference = (shifted(size) - shifted(-size)) / (2 * size)
    assert float((difference - tangent).norm() / tangent.norm()) < 1e-5


def test_linearised_training_starts_at_the_network_itself():
    model = build(ResNet(architecture="resnet8"), 1, 10)
    offset = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    images = torch.randn(5, 1, 8, 8)
    primal, tangent = linear_logits(model, offset, images)
    assert torch.equal(primal + tangent, model(images))


def test_a_row_is_that_of_the_taylor_model_in_the_last_state(smoke, in_trained):
    run = Run(smoke, "resnet", 0)
    linearized(run)
    table = read_table(stages.run_table(run, "linearized")).set_index("switch")
    assert table.index.tolist() == [0, 6]
    file, images = stages.data_file(smoke), smoke.data.images
    data = load_data(file, images, torch.device("cpu"))
    inputs, labels = data.normalised(data.test.images[:100]), data.test.labels[:100]
    network = build(run.model.network, 1, 10).eval()
    for switch, row in table.iterrows():
        before = read_tensors(stages.base_state(run, switch))
        network.load_state_dict(
            {n.removeprefix("model."): t for n, t in before.items() if n.startswith("model.")}
        )
        last = read_tensors(stages.linearized_state(run, switch, 12))
        at = dict(network.named_parameters())
        along = {name: last[f"offset.{name}"] for name in at}
        out, tangent = torch.func.jvp(
            lambda p: torch.func.functional_call(network, p, inputs), (at,), (along,)
        )
        out = (out + tangent).detach()
        assert row["test_loss"] == pytest.approx(float(F.cross_entropy(out, labels)), rel=1e-5)
        assert row["test_accuracy"] == float((out.argmax(1) == labels).double().mean())
        assert not row["diverged"]


@pytest.mark.parametrize(("switch", "kept"), [(0, [10, 12]), (6, [11, 12]), (11, [12])])
def test_a_state_is_kept_soon_after_the_switch_and_at_the_end(switch, kept, smoke):
    assert linearized_steps(Run(smoke, "resnet", 0), switch) == kept
