"""Another order of batches from t0 on."""

from functools import partial

import numpy as np

from twophase.study.perturbations import Order
from twophase.training.batches import batch_indices, steps_per_epoch
from twophase.training.noise import OtherNoise
from twophase.training.perturbation import At


def noise(perturbation: Order, at: At) -> OtherNoise:
    """SGD noise of another seed, with the order of `examples_of`."""
    other = at.other_seed()
    return OtherNoise(other, partial(examples_of, at.seed, other, at.step))


def examples_of(
    seed: int, other: int, t0: int, step: int, examples: int, batch_size: int, drop_last: bool
) -> np.ndarray:
    """Which training examples (batch_size,) step `step` sees, from `t0` on.

    In the epoch of t0 they are those that a run with `seed` sees from t0 on, in an order drawn
    from `other`: nothing comes twice in an epoch, nothing is missed that the run sees. The epochs
    after it are permutations drawn from `other`.
    """
    steps = steps_per_epoch(examples, batch_size, drop_last)
    if step // steps > t0 // steps:
        return batch_indices(other, step, examples, batch_size, drop_last)
    end = (t0 // steps + 1) * steps
    left = [batch_indices(seed, t, examples, batch_size, drop_last) for t in range(t0, end)]
    left = np.concatenate(left)
    mixed = left[np.random.default_rng((other, t0)).permutation(len(left))]
    return mixed[(step - t0) * batch_size :][:batch_size]
