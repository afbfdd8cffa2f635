"""How fast is training? Our loop beside the bare arithmetic, and beside a plain DataLoader loop.

    python benchmarks/training.py [--turns 3] [--threads 1]

Three loops train the same network on random images of CIFAR-10's size, batch 128, on the CPU, in
turns, each in a process of its own:

- bare: forward, backward and update on one batch that lies ready in memory;
- ours: `twophase.train.advance`, batches made from (seed, step);
- plain: torchvision's transforms, a DataLoader with two worker processes, `torch.optim.SGD`, and
  PyTorch as it comes.

Printed are the medians of seconds an iteration, and of the ratios of ours to both.
"""

import argparse
import multiprocessing
import statistics
import time

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as transforms

from twophase.compute import prepare
from twophase.data import Data, Split
from twophase.models import resnet20, vgg16
from twophase.sections import Augmentation, Compute
from twophase.study import Training
from twophase.train import State, advance

BATCH = 128
TRAINING = Training(
    iterations=10**6, batch_size=BATCH, lr=0.01, momentum=0.9, weight_decay=1e-4, lr_drops=[]
)


def random_data() -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.randint(0, 10, (5000,), generator=generator))
    return Data(split, split, 10, torch.full((3,), 127.0), torch.full((3,), 60.0))


def state_of(builder) -> State:
    model = builder().to(memory_format=torch.channels_last)
    return State(model, {name: torch.zeros_like(p) for name, p in model.named_parameters()}, 0)


def ours(builder, data):
    state = state_of(builder)

    def steps(count):
        advance(state, data, Augmentation(shift=4, flip=True), TRAINING, 0, state.step + count)

    return steps


def update_of(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4, fused=True)

    def update(images, labels):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return update


def bare(builder, data):
    update = update_of(builder().to(memory_format=torch.channels_last))
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


def plain(builder, data):
    update = update_of(builder())

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
NETWORKS = {"ResNet-20": resnet20, "VGG-16": vgg16}


def serve(loop: str, network: str, threads: int, pipe) -> None:
    """Run the loop for as many iterations as `pipe` asks, and answer with the seconds of one."""
    if loop == "plain":
        torch.set_num_threads(threads)
    else:
        prepare(Compute(device="cpu", threads=threads, precision="float32"))
    steps = LOOPS[loop](NETWORKS[network], random_data())
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
