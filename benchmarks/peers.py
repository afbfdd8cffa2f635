"""The tangent kernel of twelve networks beside other ways to compute it: time and memory.

`python benchmarks/peers.py --examples 16`, or `--only vit gpt`. Peers are the Jacobian of
`torch.func` (`vmap(jacrev)`), a backward pass for each example and logit, and BackPACK's
`BatchGrad` where that package is installed; each ends with matrix products of its rows.
Networks are small: their widths are chosen so that all of it fits a laptop. Float32, one thread,
`entk` as it comes, with its check. Each measurement has a process of its own: seconds of processor
time of the best of at most three warm calls, and GB of the process's largest memory. Ratios are to
the fastest peer, and to the memory of the one that takes least.
"""

import argparse
import copy
import json
import subprocess
import sys
import time
import warnings
from functools import partial

import torch
import torch.nn.functional as F
from kernels import by_torch_func, timed
from torch import nn
from torchvision import models

from twophase.entk import entk
from twophase.networks.resnet import resnet20
from twophase.networks.vgg import vgg16

REPEAT_WITHIN = 8  # seconds: a call is repeated, at most three times, while they take less
PATIENCE = 900  # seconds for one measurement; longer ones are left out


class Block(nn.Module):
    """A transformer's block with attention by hand, `width` numbers a token in `heads` heads."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        parts = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second_norm(x))))


class Gpt(nn.Module):
    """Next of `tokens` tokens after `length`; output weights are those of the embedding."""

    def __init__(self, tokens=32, length=32, width=64, blocks=2):
        super().__init__()
        self.table, self.head = nn.Embedding(tokens, width), nn.Linear(width, tokens, bias=False)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(blocks)))
        self.norm, self.head.weight = nn.LayerNorm(width), self.table.weight

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.table(x) + self.places)[:, -1]))


class Recurrent(nn.Module):
    """One of 10 classes for a sequence of tokens."""

    def __init__(self, kind, tokens=32, width=64, hidden=128):
        super().__init__()
        self.table = nn.Embedding(tokens, width)
        self.rnn = kind(width, hidden, 2, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x):
        return self.head(self.rnn(self.table(x))[0][:, -1])


class Mixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al. 2021) on 8 x 8 patches."""

    def __init__(self, width=96, blocks=3):
        super().__init__()
        self.patches, tokens = nn.Conv2d(3, width, 4, 4), 64
        self.across = nn.ModuleList(_mlp(tokens, 48) for _ in range(blocks))
        self.along = nn.ModuleList(_mlp(width, 4 * width) for _ in range(blocks))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2)
        for across, along in zip(self.across, self.along, strict=True):
            x = x + across(x)
            x = x + along(x.mT).mT
        return self.head(x.mean(2))


def _mlp(width, hidden):
    layers = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
    return nn.Sequential(nn.LayerNorm(width), *layers)


def _convnext():
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(32, 64, 2), block(64, None, 2)], num_classes=10)


NETWORKS = {
    "resnet20": resnet20,
    "resnet18": lambda: models.ResNet(models.resnet.BasicBlock, [2, 2, 2, 2], num_classes=10),
    "vgg16": lambda: vgg16(width=0.5),
    "convnext": _convnext,
    "mobilenet_v3": lambda: models.mobilenet_v3_small(num_classes=10),
    "efficientnet": lambda: models.efficientnet_b0(num_classes=10),
    "vit": lambda: models.VisionTransformer(32, 4, 4, 4, 128, 256, num_classes=10),
    "swin": lambda: models.SwinTransformer([2, 2], 48, [2, 2], [3, 6], [4, 4], num_classes=10),
    "gpt": Gpt,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "mixer": Mixer,
}
WORDS = ("gpt", "lstm", "gru")


def case(name, n):
    """A network with random parameters and its inputs, always the same."""
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():  # the ViT's head starts at zero
            nn.init.normal_(parameter, std=0.02)
    generator = torch.Generator().manual_seed(0)
    if name in WORDS:
        return model, torch.randint(32, (n, 32), generator=generator)
    return model, torch.randn(n, 3, 32, 32, generator=generator)


def by_loops(model, inputs):
    """The kernel by a backward pass for each example and logit."""
    parameters = list(model.parameters())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(logit, parameters, retain_graph=True)])
        for x in inputs
        for logit in model(x[None])[0]
    ]
    rows = torch.stack(rows)
    return rows @ rows.T


def by_backpack(model, inputs):
    """The kernel by BackPACK, a backward pass with `BatchGrad` for each logit."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    model = extend(copy.deepcopy(model), use_converter=True)
    rows = []
    for c in range(model(inputs[:1]).shape[1]):
        model.zero_grad()
        with backpack(BatchGrad()):
            model(inputs)[:, c].sum().backward()
        rows.append(torch.cat([p.grad_batch.flatten(1) for p in model.parameters()], 1))
    rows = torch.stack(rows, 1).flatten(0, 1)
    return rows @ rows.T


METHODS = {"entk": entk, "torch.func": by_torch_func, "loops": by_loops, "backpack": by_backpack}


def measure(method, name, n):
    """Seconds, GB, and the relative distance of the kernel of two examples from that by loops."""
    warnings.simplefilter("ignore")
    model, inputs = case(name, n)
    kernel = METHODS[method]
    expected, found = by_loops(model, inputs[:2]), kernel(model, inputs[:2])
    result = timed(partial(kernel, model, inputs), 3, REPEAT_WITHIN, time.process_time)
    return result | {"off": float((found - expected).norm() / expected.norm())}


def in_a_process(method, name, n):
    """The measurement in a new process; None where it fails or takes too long."""
    command = [sys.executable, __file__, "--one", method, name, str(n)]
    try:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=PATIENCE
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return json.loads(done.stdout)


def row(name, n):
    """A line of the table."""
    found = {method: in_a_process(method, name, n) for method in METHODS}
    cells = [
        f"{each['seconds']:.2f} | {each['peak']:.2f}" if each else "– | –"
        for each in found.values()
    ]
    ours, ratios = found.pop("entk"), "– | –"
    peers = [each for each in found.values() if each]
    if ours and peers:
        ratios = f"{ours['seconds'] / min(each['seconds'] for each in peers):.2f} | "
        ratios += f"{ours['peak'] / min(each['peak'] for each in peers):.2f}"
    off = f"{ours['off']:.0e}" if ours else "–"
    return f"| {name} | {n} | {' | '.join(cells)} | {ratios} | {off} |"


def main():
    """Print the table, or as `--one ...` a single measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, nargs="+", default=[16])
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        method, name, n = options.one
        print(json.dumps(measure(method, name, int(n))))
        return
    heads = " | ".join(f"{method} s | GB" for method in METHODS)
    print(f"| network | n | {heads} | time | memory | off |")
    print("|---" * (2 * len(METHODS) + 5) + "|", flush=True)
    for n in options.examples:
        for name in options.only:
            print(row(name, n), flush=True)


if __name__ == "__main__":
    main()
