"""What a network must be before its first step, tried: drawn from the seed, and of its own."""

from __future__ import annotations

import sys

import torch
from torch import nn

from twophase.errors import RunError
from twophase.study.run import Run
from twophase.training import loop, switches
from twophase.training.batches import Data
from twophase.training.layer_calls import described
from twophase.training.loop import State
from twophase.training.tensors import bits, trained


def other_weights(run: Run, data: Data) -> None:
    """Raise `RunError` if another seed starts from the same weights: if all, or most that are not
    filled with one number, are the same, or the builder seeds PyTorch's generator itself. A note
    tells of a few.

    A study of one seed is told, too: others may be added, and are not tried again.
    """
    if getattr(run.model.network, "same_weights", False):
        return
    seeds = run.seed, run.seed + 1
    (one, by_itself), (other, too) = (_built(run, data, seed) for seed in seeds)
    theirs = trained(other)
    same = {n: p for n, p in trained(one).items() if torch.equal(bits(p), bits(theirs[n]))}
    fixed = {n: p for n, p in same.items() if bool((p != p.flatten()[0]).any())}
    count = sum(p.numel() for p in trained(one).values())
    drawn = count - sum(p.numel() for p in same.values())
    kept = sum(p.numel() for p in fixed.values())
    if drawn and not fixed:
        return
    layer, _, role = next(iter(fixed or same)).rpartition(".")
    where = f"{described(one, layer)}: {role} starts from the same numbers for each seed"
    if drawn and drawn >= kept and not (by_itself or too):
        print(f"{run.name}: {where}; {kept:,} of {count:,} such are no constants", file=sys.stderr)
        return
    why = "the builder sets PyTorch's seed" if by_itself or too else "they are not drawn from it"
    raise RunError(
        f"{where}, as {'all' if not drawn else f'{kept:,}'} of {count:,} do: {why}; draw weights "
        "from torch's generator, whose seed is set before, or say `network: {same_weights: true}`"
    )


def _built(run: Run, data: Data, seed: int) -> tuple[nn.Module, bool]:
    """The network of a seed, and whether its builder has set PyTorch's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = loop.build(run.model.network, data.channels, data.classes)
        return model, torch.initial_seed() != seed


def check_switches(before: list, model: nn.Module) -> None:
    """Raise `RunError` if the network turns switches of all of PyTorch as it runs."""
    if turned := switches.set_back(before):
        raise RunError(
            f"{described(model, '')}: sets {', '.join(turned)} in its forward pass; leave that to "
            "the study (`compute`)"
        )


def check_gradients_dense(model: nn.Module, images: torch.Tensor) -> None:
    """Raise `RunError` if a gradient is sparse; all other faults are told elsewhere."""
    parameters = trained(model)
    model.train()
    try:
        total = model(images).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    except Exception:  # a network is any code
        return
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and gradient.layout != torch.strided:
            layer, _, role = name.rpartition(".")
            raise RunError(
                f"{described(model, layer)}: the gradient of {role} is sparse, and no optimizer "
                "here takes that; give nn.Embedding or functional.embedding sparse=False"
            )


def check_apart(other: State, before: dict[str, torch.Tensor]) -> None:
    """Raise `RunError` if a network has changed since `before`, though only another was trained."""
    for name, tensor in other.tensors().items():
        if not torch.equal(bits(tensor), bits(before[name])):
            layer, _, role = name.partition(".")[2].rpartition(".")
            raise RunError(
                f"{described(other.model, layer)}: {role} changes when another network of the same "
                "builder is trained; make new tensors in each call"
            )
