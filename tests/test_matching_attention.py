"""Networks with attention, embeddings and weights used again, modulo permutation: known answers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twophase.measures.barrier import barrier, path_losses
from twophase.measures.permutation import moved, permute, shuffled, units, weight_matching
from twophase.networks.gpt import GPT
from twophase.networks.vit import ViT
from twophase.training.evaluation import logits
from twophase.training.tensors import named_state

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"width": 8, "depth": 2, "heads": 2, "expansion": 2, "activation": "gelu", "dropout": 0.1}


class Tokens(nn.Module):
    """A transformer as people write it, with attention in one of many spellings."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.heads = kind, 2
        self.tokens, self.positions = nn.Embedding(5, 8), nn.Embedding(6, 8)
        self.inward, self.outward = nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8, bias=False)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.register_buffer("mask", torch.ones(6, 6).tril().view(1, 1, 6, 6))
        self.head = nn.Linear(8, 5, bias=False)
        self.norm3 = nn.LayerNorm(8)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.slopes = nn.Parameter(torch.randn(2, 1, 1))
        if kind == "tied":
            self.head.weight = self.tokens.weight

    def attention(self, x):
        n, length, width = x.size()
        if self.kind == "einsum":
            q, k, v = self.inward(x).reshape(n, length, 3, self.heads, 4).permute(2, 0, 3, 1, 4)
            seen = torch.einsum("bhid,bhjd->bhij", q * self.scale, k).softmax(-1)
            return torch.einsum("bhij,bhjd->bihd", seen, v).reshape(n, length, width)
        q, k, v = self.inward(x).split(width, dim=2)
        q, k, v = (each.view(n, length, self.heads, 4).transpose(1, 2) for each in (q, k, v))
        if self.kind == "turned":
            q, k = self.turned(q), self.turned(k)
        if self.kind == "biased":
            distance = torch.arange(length) - torch.arange(length)[:, None]
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.slopes * distance.abs())
        else:
            seen = q @ k.transpose(-2, -1) * (1.0 / math.sqrt(k.size(-1)))
            seen = seen.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
            y = F.softmax(seen, dim=-1) @ v
        return y.transpose(1, 2).contiguous().view(n, length, width)

    def turned(self, x):
        """Rotary positions."""
        angle = torch.arange(x.shape[2])[:, None] * torch.tensor([1.0, 0.1]).repeat(2)
        return x * angle.cos() + torch.cat([-x[..., 2:], x[..., :2]], -1) * angle.sin()

    def forward(self, tokens):
        assert tokens.size(1) <= 6
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.size(1)))
        x = x + self.outward(self.attention(self.norm1(x)))
        return self.head(self.norm3(x + self.down(F.gelu(self.up(self.norm2(x))))))


class Encoder(nn.Module):
    """PyTorch's own transformer layers, behind a class token."""

    def __init__(self, first):
        super().__init__()
        self.first, self.token = nn.Linear(8, 8), nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 9, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=first)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), self.first(x[:, 0])], 1)
        return self.last(self.layers(x + self.positions)[:, 0])


class Separate(nn.Module):
    """Attention to others of other widths: three matrices instead of one."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 5), nn.Linear(8, 6)
        self.attention = nn.MultiheadAttention(8, 4, kdim=5, vdim=6, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = x[:, 0]
        y, _ = self.attention(self.a(x), self.b(x).relu(), self.c(x).relu())
        return self.last(y.mean(1))


class Mixer(nn.Module):
    """Units of two kinds: channels, and hidden ones that mix patches."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(1, 6, 4, 4), nn.LayerNorm(6)
        self.t1, self.t2 = nn.Linear(4, 9), nn.Linear(9, 4)
        self.c1, self.c2, self.last = nn.Linear(6, 10), nn.Linear(10, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.t2(F.gelu(self.t1(self.norm(x).transpose(1, 2)))).transpose(1, 2)
        return self.last((x + self.c2(F.gelu(self.c1(self.norm(x))))).mean(1))


class Recurrent(nn.Module):
    """One layer used again and again: by hand, or PyTorch's."""

    def __init__(self, kind):
        super().__init__()
        self.inward, self.again, self.last = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.layer = getattr(nn, kind)(8, 6, batch_first=True) if kind else None

    def forward(self, x):
        if self.layer:
            return self.last(self.layer(x[:, 0])[0][:, -1])
        hidden = torch.zeros(len(x), 6)
        for row in x[:, 0].unbind(1):
            hidden = torch.tanh(self.inward(row) + self.again(hidden))
        return self.last(hidden)


BLOCK = [4, 4, 4, 4, 16]  # of each head, queries with keys, and values; the hidden layer
HEADS = [(2, 4), (2, 4)]
# By network: the sizes of its groups, and of each set of heads those of each kind.
NETWORKS = {
    "gpt": (lambda: GPT(5, 5, image_size=6, **SIZES), [8, *BLOCK, *BLOCK], [HEADS, HEADS]),
    "vit": (lambda: ViT(1, 5, image_size=8, patch=4, **SIZES), [8, *BLOCK, *BLOCK], [HEADS, HEADS]),
    "by hand": (lambda: Tokens("by hand"), [8, 4, 4, 4, 4, 12], [HEADS]),
    "tied": (lambda: Tokens("tied"), [8, 4, 4, 4, 4, 12], [HEADS]),
    "einsum": (lambda: Tokens("einsum"), [8, 4, 4, 4, 4, 12], [HEADS]),
    # Slopes move with their heads.
    "biased": (lambda: Tokens("biased"), [8, 4, 4, 4, 4, 12], [[*HEADS, (2, 1)]]),
    # Of queries and keys each pair is turned by its own angle.
    "turned": (lambda: Tokens("turned"), [8, 1, 1, 1, 1, 4, 4, 12], [[(2, 1), (2, 1), (2, 4)]]),
    "encoder": (lambda: Encoder(True), [8, *BLOCK, *BLOCK], [HEADS, HEADS]),
    "encoder, norm last": (lambda: Encoder(False), [8, *BLOCK, *BLOCK], [HEADS, HEADS]),
    "separate": (Separate, [8, 5, 6, *[2] * 8, 8], [[(4, 2), (4, 2)]]),
    "mixer": (Mixer, [6, 9, 10], []),
    "recurrent": (lambda: Recurrent(""), [6], []),
    "lstm": (lambda: Recurrent("LSTM"), [6], []),
    "gru": (lambda: Recurrent("GRU"), [6], []),
    "gated": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GLU(), nn.Linear(4, 3)), [4], []
    ),
}  # fmt: skip


def _any(name):
    """A network all of whose entries are random, and examples."""
    torch.manual_seed(0)
    model = NETWORKS[name][0]()
    for tensor in model.parameters():
        tensor.data = 0.5 * torch.randn(tensor.shape)
    tokens = isinstance(model, GPT | Tokens)
    return model.eval(), torch.randint(5, (16, 6)) if tokens else torch.randn(16, 1, 8, 8)


def _squares(out, labels):
    return (out - labels).square().flatten(1).sum(1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_permuted_network_with_heads_computes_the_same_and_is_matched_back(name):
    (one, examples), (other, _), (between, _) = (_any(name) for _ in range(3))
    found = units(one, examples[:2])
    _, groups, heads = NETWORKS[name]
    assert sorted(len(group) for group in found.groups) == sorted(groups)
    assert [sorted(tuple(kind.shape) for kind in kinds) for kinds in found.heads] == [
        sorted(kinds) for kinds in heads
    ]
    before = logits(one, examples)
    for seed in range(6):
        permute(between, found, shuffled(found, seed))
        assert (logits(between, examples) - before).abs().max() <= 1e-5 * before.abs().max()
    places = shuffled(found, seed=1)
    permute(other, found, places)
    assert moved(found, places) > 0.3
    assert (logits(other, examples) - before).abs().max() <= 1e-5 * before.abs().max()
    back = weight_matching(one, other, found, 100)
    permute(other, found, back)
    assert torch.equal(places[back], torch.arange(found.count))
    for a, b in zip(named_state(one).values(), named_state(other).values(), strict=True):
        assert torch.equal(a, b)
    sets, alphas = {"all": (examples, before)}, [0.0, 0.5, 1.0]
    losses = path_losses(between, one, other, alphas, sets, None, _squares)
    assert barrier(alphas, losses["all"]) == 0.0


def test_heads_swapped_by_hand_are_found():
    one, tokens = _any("gpt")
    other, _ = _any("gpt")
    swap = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])
    order = torch.tensor([2, 0, 3, 1])  # of the values of what is then the first head
    values = torch.cat([swap[:4][order], swap[4:]])
    block = other.blocks[0]
    with torch.no_grad():
        rows = torch.cat([swap, 8 + swap, 16 + values])
        for tensor in (block.inward.weight, block.inward.bias):
            tensor.copy_(tensor[rows])
        block.outward.weight.copy_(block.outward.weight[:, values])
    assert torch.allclose(logits(one, tokens), logits(other, tokens), rtol=1e-4, atol=1e-5)
    found = units(one, tokens)
    permute(other, found, weight_matching(one, other, found, 100))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_match_of_heads_is_the_best_of_all():
    one, images = _any("separate")
    other = NETWORKS["separate"][0]().eval()
    found = units(one, images)
    found = found._replace(groups=[found.heads[0][0][0]])  # nothing else moves
    permute(other, found, weight_matching(one, other, found, 100))

    def inner():
        pairs = zip(named_state(one).values(), named_state(other).values(), strict=True)
        return sum(float((a.double() * b.double()).sum()) for a, b in pairs)

    reached, best = inner(), -math.inf
    generator = torch.Generator().manual_seed(0)
    kinds = found.heads[0]
    for _ in range(2000):  # of the 4! 2^8 there are
        places = torch.arange(found.count)
        order = torch.randperm(4, generator=generator)
        for kind in kinds:
            turned = [head[torch.randperm(2, generator=generator)] for head in kind[order]]
            places[kind] = torch.stack(turned)
        permute(other, found, places)
        best = max(best, inner())
        permute(other, found, places.argsort())
    assert inner() == pytest.approx(reached)
    assert reached >= best - 1e-9
