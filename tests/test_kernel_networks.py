"""Public networks, and networks that people change, against plain autograd in float64."""

import pytest
import torch
import torch.nn.functional as F
from test_network_fuzz import by_autograd, error
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from torchvision import models

from twophase.entk import KernelError, entk, factors, network
from twophase.networks.resnet import resnet8

pytestmark = pytest.mark.usefixtures("one_thread")

PUBLIC = {
    "densenet121": (32, {}),
    "efficientnet_b0": (32, {}),
    "googlenet": (32, {"init_weights": False}),
    "mnasnet0_5": (32, {}),
    "mobilenet_v2": (32, {}),
    "mobilenet_v3_small": (32, {}),
    "regnet_y_400mf": (32, {}),
    "resnet18": (32, {}),
    "shufflenet_v2_x0_5": (32, {}),
    "squeezenet1_1": (32, {}),
    "convnext": (32, {}),
    "swin": (32, {}),
    "vit": (16, {}),
}


def _public(name, options):
    """A network of torchvision with two classes; transformers of few blocks."""
    if name == "vit":
        return models.VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=2)
    if name == "swin":
        return models.SwinTransformer([2, 2], 16, [2, 2], [2, 4], [4, 4], num_classes=2)
    if name == "convnext":
        setting = [
            models.convnext.CNBlockConfig(8, 16, 1),
            models.convnext.CNBlockConfig(16, None, 2),
        ]
        return models.ConvNeXt(setting, num_classes=2)
    return models.get_model(name, weights=None, num_classes=2, **options)


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.filterwarnings("ignore")
def test_public_networks_have_the_kernel_of_plain_autograd(name):
    torch.manual_seed(0)
    size, options = PUBLIC[name]
    model, inputs = _public(name, options).double(), torch.randn(3, 3, size, size).double()
    for module in model.modules():  # gradients that neither vanish nor overflow
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    assert error(entk(model, inputs), by_autograd(model, inputs)) < 1e-11


def _net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).double()


def _images(n=4):
    return torch.randn(n, 2, 4, 4, generator=torch.Generator().manual_seed(1)).double()


class By(nn.Module):
    """What `use` makes of layers and parameters."""

    def __init__(self, use, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.use = use

    def forward(self, x):
        return self.use(self, x.flatten(1))


def _by(use, **parts):
    torch.manual_seed(0)
    return By(use, a=nn.Linear(32, 4), b=nn.Linear(4, 3), **parts).double()


class Bounded(nn.Linear):
    """A layer that is more than its parent."""

    def forward(self, x):
        return F.linear(x, self.weight.tanh(), self.bias)


CHANGED = {
    "subclass": lambda m: setattr(m[6], "__class__", Bounded),
    "structured pruning": lambda m: prune.ln_structured(m[3], "weight", 0.5, n=2, dim=0),
    "custom mask": lambda m: prune.custom_from_mask(m[0], "bias", torch.tensor([1, 0, 1, 0])),
    "pruned norm": lambda m: prune.random_unstructured(m[1], "weight", 0.5),
    "spectral_norm": lambda m: nn.utils.spectral_norm(m[3]),
    "orthogonal": lambda m: parametrizations.orthogonal(m[6]),
    "hook with keywords": lambda m: m[3].register_forward_hook(
        lambda m, a, k, y: y + a[0], with_kwargs=True
    ),
    "pre-hook": lambda m: m[6].register_forward_pre_hook(lambda m, a: (a[0] * 0.5,)),
    "backward hook": lambda m: m[3].register_full_backward_hook(lambda m, g, _: (3 * g[0],)),
    "forward of one layer": lambda m: setattr(
        m[6], "forward", lambda x: F.linear(x, m[6].weight.tanh(), m[6].bias)
    ),
    "part of a layer's forward": lambda m: setattr(
        m[3], "_conv_forward", lambda x, w, b: F.conv2d(x, 2 * w, b, padding=1)
    ),
    "masked gradient": lambda m: m[6].weight.register_hook(lambda g: g * (g > g.mean() - g)),
}


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.filterwarnings("ignore")
def test_a_changed_layer_is_not_taken_for_what_it_looks_like(name):
    model = _net()
    CHANGED[name](model)
    expected = by_autograd(model, _images())
    if name == "masked gradient":  # is not linear: no kernel belongs to it
        with pytest.raises(KernelError, match="kernel is wrong"):
            entk(model, _images())
    else:
        assert error(entk(model, _images()), expected) < 1e-12


def _streams(self, x):
    return self.b(torch.tanh(self.a(torch.stack([x, x.sin(), x.cos()]))).mean(0))


def _by_position(self, x):
    return self.b(torch.tanh(self.a(x.view(len(x), 2, 16).transpose(0, 1).repeat(1, 1, 2))).sum(0))


def _sequence_first(self, x):
    return self.b(self.rnn(x.view(len(x), 4, 8).transpose(0, 1))[0][-1])


OTHERS = {
    "three streams": (_streams, {}),
    "positions first": (_by_position, {}),
    "paired": (lambda s, x: s.b(torch.tanh(s.a(torch.cat([x, x.flip(1)]))).view(2, -1, 4)[0]), {}),
    "0-dim": (
        lambda s, x: s.b(torch.tanh(s.a(x) * s.c)) / s.c,
        {"c": nn.Parameter(torch.tensor(2.0))},
    ),
    "PReLU": (lambda s, x: s.b(s.c(s.a(x))), {"c": nn.PReLU(4)}),
    "LSTM": (_sequence_first, {"rnn": nn.LSTM(8, 4, 2)}),
    "GRU": (
        lambda s, x: s.b(s.rnn(x.view(-1, 8, 4))[1].sum(0)),
        {"rnn": nn.GRU(4, 4, batch_first=True)},
    ),
    "GRUCell": (lambda s, x: s.b(s.rnn(x, torch.tanh(s.a(x)))), {"rnn": nn.GRUCell(32, 4)}),
    "Conv1d": (lambda s, x: s.b(s.c(x.view(-1, 2, 16)).mean(2)), {"c": nn.Conv1d(2, 4, 3)}),
    "Conv3d": (
        lambda s, x: s.b(s.c(x.view(-1, 1, 2, 4, 4)).mean((2, 3, 4))),
        {"c": nn.Conv3d(1, 4, 2)},
    ),
    "bilinear": (lambda s, x: s.b(s.c(x[:, :16], x[:, 16:])), {"c": nn.Bilinear(16, 16, 4)}),
    "dict": (lambda s, x: {"loss": None, "logits": s.b(torch.tanh(s.a(x)))}, {}),
    "tuple": (lambda s, x: (s.b(torch.tanh(s.a(x))), x), {}),
    "branch on a number": (
        lambda s, x: s.b(s.c * s.a(x)) * (1 if s.c[0].item() > 0 else -1),
        {"c": nn.Parameter(torch.ones(4))},
    ),
    "checkpoint": (
        lambda s, x: s.b(checkpoint(lambda y: s.a(y).tanh(), x, use_reentrant=False)),
        {},
    ),
    "squeezed": (
        lambda s, x: s.b(torch.tanh(s.a(x)).squeeze() * s.c),
        {"c": nn.Parameter(torch.ones(4))},
    ),
    "within vmap": (lambda s, x: torch.vmap(lambda one: s.b(torch.tanh(s.a(one))))(x), {}),
    "in no_grad": (lambda s, x: s.b(torch.tanh(F.linear(x, s.a.weight)) + s.a(x).detach()), {}),
}


def _logits(output):
    return output["logits"] if isinstance(output, dict) else output[0]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore")
def test_layers_without_a_rule_and_other_outputs_are_right(name, n):
    use, parts = OTHERS[name]
    model, inputs = _by(use, **parts), _images(max(2, n))
    plain = model
    if name in ("dict", "tuple"):
        plain = By(lambda s, x: _logits(s.model(x)), model=model)
    expected = by_autograd(plain, inputs)[: 3 * n, : 3 * n]
    assert error(entk(model, inputs[:n]), expected) < 1e-12


def test_plain_autograd_says_what_it_costs():
    model = _by(
        lambda s, x: s.b(s.a(x) * s.c.tanh()) * (1 if x.abs().sum().item() > 0 else -1),
        c=nn.Parameter(torch.ones(4)),
    )
    with pytest.warns(UserWarning, match=r"autograd .*: c; .* 12 backward passes") as caught:
        entk(model, _images(4))
    assert len(caught) == 1


class Kept(nn.Module):
    """LeViT's attention biases: computed once in eval mode, forgotten in training mode."""

    def __init__(self, forgets):
        super().__init__()
        self.biases, self.kept, self.forgets = nn.Parameter(torch.randn(8)), {}, forgets

    def train(self, mode=True):
        super().train(mode)
        if mode and self.forgets:
            self.kept = {}
        return self

    def forward(self, x):
        if self.training:
            return x + self.biases.tanh()[[0, 2, 1, 0]]
        if x.device not in self.kept:
            self.kept[x.device] = self.biases.tanh()[[0, 2, 1, 0]]
        return x + self.kept[x.device]


@pytest.mark.parametrize("before", [torch.no_grad, torch.enable_grad])
@pytest.mark.filterwarnings("ignore")
def test_values_kept_in_eval_mode_are_made_anew(before):
    model = _by(lambda s, x: s.b(torch.tanh(s.c(s.a(x)))), c=Kept(True))
    expected = by_autograd(model, _images())
    with before():
        model.eval()(_images())
    assert error(entk(model, _images()), expected) < 1e-12
    assert torch.equal(by_autograd(model, _images()), expected)


def test_values_kept_for_good_are_refused_by_name():
    with pytest.raises(KernelError, match=r"c\.kept.* keeps a value"):
        entk(_by(lambda s, x: s.b(s.c(s.a(x))), c=Kept(False)), _images())


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_values_kept_outside_of_the_network_are_not_trusted(detached):
    """Nobody sees them, but a backward pass cannot go through the same graph twice."""
    kept = []

    def use(self, x):
        if not kept:
            kept.append(self.c.tanh().detach() if detached else self.c.tanh())
        return self.b(torch.tanh(self.a(x) * kept[0]))

    model = _by(use, c=nn.Parameter(torch.randn(4)))
    if detached:  # then it is a number like any other
        assert error(entk(model, _images()), by_autograd(model, _images())) < 1e-12
    else:
        with pytest.raises(KernelError, match="backward"):
            entk(model, _images())


NORMS = [nn.BatchNorm2d(4, eps=0.5), nn.GroupNorm(2, 4, eps=0.5), nn.LayerNorm((4, 4, 4), 0.5)]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_a_norm_divides_with_its_own_eps(norm):
    model = _net()
    model[1] = norm.double()
    kernel = entk(model, _images(), check=False)
    assert error(kernel, by_autograd(model, _images())) < 1e-12


def test_a_class_that_is_not_pytorchs_any_more_is_found_out(monkeypatch):
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: forward(self, x).sin())
    with pytest.raises(KernelError, match="kernel is wrong"):
        entk(_net(), _images())


DEPENDENT = {
    "batch statistics": (
        lambda s, x: s.b(F.batch_norm(s.a(x), None, None, training=True)),
        "depend",
    ),
    "other examples, detached": (lambda s, x: s.b(s.a(x)) + x.detach().mean(), "depend"),
    "rank": (lambda s, x: s.b(s.a(x)) * (x.sum(1, keepdim=True) >= x.sum(1).max()), "depend"),
    "attention over the batch": (lambda s, x: s.b(F.softmax(x @ x.T, 1) @ s.a(x)), "depend"),
    "size": (lambda s, x: s.b(s.a(x)) / len(x) ** 0.5, "how many"),
    "dropout": (lambda s, x: F.dropout(s.b(s.a(x))), "random"),
    "NaN": (lambda s, x: s.b(s.a(x)) / 0, "not finite"),
    "no logits": (lambda s, x: {"features": s.a(x)}, "without logits"),
    "maps": (lambda s, x: s.a(x)[:, :, None], "logits must be"),
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_networks_without_a_tangent_kernel_are_refused(name):
    use, message = DEPENDENT[name]
    with pytest.raises(KernelError, match=message):
        entk(_by(use), _images(3))


def test_a_batch_norm_left_in_training_mode_is_refused():
    model = _net()
    model[1].train = lambda mode=True: nn.BatchNorm2d.train(model[1], True)
    with pytest.raises(KernelError, match="1: BatchNorm2d.*running statistics"):
        entk(model, _images())


@pytest.mark.parametrize("kind", ["full", "trace", "pseudo"])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_one_example_is_never_alone(n, kind):
    """PyTorch's batch_norm is wrong for one example whose gradient is transposed."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), By(lambda s, x: x), nn.Linear(64, 3)
    ).double()
    model[2].forward = lambda x: torch.tanh(x).permute(0, 2, 3, 1).flatten(1)
    model[1].running_mean.normal_()
    blocks = by_autograd(model, _images(8)).view(8, 3, 8, 3)[:n, :, :n]
    expected = {
        "full": blocks.reshape(3 * n, 3 * n),
        "trace": blocks.diagonal(dim1=1, dim2=3).mean(-1),
        "pseudo": blocks.sum((1, 3)) / 3,
    }[kind]
    for limit in (None, 40_000):  # the second: blocks of two, and a last one of one
        assert error(entk(model, _images(8)[:n], kind=kind, memory_limit=limit), expected) < 1e-12


def _as_function(norm, x):
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


@pytest.mark.parametrize("call", [nn.BatchNorm2d.__call__, _as_function])
@pytest.mark.parametrize("shape", [(2, 4, 5, 1), (3, 4, 1, 6), (1, 4, 3, 5)])
def test_batch_norms_gradient_is_right_where_an_axis_has_length_one(shape, call):
    norm = nn.BatchNorm2d(4).double().eval()
    norm.running_var.uniform_(0.5, 2)
    inputs = torch.randn(shape[0], *shape[2:], 4).double().permute(0, 3, 1, 2).requires_grad_()
    weights = torch.randn(shape[0], shape[3], shape[2], 4).double().permute(0, 3, 2, 1)
    with network.mended(norm):
        found = torch.autograd.grad((call(norm, inputs) * weights).sum(), inputs)[0]
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).view(1, 4, 1, 1)
    assert torch.allclose(found, weights * scale, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["full", "trace", "pseudo"])
@pytest.mark.parametrize("rule", ["over_positions", "channels_first", "normalised"])
def test_the_check_finds_a_wrong_rule(rule, kind, dtype, monkeypatch):
    torch.manual_seed(0)
    model, inputs = resnet8().to(dtype), torch.randn(6, 1, 8, 8).to(dtype)
    right = entk(model, inputs, kind=kind)
    by_rule = getattr(factors, rule)
    monkeypatch.setattr(factors, rule, lambda *args: 1.01 * by_rule(*args))
    with pytest.raises(KernelError, match="Likely causes: a hook"):
        entk(model, inputs, kind=kind)
    assert error(entk(model, inputs, kind=kind, check=False), right) < 0.1


class Exhausting(torch.autograd.Function):
    """The identity, for whose backward pass there is not enough memory."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.filterwarnings("ignore:plain autograd")
def test_too_little_memory_is_no_fault_of_the_network():
    def exhausting_func(model, x):
        if torch._C._functorch.is_functorch_wrapped_tensor(model.w):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x @ model.w.tanh()

    for use in (lambda s, x: Exhausting.apply(x @ s.w), exhausting_func):
        model = By(use, w=nn.Parameter(torch.randn(4, 3)))
        with pytest.raises(torch.OutOfMemoryError):
            entk(model, torch.randn(3, 4))


def test_a_complex_parameter_is_refused():
    """Its kernel without the imaginary parts would be wrong, and the check's with it."""
    model = By(lambda s, x: (x.flatten(1) * (1 + 0j) @ s.w).abs())
    model.w = nn.Parameter(torch.randn(32, 3, dtype=torch.complex128))
    with pytest.raises(KernelError, match="w is complex: keep its real and imaginary parts"):
        entk(model, torch.randn(3, 32, dtype=torch.float64))


def test_the_check_draws_no_global_random_numbers():
    torch.manual_seed(0)
    model, state = _net(), torch.get_rng_state()
    first = entk(model, _images())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(entk(model, _images(), check=False), first)
