"""Rules for operations that take parameters: exact, and without a fallback."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from test_network_fuzz import by_autograd, by_kind, error
from torch import nn

from twophase.entk import KernelError, entk, entk_action, plan, uses

pytestmark = pytest.mark.usefixtures("one_thread")
TOKENS, TIMES, WIDTH = 7, 4, 6


def _p(*shape):
    return nn.Parameter(0.5 * torch.randn(*shape))


class Of(nn.Module):
    """`use` of some parts, on sequences (n, TIMES, WIDTH), with a step to logits."""

    def __init__(self, use, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.use, self.head = use, nn.Linear(WIDTH, 3)

    def forward(self, x):
        y = self.use(self, x)
        return self.head(torch.tanh(y).flatten(1, -2).sum(1) if y.dim() > 2 else torch.tanh(y))


def _by_hand(s, x):
    q, k, v = (y.unflatten(2, (2, 3)).transpose(1, 2) for y in (x @ s.p).split(WIDTH, 2))
    y = F.softmax(q @ k.mT + s.q, -1) @ v
    return F.linear(y.transpose(1, 2).flatten(2), s.r.T)


def _cell(s, x):
    state = None
    for part in x.unbind(1):
        state = s.c(part, state)
    return state[0] if isinstance(state, tuple) else state


def _attention(**options):
    return nn.MultiheadAttention(WIDTH, 2, **options)


def _first(s, x):
    y = x.transpose(0, 1)
    return s.c(y, y, y)[0].transpose(0, 1)


def _windows(s, x):
    """Attention within windows, a few for each example, with a table of relative positions."""
    y = x.reshape(-1, 2, WIDTH)
    bias = s.p[torch.tensor([1, 0, 2, 1])].view(2, 2)
    y = F.softmax(y @ y.mT + bias, -1) @ F.linear(y, s.q, s.r)
    return y.reshape(x.shape)


def _crossed(s, x):
    return s.c(x, torch.cat([x, x.sin()], 1), x.cos().repeat(1, 2, 1), need_weights=False)[0]


SEQUENCES = {
    "attention": (lambda s, x: s.c(x, x, x)[0], {"c": _attention(batch_first=True)}),
    "attention, times first": (_first, {"c": _attention(add_bias_kv=True)}),
    "attention, packed, crossed": (_crossed, {"c": _attention(batch_first=True)}),
    "attention, separate": (
        lambda s, x: s.c(x, x[..., :4], x[..., 1:])[0],
        {"c": _attention(kdim=4, vdim=5, batch_first=True)},
    ),
    "attention by hand": (_by_hand, {"p": _p(WIDTH, 3 * WIDTH), "q": _p(4, 4), "r": _p(6, 6)}),
    "windows": (_windows, {"p": _p(3), "q": _p(6, 6), "r": _p(6)}),
    "encoder": (
        lambda s, x: s.c(x.transpose(0, 1))[0],
        {"c": nn.TransformerEncoderLayer(WIDTH, 2, 5)},
    ),
    "decoder": (
        lambda s, x: s.c(x, x[:, 1:]),
        {"c": nn.TransformerDecoderLayer(WIDTH, 2, 5, batch_first=True)},
    ),
    "positions": (lambda s, x: x + s.p[: x.shape[1]], {"p": _p(9, WIDTH)}),
    "class token": (lambda s, x: torch.cat([s.p.expand(len(x), 1, -1), x], 1), {"p": _p(1, 1, 6)}),
    "repeated": (lambda s, x: s.p.repeat(len(x), TIMES, 1) * x, {"p": _p(1, 1, 6)}),
    "scale": (lambda s, x: s.p * x - s.q, {"p": _p(6), "q": _p(())}),
    "divided": (lambda s, x: s.p / (2 + x) + x / (s.q + 3), {"p": _p(TIMES, 1), "q": _p(1, 6)}),
    "mask": (lambda s, x: torch.where(x > 0, s.p, x) + torch.where(x > 1, x, s.p), {"p": _p(6)}),
    "PReLU": (lambda s, x: s.c(x.mT).mT, {"c": nn.PReLU(6)}),
    "norms": (
        lambda s, x: F.rms_norm(F.layer_norm(x.mT, (TIMES,), s.p, s.q).mT, (WIDTH,), s.r),
        {"p": _p(TIMES), "q": _p(TIMES), "r": _p(WIDTH)},
    ),
    "norm of channels": (
        lambda s, x: F.group_norm(x.flatten(0, 1)[..., None], 2, s.p, s.q).reshape(x.shape),
        {"p": _p(6), "q": _p(6)},
    ),
    "left": (lambda s, x: torch.matmul(s.p, x.sin()), {"p": _p(3, TIMES)}),
    "left, examples last": (lambda s, x: (s.p @ x.flatten(1).T).T, {"p": _p(6, 24)}),
    "einsum": (lambda s, x: torch.einsum("nti,oi->nto", x, s.p), {"p": _p(6, 6)}),
    "transposed": (
        lambda s, x: s.c(x.mT).mT,
        {"c": nn.ConvTranspose1d(6, 6, 3, stride=2, padding=1, output_padding=1, groups=2)},
    ),
    "transposed, 2 axes": (
        lambda s, x: s.c(x[:, None])[:, 0, :, :WIDTH],
        {"c": nn.ConvTranspose2d(1, 1, (2, 3), dilation=(2, 1))},
    ),
    "convolution by hand": (
        lambda s, x: F.conv1d(F.pad(x.mT, (1, 1), "reflect"), s.p, s.q).mT,
        {"p": _p(6, 6, 3), "q": _p(6)},
    ),
    "LSTM": (lambda s, x: s.c(x)[0], {"c": nn.LSTM(6, 3, 2, batch_first=True, bidirectional=True)}),
    "GRU": (lambda s, x: s.c(x.transpose(0, 1))[0][-1], {"c": nn.GRU(6, 6)}),
    "RNN": (lambda s, x: s.c(x)[1][0], {"c": nn.RNN(6, 6, batch_first=True)}),
    "LSTMCell": (_cell, {"c": nn.LSTMCell(6, 6)}),
    "GRUCell": (_cell, {"c": nn.GRUCell(6, 6)}),
    "parts": (lambda s, x: x @ s.p[:6] + x.sin() @ s.p[3:] + s.p[0], {"p": _p(9, 6)}),
    "tied across kinds": (
        lambda s, x: F.linear(torch.tanh(F.linear(x, s.p) * s.p[0]), s.p.T) + s.p[:, 1],
        {"p": _p(6, 6)},
    ),
}


def _without_fallback(model, *inputs, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "torch.func computes|plain autograd")
        return entk(model, *inputs, **options)


@pytest.mark.parametrize("name", SEQUENCES)
def test_operations_on_sequences_are_exact(name):
    torch.manual_seed(0)
    use, parts = SEQUENCES[name]
    model, inputs = Of(use, **parts).double(), torch.randn(5, TIMES, WIDTH).double()
    for index, kind in enumerate(("full", "trace", "pseudo")):
        kernel = _without_fallback(model, inputs[index:], kind=kind, memory_limit=100_000)
        assert error(kernel, by_kind(model, inputs[index:], kind)) < 1e-11


class Tokens(nn.Module):
    def __init__(self, use, tied=False, **options):
        super().__init__()
        self.use, self.table = use, nn.Embedding(TOKENS, WIDTH, **options)
        self.head = nn.Linear(WIDTH, TOKENS if tied else 3, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, x):
        return self.head(torch.tanh(self.use(self, x)).sum(1))[:, :3]


TABLES = {
    "embedding": Tokens(lambda s, x: s.table(x)),
    "tied": Tokens(lambda s, x: s.table(x), tied=True),
    "padding": Tokens(lambda s, x: s.table(x), padding_idx=2),
    "sparse": Tokens(lambda s, x: s.table(x), sparse=True),
    "twice": Tokens(lambda s, x: s.table(x) * s.table(6 - x)),
    "by index": Tokens(lambda s, x: s.table.weight[x - 2]),
    "times first": Tokens(lambda s, x: s.table(x.T).transpose(0, 1)),
    "index_select": Tokens(lambda s, x: s.table.weight.index_select(0, x.flatten()).view(-1, 4, 6)),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("order", ["gradients", "pairs", "positions"])
def test_tables_are_exact_in_every_order(name, order, monkeypatch):
    model = TABLES[name].double()
    inputs = torch.randint(TOKENS, (5, TIMES), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(plan, "_cheapest", lambda costs: order)
    dense = Tokens(model.use, name == "tied", padding_idx=model.table.padding_idx).double()
    dense.load_state_dict(model.state_dict())
    for kind in ("full", "trace", "pseudo"):
        kernel = _without_fallback(model, inputs, kind=kind)
        assert error(kernel, by_kind(dense, inputs, kind)) < 1e-11


@pytest.mark.parametrize("order", ["gradients", "pairs", "positions"])
def test_positions_that_no_logit_sees_are_left_out(order, monkeypatch):
    """All examples' kernel is right even if the first ones show fewer positions than others."""
    torch.manual_seed(0)

    def last(s, x):
        return s.c(x)[torch.arange(len(x)), (x[:, 0, 0] > 1).long()]

    model, inputs = Of(last, c=nn.Linear(6, 6)).double(), torch.randn(7, TIMES, WIDTH).double()
    inputs[:4, 0, 0], inputs[5, 0, 0] = 0, 2
    monkeypatch.setattr(plan, "_cheapest", lambda costs: order)
    for kind in ("full", "trace", "pseudo"):
        kernel = _without_fallback(model, inputs, kind=kind)
        assert error(kernel, by_kind(model, inputs, kind)) < 1e-11


def test_functions_of_parameters_are_left_to_torch_func():
    model = Of(lambda s, x: x * s.p.exp(), p=_p(6)).double()
    inputs = torch.randn(4, TIMES, WIDTH).double()
    with pytest.warns(UserWarning, match="alone: p$"):
        assert error(entk(model, inputs), by_autograd(model, inputs)) < 1e-11


def test_the_check_finds_a_wrong_rule_of_an_operation(monkeypatch):
    torch.manual_seed(0)
    use, parts = SEQUENCES["scale"]
    model, inputs = Of(use, **parts).float(), torch.randn(4, TIMES, WIDTH)
    by_rule = uses._FORMS[uses.Scaled]
    monkeypatch.setitem(uses._FORMS, uses.Scaled, lambda *args: 1.01 * by_rule(*args))
    with pytest.raises(KernelError, match="the tangent kernel is wrong"):
        entk(model, inputs)


def _small(convolution):
    torch.manual_seed(0)
    if convolution:
        layers = nn.Conv1d(TIMES, 3, 2), nn.Tanh(), nn.Conv1d(3, 3, 1), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(15, 3)).double()
    use, parts = SEQUENCES["attention by hand"]
    return Of(use, **parts).double()


@pytest.mark.parametrize("order", ["gradients", "pairs", "positions"])
@pytest.mark.parametrize("convolution", [True, False])
def test_a_kernel_between_two_sets_is_a_block_of_that_of_both(convolution, order, monkeypatch):
    model, inputs = _small(convolution), torch.randn(9, TIMES, WIDTH).double()
    monkeypatch.setattr(plan, "_cheapest", lambda costs: order)
    for kind in ("full", "trace", "pseudo"):
        whole = by_kind(model, inputs, kind)
        rows = len(whole) // 9
        for n in (1, 4):
            kernel = _without_fallback(model, inputs[:n], inputs[n:], kind=kind)
            assert error(kernel, whole[: n * rows, n * rows :]) < 1e-11


def test_the_check_tries_kernels_between_two_sets(monkeypatch):
    model, inputs = _small(False), torch.randn(9, TIMES, WIDTH).double()
    by_rule = uses.outputs
    monkeypatch.setattr(uses, "outputs", lambda *args: 1.01 * by_rule(*args))
    with pytest.raises(KernelError, match="the tangent kernel is wrong"):
        entk(model, inputs[:4], inputs[4:])


@pytest.mark.parametrize("convolution", [True, False])
def test_the_action_is_the_kernels_product_with_vectors(convolution):
    model, inputs = _small(convolution), torch.randn(9, TIMES, WIDTH).double()
    vectors = torch.randn(2, 9, 3).double()
    whole = by_autograd(model, inputs)
    found = entk_action(model, inputs, vectors, memory_limit=10_000)
    assert error(found.flatten(1).T, whole @ vectors.flatten(1).T) < 1e-11
    found = entk_action(model, inputs[:1], vectors[0, 1:], inputs[1:])
    assert error(found.flatten(), whole[:3, 3:] @ vectors[0, 1:].flatten()) < 1e-11
    with pytest.raises(KernelError, match=r"vectors are \(2, 3\): must be \(9, 3\)"):
        entk_action(model, inputs, vectors[0, :2])


def test_progress_rises_to_one():
    model, inputs, told = _small(False), torch.randn(9, TIMES, WIDTH).double(), []
    entk(model, inputs, memory_limit=30_000, progress=told.append)
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == 1
    assert min(told) > 0
