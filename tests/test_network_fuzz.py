"""Random networks of known layers, with what people do to networks: the right kernel or an error.

`pytest tests/test_network_fuzz.py --hypothesis-profile long` tries 300 of them.
"""

import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from torch import nn
from torch.nn.utils import parametrizations, prune

from twophase.entk import KernelError, entk

pytestmark = pytest.mark.usefixtures("one_thread")
COUNT = 300 if settings.get_current_profile_name() == "long" else 40


def by_autograd(model, inputs):
    """The definition: a backward pass for each logit of an ordinary forward pass."""
    model.train()  # forgets what is kept in eval mode
    output = model.eval()(inputs)
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for logit in output.flatten() if parameters and output.requires_grad else ():
        found = torch.autograd.grad(logit, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        rows.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        )
    rows = torch.stack(rows) if rows else inputs.new_zeros(output.numel(), 1)
    return rows @ rows.T


def by_kind(model, inputs, kind):
    """What each kind of kernel of a network with three outputs is of that."""
    n = len(inputs)
    blocks = by_autograd(model, inputs).view(n, 3, n, 3)
    return {
        "full": blocks.reshape(3 * n, 3 * n),
        "trace": blocks.diagonal(dim1=1, dim2=3).mean(-1),
        "pseudo": blocks.sum((1, 3)) / 3,
    }[kind]


def error(kernel, expected):
    return float((kernel - expected).norm() / expected.norm())


class Around(nn.Module):
    """A layer in a way of use of its own."""

    def __init__(self, layer, use):
        super().__init__()
        self.layer, self.use = layer, use
        self.scalar = nn.Parameter(torch.tensor(0.7))
        self.kept = None

    def train(self, mode=True):
        self.kept = None if mode else self.kept
        return super().train(mode)

    def forward(self, x):
        return self.use(self, x)


def _kept(self, x):
    if self.training or self.kept is None:
        self.kept = torch.tanh(self.scalar)
    return self.layer(x) * self.kept


def _beside(self, x):
    with torch.no_grad():
        still = self.layer(x)
    return self.layer(x) + 0.1 * still


# What surrounds a layer.
USES = {
    "scalar": lambda self, x: self.layer(x) * self.scalar,
    "twice": lambda self, x: self.layer(x) + self.layer(torch.tanh(x)),
    "two streams": lambda self, x: sum(self.layer(torch.cat([x, -x])).chunk(2)),
    "turned": lambda self, x: self.layer(x.flip(0)).flip(0),
    "one by one": lambda self, x: torch.cat([self.layer(one) for one in x.split(1)]),
    "weight beside": lambda self, x: self.layer(x) * self.layer.weight.sin().mean(),
    "kept until train()": _kept,
    "no_grad beside": _beside,
    "detached": lambda self, x: self.layer(x) + self.layer(x).detach(),
    "in place": lambda self, x: (self.layer(x) + 0).mul_(1.5).tanh_(),
}

REFUSED = {
    "batch mean": lambda self, x: self.layer(x - 0.5 * x.mean(0)),
    "batch mean, detached": lambda self, x: self.layer(x) * (1 + x.mean().detach() ** 2),
    "batch size": lambda self, x: self.layer(x) / len(x),
    "largest": lambda self, x: self.layer(x) / x.abs().max(),
    "dropout": lambda self, x: self.layer(F.dropout(x)),
    "order": lambda self, x: self.layer(x).flip(0),
}


def _own_forward(layer, pick):
    forward = layer.forward
    layer.forward = lambda x: 1.5 * forward(x)


def _no_parameter(layer, pick):
    weight = layer._parameters.pop("weight")
    layer.register_parameter("raw", weight)
    layer.register_forward_pre_hook(lambda m, _: setattr(m, "weight", torch.sin(m.raw)))
    layer.weight = torch.sin(weight)


def _gain(layer, pick):
    layer.register_parameter("gain", nn.Parameter(torch.tensor([0.8], dtype=torch.float64)))
    layer.register_forward_hook(lambda m, _, y: y * m.gain)


def _masked_gradient(layer, pick):
    mask = torch.rand_like(layer.weight) < 0.5
    layer.weight.register_hook(lambda g: g * mask)


# What is done to a layer.
CHANGES = {
    "hook": lambda layer, pick: layer.register_forward_hook(lambda m, _, y: torch.sin(y)),
    "hook that looks": lambda layer, pick: layer.register_forward_hook(lambda m, _, y: None),
    "first hook": lambda layer, pick: layer.register_forward_hook(
        lambda m, _, y: 2 * y, prepend=True
    ),
    "pre-hook": lambda layer, pick: layer.register_forward_pre_hook(lambda m, a: (a[0] * 0.5,)),
    "gradient hook": lambda layer, pick: layer.register_full_backward_hook(
        lambda m, g, _: tuple(None if each is None else 2 * each for each in g)
    ),
    "pruned": lambda layer, pick: prune.random_unstructured(
        layer, pick(["weight", "bias"] if layer.bias is not None else ["weight"]), 0.4
    ),
    "weight_norm": lambda layer, pick: (
        nn.utils.weight_norm(layer) if layer.weight.dim() > 1 else None
    ),
    "parametrized": lambda layer, pick: (
        pick([parametrizations.weight_norm, parametrizations.spectral_norm])(layer)
        if layer.weight.dim() > 1
        else None
    ),
    "own forward": _own_forward,
    "no parameter": _no_parameter,
    "extra parameter": _gain,
    "masked gradient": _masked_gradient,
    "frozen weight": lambda layer, pick: layer.weight.requires_grad_(False),
    "frozen": lambda layer, pick: layer.requires_grad_(False),
}


class Pixels(nn.Module):
    """A layer for sequences, over the pixels of a map, with a table of positions and a scale."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.places = layer, nn.Parameter(0.3 * torch.randn(400, 4))
        self.scale = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x):
        y = x.flatten(2).mT + self.places[: x[0, 0].numel()]
        y = self.layer(y, y, y)[0] if hasattr(self.layer, "in_proj_bias") else self.layer(y)[0]
        return x + self.scale * y.mT.reshape(x.shape)


class Numbers(nn.Module):
    """Rows of a table that the signs of the inputs choose, added to them."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(3, 4, padding_idx=1)

    def forward(self, x):
        return x * self.table(x.mean((2, 3)).sign().long()[:, 0] + 1)[..., None, None]


class Graph(nn.Module):
    """Layers in sequence, each with an activation; some are added to what came before."""

    def __init__(self, layers, head, activations, residual):
        super().__init__()
        self.layers, self.head = nn.ModuleList(layers), head
        self.activations, self.residual = activations, residual

    def forward(self, x):
        for layer, act, residual in zip(self.layers, self.activations, self.residual, strict=True):
            y = act(layer(x))
            x = x + y if residual and x.shape == y.shape else y
        return self.head(x.mean((2, 3)))


def _attention():
    return nn.MultiheadAttention(4, 2, batch_first=True)


def random_network(seed):
    """A network, its inputs, what was done to it, and whether that has no tangent kernel."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    pick = rng.choice
    channels = 4
    inputs = torch.randn(pick([1, 2, 3, 5]), channels, pick([4, 5]), pick([4, 6]))
    layers = []
    for _ in range(pick([2, 3, 4])):
        layers.append(
            pick(
                [
                    nn.Conv2d(4, 4, pick([1, 3]), padding="same", groups=pick([1, 2])),
                    nn.Conv2d(
                        4, 4, 3, padding=1, bias=False, padding_mode=pick(["zeros", "reflect"])
                    ),
                    nn.Conv2d(4, 4, 2, stride=pick([1, 2]), padding=1),
                    nn.BatchNorm2d(4),
                    nn.GroupNorm(2, 4),
                    nn.ConvTranspose2d(4, 4, pick([1, 3]), groups=pick([1, 2])),
                    nn.PReLU(4),
                    Numbers(),
                    Pixels(pick([_attention(), nn.LSTM(4, 4, batch_first=True)])),
                    Pixels(nn.GRU(4, 2, batch_first=True, bidirectional=True)),
                ]
            )
        )
    head = pick([nn.Linear(4, 3), nn.Linear(4, 3, bias=False)])
    bodies = [nn.Sequential(nn.LayerNorm(4), head), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), head)]
    body = pick(bodies)
    done = []
    for _ in range(pick([0, 1, 1, 2, 3])):
        plain = [layer for layer in layers if hasattr(layer, "bias")]
        layer = pick([*plain, *(part for part in body if not isinstance(part, nn.Tanh))])
        name = pick(sorted([*CHANGES, "shared"]))
        if name == "shared":
            other = pick(plain or [layer])
            if type(other) is not type(layer) or other.weight.shape != layer.weight.shape:
                continue
            layer.weight = other.weight
        elif not hasattr(layer, "done"):
            layer.done = True
            CHANGES[name](layer, pick)
        done.append(name)
    refused = False
    if pick([True, False]):
        place = rng.randrange(len(layers))
        refused = rng.random() < 0.2 and len(inputs) > 1
        uses = REFUSED if refused else USES
        weighted = hasattr(layers[place], "weight")
        name = pick(sorted(use for use in uses if weighted or use != "weight beside"))
        layers[place] = Around(layers[place], uses[name])
        done.append(name)
    activations = [pick([torch.tanh, F.gelu, F.elu, torch.sin]) for _ in layers]
    model = Graph(layers, body, activations, [pick([True, False]) for _ in layers]).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model, inputs.double(), done, refused


@pytest.mark.parametrize("seed", range(COUNT))
@pytest.mark.filterwarnings("ignore")
def test_a_random_network_has_the_right_kernel_or_is_refused(seed):
    model, inputs, done, refused = random_network(seed)
    if refused:
        with pytest.raises(KernelError, match="depend|random"):
            entk(model, inputs)
        return
    whole = by_autograd(model, inputs)
    blocks = whole.view(len(inputs), 3, len(inputs), 3)
    kind, expected = {
        0: ("full", whole),
        1: ("trace", blocks.diagonal(dim1=1, dim2=3).mean(-1)),
        2: ("pseudo", blocks.sum((1, 3)) / 3),
    }[seed % 3]
    kernel = entk(model, inputs, kind=kind)
    assert float((kernel - expected).norm()) <= 1e-10 * float(expected.norm()), done
    assert torch.equal(by_autograd(model, inputs), whole), "the model was changed"
