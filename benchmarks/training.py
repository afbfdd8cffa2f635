"""How fast is training? Our loop beside the bare arithmetic, and beside a plain DataLoader loop.

    python benchmarks/training.py [--steps 20] [--threads 1]

Three loops train the same network on random images of CIFAR-10's size, batch 128, on the CPU, in
turns:

- bare: forward, backward and update on one batch that lies ready in memory;
- ours: `twophase.train.advance`, batches made from (seed, step);
- plain: torchvision's transforms, a DataLoader with two worker processes, `torch.optim.SGD`.

Printed are the medians of seconds an iteration, and ours against both.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as transforms

from twophase.data import Data, Split
from twophase.models import resnet20, vgg16
from twophase.study import Augmentation, Training
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="iterations of each turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = random_data()
    print("| network | bare s | ours s | plain s | bare / ours | plain / ours |")
    print("|---|---|---|---|---|---|")
    for name, builder in (("ResNet-20", resnet20), ("VGG-16", vgg16)):
        loops = {loop.__name__: loop(builder, data) for loop in (bare, ours, plain)}
        times = {loop: [] for loop in loops}
        for turn in range(arguments.turns + 1):
            for loop, steps in loops.items():
                started = time.perf_counter()
                steps(arguments.steps)
                if turn:  # the first turn warms up
                    times[loop].append((time.perf_counter() - started) / arguments.steps)
        median = {loop: statistics.median(seconds) for loop, seconds in times.items()}
        against_bare = statistics.median(
            b / o for b, o in zip(times["bare"], times["ours"], strict=True)
        )
        against_plain = statistics.median(
            p / o for p, o in zip(times["plain"], times["ours"], strict=True)
        )
        print(
            f"| {name} | {median['bare']:.3f} | {median['ours']:.3f} | {median['plain']:.3f} "
            f"| {against_bare:.2f} | {against_plain:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
