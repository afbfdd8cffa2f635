"""How fast is training? Our loop beside the bare arithmetic, and beside a plain DataLoader loop.

    python benchmarks/training.py [--turns 3] [--threads 1]

Three loops train the networks of the study `cifar10`, with its options, on random images of that
size, on the CPU, in turns, each in a process of its own:

- bare: forward, backward and update on one batch that lies ready in memory;
- ours: `twophase.training.advance`, batches made from (seed, step);
- plain: torchvision's transforms, a DataLoader with two worker processes, `torch.optim.SGD`, and
  PyTorch as it comes.

Printed are the medians of seconds an iteration, and of the ratios of ours to both.
"""

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as transforms

from twophase.study import networks, studyfile
from twophase.study.compute import Compute
from twophase.study.run import Run
from twophase.training.batches import Data, Split
from twophase.training.loop import advance, initial_state
from twophase.training.machine import prepare

STUDY = Path(__file__).parents[1] / "workflow/config/cifar10.yaml"
BATCH = 128  # the study's


def random_data() -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.randint(0, 10, (5000,), generator=generator))
    return Data(split, split, 10, torch.full((3,), 127.0), torch.full((3,), 60.0))


def ours(run, data):
    state = initial_state(run.model, data, run.seed)

    def steps(count):
        advance(state, run, data, state.step + count)

    return steps


def update_of(model, training):
    optimizer = torch.optim.SGD(
        model.parameters(),
        training.lr,
        training.momentum,
        weight_decay=training.weight_decay,
        fused=True,
    )

    def update(images, labels):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return update


def bare(run, data):
    model = networks.build(run.model.network, 3, 10).to(memory_format=torch.channels_last)
    update = update_of(model, run.model.training)
    images = data.normalised(data.train.images[:BATCH]).contiguous(
        memory_format=torch.channels_last
    )
    labels = data.train.labels[:BATCH]

    def steps(count):
        for _ in range(count):
            update(images, labels)

    return steps


class Images(Dataset):
    def __init__(self, data):
        self.data = data
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToDtype(torch.float32),
                transforms.Normalize(data.mean.tolist(), data.std.tolist()),
            ]
        )

    def __len__(self):
        return len(self.data.train.labels)

    def __getitem__(self, index):
        return self.transform(self.data.train.images[index]), self.data.train.labels[index]


def plain(run, data):
    update = update_of(networks.build(run.model.network, 3, 10), run.model.training)

    def endless():
        loader = DataLoader(
            Images(data),
            BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=2,
            persistent_workers=True,
        )
        while True:
            yield from loader

    batches = endless()

    def steps(count):
        for _ in range(count):
            update(*next(batches))

    return steps


LOOPS = {"bare": bare, "ours": ours, "plain": plain}
NETWORKS = {"ResNet-20": "resnet", "VGG-16": "vgg"}  # models of the study


def serve(loop: str, network: str, threads: int, pipe) -> None:
    """Run the loop for as many iterations as `pipe` asks, and answer with the seconds of one."""
    if loop == "plain":
        torch.set_num_threads(threads)
    else:
        prepare(Compute(device="cpu", threads=threads, precision="float32"))
    steps = LOOPS[loop](Run(studyfile.load(STUDY), NETWORKS[network], 0), random_data())
    while count := pipe.recv():
        started = time.perf_counter()
        steps(count)
        pipe.send((time.perf_counter() - started) / count)


def turns(network: str, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds an iteration of each loop, in each turn but the first, which warms up."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for loop in LOOPS:
        pipes[loop], theirs = context.Pipe()
        context.Process(target=serve, args=(loop, network, arguments.threads, theirs)).start()
    times = {loop: [] for loop in LOOPS}
    for turn in range(arguments.turns + 1):
        for loop, pipe in pipes.items():
            pipe.send(arguments.steps)
            seconds = pipe.recv()
            if turn:
                times[loop].append(seconds)
    for pipe in pipes.values():
        pipe.send(0)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--steps",
        type=int,
        default=40,
        help="iterations of each turn; in short ones the DataLoader lives on what it made before",
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print("| network | bare s | ours s | plain s | bare / ours | plain / ours |")
    print("|---|---|---|---|---|---|")
    for network in NETWORKS:
        times = turns(network, arguments)
        seconds = [f"{statistics.median(times[loop]):.3f}" for loop in LOOPS]
        ratios = [
            statistics.median(a / b for a, b in zip(times[loop], times["ours"], strict=True))
            for loop in ("bare", "plain")
        ]
        print(f"| {network} | {' | '.join(seconds)} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
