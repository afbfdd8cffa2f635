"""The butterfly effect: a base run, a fork of it that differs by 1e-7 and sees the same batches.

In a checkout: python examples/butterfly.py
"""

import copy

import torch

from twophase.datasets import digits
from twophase.entk import entk
from twophase.measures.barrier import barrier, path_losses
from twophase.measures.kernel import gram, kernel_distances
from twophase.study import studyfile
from twophase.study.run import Run
from twophase.training.batches import Data, Split
from twophase.training.loop import advance, initial_state
from twophase.training.perturbation import perturb

torch.set_num_threads(1)  # more of them would round otherwise: a perturbation, too
study = studyfile.load("workflow/config/digits.yaml")
run = Run(study, "vgg", seed=0)  # one model of the study, with all its options
read = digits.read(study.data.images)
train, test = (Split(read[f"{name}_images"], read[f"{name}_labels"]) for name in ("train", "test"))
pixels = train.images.float()
data = Data(train, test, classes=10, mean=pixels.mean()[None], std=pixels.std()[None])


def apart(t0: int, t1: int) -> tuple[float, float]:
    """Barrier and kernel distance at iteration t1 between a base run and its fork from t0."""
    base = initial_state(run.model, data, run.seed)
    advance(base, run, data, stop=t0)  # a batch is a function of the seed and the step
    fork = copy.deepcopy(base)
    perturb(fork.model, run.model.chaos.perturbation, run.seed, direction="1")
    one, other = base.model, fork.model
    for state in (base, fork):
        advance(state, run, data, stop=t1)
    alphas, between = [step / 10 for step in range(11)], copy.deepcopy(one)
    sets = {"test": (data.normalised(test.images), test.labels)}
    losses = path_losses(between, one, other, alphas, sets)["test"]
    kernels = [entk(model, data.normalised(train.images[:20])) for model in (one, other)]
    distances = kernel_distances(gram(lambda index: kernels[index], count=2))
    return barrier(alphas, losses), float(distances[0, 1])


if __name__ == "__main__":
    for t0 in (0, 300):
        height, distance = apart(t0, t1=500)
        print(f"perturbed at {t0}: barrier {height:.3f} nats, kernel distance {distance:.3f}")
