"""The tangent of the linearised network, J(x) offset, against finite differences in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twophase.stages.linearized import by_double_backward, by_forward_mode, linear_logits
from twophase.training.tensors import trained


class Of(nn.Module):
    """A network that is a function of its layers and of images (n, 5, 8)."""

    def __init__(self, forward, *layers):
        super().__init__()
        self.layers, self.function = nn.ModuleList(layers), forward

    def forward(self, x):
        return self.function(x, *self.layers)


class Square(torch.autograd.Function):
    """A function that knows its derivatives, but no forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


def _heads(x, layer):
    q, k, v = layer(x).view(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
    return q, k, v


def _frozen(layer):
    layer.bias.requires_grad_(False)
    return layer


def _twice(layer):
    return Of(lambda x, one, other: F.gelu(other(F.gelu(one(x)))).mean(1), layer, layer)


NETWORKS = {
    "attention": lambda: Of(
        lambda x, a: a(x, x, x)[0].mean(1), nn.MultiheadAttention(8, 2, batch_first=True)
    ),
    "attention without weights": lambda: Of(
        lambda x, a: a(x, x, x, need_weights=False)[0].mean(1),
        nn.MultiheadAttention(8, 2, batch_first=True),
    ),
    "function": lambda: Of(
        lambda x, a: F.scaled_dot_product_attention(*_heads(x, a)).flatten(1), nn.Linear(8, 24)
    ),
    "causal function": lambda: Of(
        lambda x, a: F.scaled_dot_product_attention(*_heads(x, a), is_causal=True).flatten(1),
        nn.Linear(8, 24),
    ),
    "encoder": lambda: Of(
        lambda x, a: a(x).mean(1),
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, 0.0, F.gelu, batch_first=True), 2
        ),
    ),
    "shared layer": lambda: _twice(nn.Linear(8, 8)),
    "frozen bias": lambda: Of(
        lambda x, a, b: b(F.gelu(a(x))).mean(1), _frozen(nn.Linear(8, 8)), nn.Linear(8, 3)
    ),
    # Without forward mode.
    "LSTM": lambda: Of(lambda x, a: a(x)[0][:, -1], nn.LSTM(8, 6, batch_first=True)),
    "weight norm": lambda: Of(
        lambda x, a: F.gelu(a(x)).mean(1), nn.utils.parametrizations.weight_norm(nn.Linear(8, 6))
    ),
    "own function": lambda: Of(lambda x, a: Square.apply(a(x)).mean(1), nn.Linear(8, 6)),
}


def _case(name, dtype):
    torch.manual_seed(0)
    model, images = NETWORKS[name]().to(dtype).eval(), torch.randn(3, 5, 8, dtype=dtype)
    return model, {n: torch.randn_like(p) for n, p in trained(model).items()}, images


@pytest.mark.parametrize("gradients", [True, False], ids=["with graph", "without"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_tangent_is_the_derivative_along_the_offset(name, gradients):
    model, offset, images = _case(name, torch.float64)
    before = [p.clone() for p in model.parameters()]
    with torch.set_grad_enabled(gradients):
        primal, tangent = linear_logits(model, offset, images)
    parameters = trained(model)
    assert all(map(torch.equal, model.parameters(), before))
    assert primal.requires_grad == gradients
    if gradients:
        ours = torch.autograd.grad(primal.sum(), list(parameters.values()))
        theirs = torch.autograd.grad(model(images).sum(), list(parameters.values()))
        assert all(map(torch.allclose, ours, theirs))

    @torch.no_grad()
    def moved(size):
        for p, along in zip(parameters.values(), offset.values(), strict=True):
            p += size * along
        return model(images)

    step = 1e-5
    difference = (moved(step) - moved(-2 * step)) / (2 * step)
    assert not tangent.requires_grad
    assert torch.allclose(tangent, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["attention", "encoder", "shared layer", "frozen bias"])
def test_forward_mode_and_second_derivatives_agree(name):
    case = _case(name, torch.float64)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        torch.backends.mha.set_fastpath_enabled(False)
        one, other = by_forward_mode(*case), by_double_backward(*case)
        torch.backends.mha.set_fastpath_enabled(True)
    assert all(map(torch.allclose, one, other))


def test_attention_is_as_before_afterwards():
    linear_logits(*_case("encoder", torch.float32))
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
