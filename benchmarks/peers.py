"""The tangent kernel of twelve networks beside other ways to compute it: time and memory.

`python benchmarks/peers.py`, or `--only vit gpt --examples 16`. Each row is added to the file
`--rows`, which is one for each commit, as soon as it is there, and rows that the file has are not
measured again: an interruption loses one row at most.

Peers are the Jacobian of `torch.func` (`vmap(jacrev)`), a backward pass for each example and logit,
and BackPACK's `BatchGrad` where that package is installed; each ends with matrix products of its
rows. Networks are small: their widths are chosen so that all of it fits a laptop. Float32, one
thread, `entk` as it comes, with its check. Seconds are of processor time, the best of a few warm
calls by turns with the other methods'; GB are the process's largest memory. Ratios are to the
fastest peer, and to the memory of the one that takes least.
"""

import argparse
import copy
import json
import resource
import subprocess
import sys
import time
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from kernels import available, by_torch_func, timed
from torch import nn
from torchvision import models

from twophase.entk import entk
from twophase.networks.resnet import resnet20
from twophase.networks.vgg import vgg16

TURNS = 3  # calls of each method, ...
LONG = 2  # but one alone where it took more seconds
PATIENCE = 600  # seconds of processor time for all calls of one method; it fails where they end


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


METHODS = {"entk": entk, "torch.func": by_torch_func, "loops": by_loops}
if find_spec("backpack"):
    METHODS["backpack"] = by_backpack


def worker(method, name, n):
    """Answer each line that arrives by a call: JSON with its seconds and the process's peak GB.

    First comes the distance of a kernel of two examples from that by loops, relative, in Frobenius
    norm.
    """
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
    model, inputs = case(name, n)
    kernel = METHODS[method]
    expected, found = by_loops(model, inputs[:2]), kernel(model, inputs[:2])
    print(json.dumps({"off": float((found - expected).norm() / expected.norm())}), flush=True)
    for _ in sys.stdin:
        print(
            json.dumps(timed(partial(kernel, model, inputs), 1, 1, time.process_time)), flush=True
        )


def needed(method, name, n):
    """GB of the rows that a method holds: all but `entk` form them, and some copy them."""
    model, inputs = case(name, 2)
    numbers = n * model(inputs).shape[1] * sum(p.numel() for p in model.parameters())
    return {"entk": 0, "torch.func": 1.3}.get(method, 2.2) * 4e-9 * numbers


def started(method, name, n):
    """A worker, and what it says of its kernel; None where the method fails."""
    command = [sys.executable, __file__, "--worker", method, name, str(n)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, text=True, bufsize=1, **pipes)
    line = process.stdout.readline()
    return process, json.loads(line) if line else None


def answer(process):
    """What one more call of a worker took; None if the worker has ended."""
    try:
        process.stdin.write("\n")
    except BrokenPipeError:
        return None
    line = process.stdout.readline()
    return json.loads(line) if line else None


def measured(name, n):
    """What each method takes on one network: calls by turns, each method in a process of its own.

    Best of the turns, one alone for calls that take long. A method that fails is null; one that
    would need more than half of the free memory says how many GB.
    """
    found, workers = {}, {}
    for method in METHODS:
        gigabytes = needed(method, name, n)
        if gigabytes > available() / 2:
            found[method] = {"needs": gigabytes}
        else:
            workers[method], found[method] = started(method, name, n)
    for turn in range(TURNS):
        for method, process in workers.items():
            known = found[method]
            if known is None or (turn and known["seconds"] > LONG):
                continue
            result = answer(process)
            if result and turn:
                result["seconds"] = min(result["seconds"], known["seconds"])
            found[method] = result and known | result
    for process in workers.values():
        process.communicate()
    return {"network": name, "n": n, "found": found}


def cells(each):
    """Seconds and GB of one method."""
    if each is None:
        return "fails | –"
    if "needs" in each:
        return f"needs {each['needs']:.0f} GB | –"
    return f"{each['seconds']:.2f} | {each['peak']:.2f}"


def line(row):
    """A line of the table, with ratios to the fastest peer and to the one that takes least."""
    found = {method: row["found"].get(method) for method in METHODS}
    ours, ratios = found["entk"], "– | –"
    peers = [each for method, each in found.items() if method != "entk" and "peak" in (each or {})]
    if ours and peers:
        ratios = f"{ours['seconds'] / min(each['seconds'] for each in peers):.2f} | "
        ratios += f"{ours['peak'] / min(each['peak'] for each in peers):.2f}"
    off = f"{ours['off']:.0e}" if ours else "–"
    every = " | ".join(cells(each) for each in found.values())
    return f"| {row['network']} | {row['n']} | {every} | {ratios} | {off} |"


def main():
    """Measure the rows that the file does not have, and print the table of all that it has."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    describe = ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip() or "unknown"
    parser.add_argument("--rows", type=Path, default=Path(f"peers-{commit}.jsonl"))
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.worker:
        method, name, n = options.worker
        worker(method, name, int(n))
        return
    rows = []
    if options.rows.exists():
        rows = [json.loads(text) for text in options.rows.read_text().splitlines()]
    there = {(row["network"], row["n"]) for row in rows}
    for n in options.examples:
        for name in options.only:
            if (name, n) not in there:
                rows.append(measured(name, n))
                with options.rows.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    heads = " | ".join(f"{method} s | GB" for method in METHODS)
    print(f"| network | n | {heads} | time | memory | off |")
    print("|---" * (2 * len(METHODS) + 5) + "|")
    rows.sort(key=lambda row: (row["n"], list(NETWORKS).index(row["network"])))
    print("\n".join(line(row) for row in rows))


if __name__ == "__main__":
    main()
