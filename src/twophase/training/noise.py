"""The random numbers that a network draws in training: SGD noise, a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

DRAWN = 6  # first number of the counters that seed them; see batches.py for the others


class OtherNoise(NamedTuple):
    """SGD noise that is not a run's own: the seed of crops, flips and dropout, and which training
    examples (batch_size,) a step sees, from step, number of examples, batch_size and drop_last.
    """

    seed: int
    examples: Callable[[int, int, int, bool], np.ndarray]


@contextmanager
def network_noise(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Within the block PyTorch's generators give the numbers of step `step`, whatever was drawn
    before; afterwards they are as they were.

    So base run and forks have the same dropout, as they see the same batches, and a run that is
    resumed needs no generator's state. A CPU and a GPU draw different numbers.
    """
    number = int(np.random.SeedSequence((DRAWN, seed, step)).generate_state(1, np.uint64)[0])
    cuda = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(number)
        if cuda:
            torch.cuda.manual_seed(number)
        yield
