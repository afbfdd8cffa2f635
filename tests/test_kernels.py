import math
import os
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from test_network_fuzz import error
from torch import nn
from torch.func import functional_call, jacrev, vmap

from twophase.entk import contract, entk, plan
from twophase.networks.resnet import resnet8
from twophase.networks.vgg import vgg_small

pytestmark = pytest.mark.usefixtures("one_thread")


def _double(architecture, seed=0):
    torch.manual_seed(seed)
    return {"resnet8": resnet8, "vgg_small": vgg_small}[architecture]().double()


def _inputs(n=5):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)).double()


def _by_loops(model, inputs):
    """The definition, one gradient at a time."""
    rows = []
    for x in inputs:
        for logit in model.eval()(x[None])[0]:
            gradients = torch.autograd.grad(logit, list(model.parameters()), retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in gradients]))
    rows = torch.stack(rows)
    return rows @ rows.T


def test_the_kernel_of_a_linear_model_is_the_inputs_gram_matrix():
    inputs = torch.randn(6, 7).double()
    kernel = entk(nn.Linear(7, 3, bias=False).double(), inputs)
    expected = torch.kron(inputs @ inputs.T, torch.eye(3).double())
    assert torch.allclose(kernel, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", ["resnet8", "vgg_small"])
def test_the_kernel_is_the_definitions(architecture):
    model, inputs = _double(architecture), _inputs()
    expected = _by_loops(model, inputs)
    error = (entk(model, inputs) - expected).norm() / expected.norm()
    assert float(error) < 1e-12


def test_the_kernel_is_symmetric_and_positive():
    kernel = entk(_double("resnet8"), _inputs())
    assert torch.equal(kernel, kernel.T)
    values = torch.linalg.eigvalsh(kernel)
    assert float(values[0]) > -1e-10 * float(values[-1])


def test_trace_and_pseudo_follow_from_the_full_kernel():
    model, inputs = _double("resnet8"), _inputs()
    blocks = entk(model, inputs).view(5, 10, 5, 10)
    trace = blocks.diagonal(dim1=1, dim2=3).mean(-1)
    assert torch.allclose(entk(model, inputs, kind="trace"), trace, rtol=1e-10)
    pseudo = blocks.sum((1, 3)) / 10
    assert torch.allclose(entk(model, inputs, kind="pseudo"), pseudo, rtol=1e-10)


def test_a_memory_limit_changes_nothing_but_the_memory():
    model, inputs = _double("resnet8"), _inputs()
    whole = entk(model, inputs)
    limited = entk(model, inputs, memory_limit=5 * 10 * 32 * 32 * 9 * 8)
    assert torch.allclose(whole, limited, rtol=1e-10)
    with pytest.raises(ValueError, match="memory_limit = 1000"):
        entk(model, inputs, memory_limit=1000)


def test_batch_norm_uses_its_running_statistics():
    model, inputs = _double("resnet8"), _inputs()
    alone = entk(model, inputs[:2])
    assert torch.allclose(entk(model.train(), inputs)[:20, :20], alone, rtol=1e-10)


def _by_func(model, inputs):
    """The definition as torch.func states it: the Jacobian, then one product per parameter."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    names = {parameter: name for name, parameter in model.named_parameters()}
    holders = {
        f"{prefix}.{role}".lstrip("."): names[parameter]
        for prefix, module in model.named_modules()
        for role, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if parameter.requires_grad
    }

    def logits(values, x):
        values = {holder: values[name] for holder, name in holders.items()}
        return functional_call(model.eval(), values, (x[None],), tie_weights=False)[0]

    jacobian = vmap(jacrev(logits), in_dims=(None, 0))(parameters, inputs)
    rows = [derivative.flatten(2).flatten(0, 1) for derivative in jacobian.values()]
    return sum(row @ row.T for row in rows)


class Network(nn.Module):
    """`body` in sequence; a tuple is called on what came before and added to it."""

    def __init__(self, *body, head=None):
        super().__init__()
        self.body = nn.ModuleList(
            nn.Sequential(*part) if isinstance(part, tuple) else part for part in body
        )
        self.residual = [isinstance(part, tuple) for part in body]
        self.head = head

    def forward(self, x):
        for part, residual in zip(self.body, self.residual, strict=True):
            x = x + part(x) if residual else part(x)
        return x if self.head is None else self.head(x.mean((2, 3)))


def _settled(model, seed=0):
    """Random norms, and float64."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            module.weight.data.normal_(generator=generator)
            module.bias.data.normal_(generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model.double()


def _random_network(seed):
    """A small network with layers of every known kind, and a batch for it."""
    torch.manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), ()))]

    channels = pick(1, 2, 3)
    size = (pick(5, 6, 7, 8), pick(5, 6, 7, 8))
    inputs = torch.randn(pick(1, 2, 5), channels, *size)
    body, shared = [], None
    for _ in range(pick(2, 3, 4)):
        width = pick(4, 6)
        kernel = pick(1, 2, 3, (3, 1))
        groups = pick(1, 2) if channels % 2 == 0 else 1
        options = {"bias": pick(True, False), "dilation": pick(1, 1, 2), "groups": groups}
        if pick(True, False, False) or channels == 1:
            layer = nn.Conv2d(channels, width, kernel, padding="same", **options)
        else:
            padding = pick(2, 3, (3, 2))
            layer = nn.Conv2d(
                channels, width, kernel, stride=pick(1, 2), padding=padding, **options
            )
        body += [layer, pick(nn.BatchNorm2d(width), nn.GroupNorm(2, width), nn.Identity())]
        body.append(pick(nn.Tanh(), nn.GELU(), nn.Sigmoid(), nn.ELU(inplace=True)))
        again = nn.Conv2d(width, width, 3, padding=1, groups=pick(1, 2))
        body.append((again, nn.Tanh()))
        if pick(True, False):  # a layer called twice, on the second call after pooling
            body += [pick(nn.AvgPool2d(2, ceil_mode=True), nn.Identity()), (again, nn.Tanh())]
        if pick(True, False):  # a weight that two layers share
            shared = nn.Conv2d(width, width, 3, padding=1)
            shared.weight = again.weight if again.groups == 1 else shared.weight
            body.append(shared)
        channels = width
    if pick(True, False):
        head = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 3))
        return _settled(Network(*body, head=head), seed), inputs.double()
    with torch.no_grad():
        numel = Network(*body)(inputs).flatten(1).shape[1]
    body += [nn.Flatten(), nn.Linear(numel, 3, bias=pick(True, False))]
    return _settled(Network(*body), seed), inputs.double()


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_agree_with_torch_func(seed):
    model, inputs = _random_network(seed)
    expected = _by_func(model, inputs)
    kernel = entk(model, inputs)
    assert error(kernel, expected) < 1e-12
    assert torch.equal(kernel, kernel.T)


ORDERS = ("gradients", "pairs", "positions")


@pytest.mark.parametrize("kind", ["full", "trace", "pseudo"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_gives_the_same(order, kind, monkeypatch):
    """With small chunks, so that every loop turns more than once."""
    torch.manual_seed(0)
    model = Network(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(3, 4, (3, 2), stride=2, padding=(2, 1), dilation=(1, 2)),
        nn.Tanh(),
        nn.Conv2d(4, 4, 1, stride=2),
        nn.Tanh(),
        nn.Flatten(2),
        nn.Linear(9, 5),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(20, 3),
    ).double()
    inputs = torch.randn(7, 2, 8, 9).double()
    blocks = _by_func(model, inputs).view(7, 3, 7, 3)
    expected = {
        "full": blocks.reshape(21, 21),
        "trace": blocks.diagonal(dim1=1, dim2=3).mean(-1),
        "pseudo": blocks.sum((1, 3)) / 3,
    }[kind]
    called = []
    by_order = contract.ORDERS[order]
    monkeypatch.setitem(
        contract.ORDERS, order, lambda *args: (called.append(order), by_order(*args))
    )
    monkeypatch.setattr(plan, "_cheapest", lambda costs: order)
    for chunk, by_pixels in ((1, 0), (2000, 0), (1 << 20, 0), (1 << 20, math.inf)):
        monkeypatch.setattr(plan, "CHUNK", chunk)
        monkeypatch.setattr(plan, "CACHE", chunk)
        monkeypatch.setattr(plan, "ELEMENT", by_pixels)
        assert error(entk(model, inputs, kind=kind), expected) < 1e-12
    assert len(called) >= 4


def test_products_of_pixels_know_stride_dilation_and_padding(monkeypatch):
    """The same where the position kernel comes from products of pixels, cheap or not."""
    kinds = {nn.Linear: (0, 1), nn.Conv2d: (1, 0)}
    monkeypatch.setattr(plan, "_cheapest", lambda costs: "pairs")
    monkeypatch.setattr(contract, "position_kernel_times", lambda module, *_: kinds[type(module)])
    torch.manual_seed(0)
    model = Network(
        nn.Conv2d(2, 3, (2, 3), padding=(2, 1), dilation=(2, 1)),
        nn.Tanh(),
        nn.Conv2d(3, 4, 3, padding=(1, 2), dilation=(1, 2), stride=(2, 1)),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, padding="same", dilation=(2, 3)),
        nn.Tanh(),
        head=nn.Linear(4, 3),
    ).double()
    inputs = torch.randn(4, 2, 6, 7).double()
    assert error(entk(model, inputs), _by_func(model, inputs)) < 1e-12


def test_float32_is_exact_to_its_precision():
    torch.manual_seed(0)
    model = Network(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.Tanh(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    inputs = torch.randn(6, 1, 8, 8)
    kernel = entk(model, inputs)
    assert kernel.dtype == torch.float32
    assert error(kernel, entk(model.double(), inputs.double())) < 1e-6


def test_the_kernel_adds_over_groups_of_parameters():
    model, inputs = _double("resnet8"), _inputs()
    whole = entk(model, inputs)
    parts = []
    for chosen in (True, False):
        for index, parameter in enumerate(model.parameters()):
            parameter.requires_grad_((index % 3 == 0) == chosen)
        parts.append(entk(model, inputs))
        assert error(parts[-1], _by_func(model, inputs)) < 1e-12
    assert error(sum(parts), whole) < 1e-12


def test_a_tight_memory_limit_takes_layers_in_groups_and_examples_in_blocks():
    model, inputs = _double("vgg_small"), _inputs()
    whole = entk(model, inputs)
    with pytest.raises(ValueError, match="memory_limit = 1000") as caught:
        entk(model, inputs, memory_limit=1000)
    least = int(re.search(r"takes (\d+) bytes", str(caught.value))[1])
    with pytest.raises(ValueError, match="memory_limit"):
        entk(model, inputs, memory_limit=least // 2)
    assert error(entk(model, inputs, memory_limit=least), whole) < 1e-12
    assert torch.equal(entk(model, inputs), whole)


class Odd(nn.Module):
    """Operations that take functions of parameters, behind the back of their layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.randn(6))
        self.unused = nn.Parameter(torch.randn(3))
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = torch.tanh(self.first(x)) * self.scale.exp()
        x = x + torch.tanh(F.linear(x, self.first.weight.sin()))
        x = F.conv2d(x.view(-1, 1, 2, 3), self.conv.weight**2, self.conv.bias, padding=1)
        return self.head(torch.tanh(x).flatten(1))


@pytest.mark.parametrize("kind", ["full", "trace", "pseudo"])
def test_other_parameters_go_through_torch_func_with_one_warning(kind):
    torch.manual_seed(0)
    model, inputs = Odd().double(), torch.randn(4, 6).double()
    expected = _by_func(model, inputs).view(4, 3, 4, 3)
    with pytest.warns(UserWarning, match="alone: scale, first.weight, conv.weight$") as caught:
        kernel = entk(model, inputs, kind=kind)
    assert len(caught) == 1
    assert "unused" not in str(caught[0].message)
    assert "head" not in str(caught[0].message)
    if kind == "trace":
        expected = expected.diagonal(dim1=1, dim2=3).mean(-1)
    elif kind == "pseudo":
        expected = expected.sum((1, 3)) / 3
    assert error(kernel, expected.reshape(kernel.shape)) < 1e-12


class Sequences(nn.Module):
    """Tokens: an embedding, norms over the last axis, linear layers at several positions."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Linear(5, 5)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        x = self.norm(self.embedding(tokens))
        x = x + torch.tanh(self.mix(x.transpose(1, 2))).transpose(1, 2)
        return torch.tanh(self.head(x)).sum(1)


def test_integer_inputs_and_several_positions():
    torch.manual_seed(0)
    model, inputs = Sequences().double(), torch.randint(9, (6, 5))
    expected = _by_func(model, inputs)
    kernel = entk(model, inputs)
    assert kernel.dtype == torch.float64
    assert error(kernel, expected) < 1e-12


class Breaks(nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, x):
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("broken")
        return x


@pytest.mark.parametrize("calls", [0, 1, 2, 4, 5, 6, 7, 99])
def test_the_model_is_left_as_it_was(calls):
    model = nn.Sequential(nn.Linear(4, 5), Breaks(calls), nn.Tanh(), nn.Linear(5, 2))
    model[0].bias.requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    if calls < 99:
        with pytest.raises(RuntimeError, match="broken"):
            entk(model, torch.randn(3, 4))
    else:
        entk(model, torch.randn(3, 4))
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert not any(module._forward_hooks for module in model.modules())


def test_known_layers_need_no_torch_func():
    """Its first use takes more than a second, more than most kernels of small networks."""
    code = (
        "import sys, torch\n"
        "from twophase.entk import entk\n"
        "from twophase.networks.resnet import resnet8\n"
        "entk(resnet8(), torch.randn(2, 1, 8, 8))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_logits_that_depend_on_other_examples_are_refused():
    with pytest.raises(ValueError, match="running statistics"):
        entk(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), torch.randn(4, 3))
    with pytest.raises(ValueError, match="logits must be"):
        entk(nn.Conv2d(1, 2, 3), torch.randn(4, 1, 3, 3))
