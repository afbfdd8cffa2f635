"""The engine's backward passes: several logits in one, and blocks of examples that miss a layer."""

import warnings

import pytest
import torch
from test_network_fuzz import by_autograd, by_kind, error
from torch import nn
from torch.utils.checkpoint import checkpoint

from twophase.entk import contract, entk, plan

pytestmark = pytest.mark.usefixtures("one_thread")


class Recurrent(nn.Module):
    """An LSTM on an embedding of whole numbers."""

    def __init__(self):
        super().__init__()
        self.table, self.rnn = nn.Embedding(5, 4), nn.LSTM(4, 3, 2, batch_first=True)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.rnn(self.table(x.abs().long() % 5))[0][:, -1])


class Checkpointed(nn.Module):
    """Convolutions, of which some are computed again in each backward pass."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(6, 4, 3, groups=2), nn.BatchNorm1d(4), nn.Tanh())
        self.second = nn.Sequential(nn.ConvTranspose1d(4, 4, 2), nn.PReLU(4), nn.GroupNorm(2, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = checkpoint(self.first, x, use_reentrant=False)
        return self.head(self.second(x).mean(2))


class Alone(torch.autograd.Function):
    """A square whose backward pass `vmap` cannot follow: it asks numbers."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g if g.abs().sum() >= 0 else None


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.scale, self.head = (
            nn.Linear(5, 4),
            nn.Parameter(torch.ones(4)),
            nn.Linear(4, 3),
        )

    def forward(self, x):
        return self.head(Alone.apply(self.scale * self.a(x)).mean(1))


NETWORKS = {
    "recurrent": Recurrent,
    "checkpointed": Checkpointed,
    "attention": lambda: nn.Sequential(
        nn.Linear(5, 4), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Flatten()
    ).append(nn.Linear(24, 3)),
    "own": Own,
}


@pytest.mark.parametrize("kind", ["full", "trace", "pseudo"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("error:torch.func computes", "error:plain autograd")
def test_several_logits_in_one_backward_pass_give_the_same_kernel(name, kind, monkeypatch):
    torch.manual_seed(0)
    model, inputs = NETWORKS[name]().double().eval(), torch.randn(4, 6, 5).double()
    inputs = 9 * inputs[..., 0] if name == "recurrent" else inputs
    expected, grad, batched = by_kind(model, inputs, kind), torch.autograd.grad, []
    singles = {}

    def spy(*args, is_grads_batched=False, **kwargs):
        batched.append(is_grads_batched)
        return grad(*args, is_grads_batched=is_grads_batched, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", spy)
    for worth, together in ((1, kind != "pseudo"), (4, False)):
        monkeypatch.setattr(plan, "WORTH", worth)
        batched.clear()
        assert error(entk(model, inputs, kind=kind), expected) < 1e-12
        assert any(batched) == together
        singles[worth] = batched.count(False)
    # What `vmap` cannot follow is done again, logit by logit.
    assert (singles[1] < singles[4]) == (kind != "pseudo" and name != "own")


class Rare(nn.Module):
    """A layer that is left out where no example of the batch is marked."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        y, marked = self.a(x), x[:, :1, :1] > 0
        y = y + marked * self.b(x) if marked.any() else y
        return self.head(torch.tanh(y).sum(1))


@pytest.mark.parametrize("order", ["formed", *contract.ORDERS])
def test_blocks_that_miss_a_layer_count_as_zero(order, monkeypatch):
    torch.manual_seed(0)
    model, inputs = Rare().double(), torch.randn(8, 6, 5).double()
    inputs[:, 0, 0] = torch.tensor([1, 1, -1, -1, -1, 1, -1, -1])
    monkeypatch.setattr(plan, "BLOCK", 1)  # two examples
    chosen = "gradients" if order == "formed" else order
    monkeypatch.setattr(plan, "_cheapest", lambda costs: chosen)
    for each in (inputs, inputs.flip(0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert error(entk(model, each), by_autograd(model, each)) < 1e-12


class Whole(nn.Module):
    """A layer for batches all of whose examples are marked; it adds nothing."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        y = self.a(x)
        y = y + 0 * self.b(x) if (x[:, 0, 0] > 0).all() else y
        return self.head(torch.tanh(y).sum(1))


@pytest.mark.parametrize("order", contract.ORDERS)
def test_examples_before_a_layers_first_call_count_as_zero(order, monkeypatch):
    torch.manual_seed(0)
    model, inputs = Whole().double(), torch.randn(8, 6, 5).double()
    inputs[:, 0, 0] = torch.tensor([1, 1, 1, -1, 1, 1, 1, 1])
    monkeypatch.setattr("twophase.entk.passes", lambda task, limit: [(task.shares, 4, 1)])
    monkeypatch.setattr(plan, "_cheapest", lambda costs: order)
    torch.use_deterministic_algorithms(True)  # memory that is not filled in is then NaN
    try:
        assert error(entk(model, inputs), by_autograd(model, inputs)) < 1e-12
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.filterwarnings("error:torch.func computes", "error:plain autograd")
def test_a_product_with_some_rows_of_a_matrix_is_exact(length):
    class Some(Own):
        def forward(self, x):
            return self.head(torch.tanh(x[..., :3] @ self.a.weight.T[:3] * self.scale).sum(1))

    torch.manual_seed(0)
    model, inputs = Some().double(), torch.randn(4, length, 5).double()
    assert error(entk(model, inputs), by_autograd(model, inputs)) < 1e-12
