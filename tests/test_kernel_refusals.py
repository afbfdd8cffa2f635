"""Networks and inputs that have no tangent kernel, or one that no number of its kind can hold, are
refused in our words; parameters that few examples reach are not left out.
"""

import warnings

import pytest
import torch
import torch.nn.functional as F
from test_network_fuzz import by_autograd, error
from torch import nn

from twophase.entk import KernelError, entk

pytestmark = pytest.mark.usefixtures("one_thread")


class Through(nn.Module):
    """Two layers, with a function around or between them."""

    def __init__(self, use):
        super().__init__()
        self.a, self.b, self.use = nn.Linear(5, 4), nn.Linear(4, 3), use

    def forward(self, x):
        return self.use(self, x)


def _in_inference_mode(s, x):
    with torch.inference_mode():
        return s.b(s.a(x))


UNREACHED = {
    "data": lambda s, x: s.b(s.a(x).tanh()).data,
    "one hot": lambda s, x: F.one_hot(s.b(s.a(x)).argmax(1), 3).float(),
    "numpy": lambda s, x: torch.from_numpy(s.b(s.a(x)).detach().numpy()),
    "inference mode": _in_inference_mode,
    "a leaf of its own": lambda s, x: s.b(s.a(x)).detach().requires_grad_() * 2,
}


@pytest.mark.parametrize("name", UNREACHED)
@pytest.mark.parametrize("check", [True, False])
def test_logits_that_no_gradient_reaches_are_refused(name, check):
    with pytest.raises(KernelError, match="no gradient of the logits reaches a parameter"):
        entk(Through(UNREACHED[name]), torch.randn(3, 5), check=check)


def test_what_does_not_train_has_the_kernel_zero_and_so_has_what_is_cut_off():
    """By definition; without a parameter to derive by, nobody waits for a number."""
    frozen = Through(lambda s, x: s.b(s.a(x))).requires_grad_(False)
    assert not entk(frozen, torch.randn(3, 5)).any()
    half = Through(lambda s, x: s.b(s.a(x).detach())).double()
    inputs = torch.randn(3, 5).double()
    assert error(entk(half, inputs), by_autograd(half, inputs)) < 1e-12


@pytest.mark.parametrize("step", [torch.sign, torch.round])
def test_a_kernel_of_zeros_is_told(step):
    with pytest.warns(UserWarning, match="the tangent kernel is zero"):
        entk(Through(lambda s, x: step(s.b(s.a(x)))), torch.randn(3, 5))


@pytest.mark.parametrize("kind", ["full", "trace", "pseudo"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_kernel_that_overflows_says_so(kind, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3, bias=False)).to(dtype)
    model[2].weight.data *= 300 if dtype == torch.float16 else 1e20
    wider = "float32" if dtype == torch.float16 else "float64"
    with pytest.raises(KernelError, match=rf"overflow: {dtype} holds at most .*use {wider}"):
        entk(model, torch.randn(4, 6).to(dtype), kind=kind)


def test_products_too_small_for_16_bits_are_named_as_the_cause():
    torch.manual_seed(0)
    with pytest.raises(KernelError, match="float16 rounds products below 6e-05: use float32"):
        entk(nn.Linear(6, 3, bias=False).half(), 1e-4 * torch.randn(4, 6).half())


def test_a_derivative_that_does_not_exist_is_no_overflow():
    model = Through(lambda s, x: (s.b(s.a(x)) * (x.sum(1) > 0)[:, None]).sqrt())
    model.a.weight.data.abs_(), model.b.weight.data.abs_()
    model.a.bias.data.fill_(1), model.b.bias.data.fill_(1)
    inputs = torch.rand(4, 5) * torch.tensor([1.0, 1.0, 1.0, -1.0])[:, None]
    with pytest.raises(KernelError, match="gradient of [ab]\\..* not finite for example 3.*root"):
        entk(model, inputs)


NOT_TENSORS = {
    "array": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "sparse": lambda x: x.to_sparse(),
    "nested": lambda x: torch.nested.nested_tensor(list(x)),
    "no example": lambda x: x[:0],
    "number": lambda x: x[0, 0],
    "float64": lambda x: x.double(),
    "whole numbers": lambda x: x.long(),
    "elsewhere": lambda x: x.to("meta"),
}


@pytest.mark.parametrize("name", NOT_TENSORS)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_inputs_that_no_network_takes_are_refused(name):
    with pytest.raises(KernelError, match="inputs are|at least one example"):
        entk(nn.Sequential(nn.Linear(5, 3)), NOT_TENSORS[name](torch.randn(4, 5)))


def test_networks_of_no_numbers_are_refused():
    x = torch.randn(4, 5)
    with pytest.raises(KernelError, match="model is a function: must be a torch"):
        entk(lambda x: x, x)
    with pytest.raises(KernelError, match=r"0\.weight has no size yet"):
        entk(nn.Sequential(nn.LazyLinear(3)), x)
    model = Through(lambda s, x: s.b(torch.sparse.mm(s.w, s.a(x).T).T))
    model.w = nn.Parameter(torch.eye(4).to_sparse())
    with pytest.raises(KernelError, match="w is torch.sparse_coo: keep it dense"):
        entk(model, x)


def test_inference_mode_around_the_call_does_not_matter():
    model, inputs = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), torch.randn(4, 5)
    expected = entk(model, inputs)
    with torch.inference_mode():
        kernel = entk(model, 1 * inputs)
        norm = nn.BatchNorm1d(5)
    assert torch.equal(kernel, expected)
    assert not kernel.is_inference()
    with pytest.raises(KernelError, match=r"0\.weight was made within torch.inference_mode"):
        entk(nn.Sequential(norm, *model), inputs)


class Bag(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.bag, self.linear = kind, nn.Linear(4, 3)

    def forward(self, ids):
        found = self.bag(ids)
        return self.linear(found if found.dim() == 2 else found.tanh().sum(1))


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.filterwarnings("ignore")
def test_sparse_gradients_make_the_same_kernel_as_dense_ones(kind):
    dense = Bag(kind(9, 4)).double()
    sparse = Bag(kind(9, 4, sparse=True)).double()
    sparse.load_state_dict(dense.state_dict())
    ids = torch.randint(0, 9, (4, 6), generator=torch.Generator().manual_seed(0))
    assert error(entk(sparse, ids), by_autograd(dense, ids)) < 1e-12


def _some(taken, layer, x, out):
    """`layer` applied to the examples that are taken, added to what there is."""
    places = taken.nonzero().flatten()
    return out.index_add(0, places, layer(x[taken])) if len(places) else out


def _experts(s, x):
    """One expert for each example, by its second number."""
    out = torch.zeros(len(x), 3).to(x)
    for expert, taken in ((s.b, x[:, 1] > 1.5), (s.c, x[:, 1] <= 1.5)):
        out = _some(taken, expert, s.a(x).tanh(), out)
    return out


ROUTED = {
    # How examples go their ways; the first three all go one way.
    "experts": _experts,
    "a layer again": lambda s, x: _some(
        x[:, 1] > 1.5, lambda y: s.c(s.a(y).tanh()), x, s.b(s.a(x))
    ),
    "a weight by itself": lambda s, x: _some(
        x[:, 1] > 1.5, lambda y: F.linear(y, s.a.weight) @ s.b.weight.T, x, s.c(s.a(x).tanh())
    ),
    "rows": lambda s, x: torch.cat(
        [(s.b if row[0, 1] > 1.5 else s.c)(s.a(row).tanh()) for row in x.split(1)]
    ),
}


@pytest.mark.parametrize("scale", [1.0, 1e-2])
@pytest.mark.parametrize("name", ROUTED)
@pytest.mark.filterwarnings("ignore")
def test_examples_that_go_another_way_than_the_first_are_counted(name, scale):
    torch.manual_seed(0)
    model = Through(ROUTED[name])
    model.c = nn.Linear(4, 3)
    model.b.weight.data *= scale
    model.double()
    inputs = torch.randn(40, 5).double()
    inputs[:3, 1] = 0
    assert 0 < int((inputs[:, 1] > 1.5).sum()) < 10
    single = torch.cat([by_autograd_rows(model, row) for row in inputs.split(1)])
    assert error(entk(model, inputs), single @ single.T) < 1e-11
    assert error(entk(model, inputs, memory_limit=200_000), single @ single.T) < 1e-11


def by_autograd_rows(model, inputs):
    parameters = list(model.parameters())
    rows = []
    for logit in model.eval()(inputs).flatten():
        found = torch.autograd.grad(logit, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        rows.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        )
    return torch.stack(rows)


def test_a_rare_layer_is_there_without_the_check_too():
    torch.manual_seed(0)
    model = Through(lambda s, x: _some(x[:, 1] > 1.5, s.b, s.a(x).tanh(), s.c(x)))
    model.c = nn.Linear(5, 3)
    inputs = torch.randn(30, 5)
    inputs[:, 1].clamp_(max=1)
    inputs[20, 1] = 2
    with pytest.warns(UserWarning, match=r"plain autograd .*: a\.weight, .*b\.weight"):
        kernel = entk(model, inputs, check=False)
    assert error(kernel, by_autograd(model, inputs)) < 1e-5
    inputs[20, 1] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert error(entk(model, inputs), by_autograd(model, inputs)) < 1e-5
