"""Batch norm's running statistics, measured anew on given images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from twophase.errors import RunError
from twophase.training.evaluation import CHUNK
from twophase.training.tensors import bits, others

FEW = 16  # images that show what a network moves

# The calls that compute batch norm, and the order of what they take.
AFTER = ("training", "momentum", "eps", "cudnn_enabled")
ORDERS = {
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", *AFTER[:3]),
    torch.batch_norm: ("input", "weight", "bias", "running_mean", "running_var", *AFTER),
}
Statistics = dict[int, tuple[torch.Tensor, torch.Tensor]]  # mean and variance, by the mean's id


class _BatchNorms(TorchFunctionMode):
    """Gives what each batch norm within the block is called with to `change`, before it is."""

    def __init__(self, change: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.change = change

    def __torch_function__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func not in ORDERS:
            return func(*args, **(kwargs or {}))
        call = dict(zip(ORDERS[func], args, strict=False)) | (kwargs or {})
        self.change(call)
        return func(**call)


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, images: torch.Tensor) -> None:
    """Set batch norm's running statistics to the means, over chunks of `images` of one size, of
    the chunks' means and variances, whatever class computes it; all else is as in evaluation.

    Only statistics that the network itself moves in training are set: not those of a layer that it
    keeps in eval mode, or whose momentum is 0. Raises `RunError` if training moves statistics of
    the images that no batch norm of PyTorch keeps.

    >>> norm = torch.nn.BatchNorm2d(1)
    >>> recalibrate_batch_norm(norm, torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    >>> norm.running_mean, norm.running_var
    (tensor([2.]), tensor([2.]))
    """
    moving = _moving(model, images[:FEW])
    for mean, variance in moving.values():
        mean.zero_()
        variance.fill_(1)
    calls: Counter = Counter()

    def measure(call: dict[str, Any]) -> None:
        place = id(call.get("running_mean"))
        if place in moving:
            calls[place] += 1  # a plain mean over all chunks
            call |= {"training": True, "momentum": 1 / calls[place]}

    with _BatchNorms(measure):
        for chunk in images.tensor_split(math.ceil(len(images) / CHUNK)):
            model(chunk)


def _moving(model: nn.Module, images: torch.Tensor) -> Statistics:
    """The statistics that `model` moves in training, which is left in eval mode: those that are
    others after other images.
    """
    used: Statistics = {}

    def note(call: dict[str, Any]) -> None:
        if call.get("training") and call.get("running_mean") is not None:
            used[id(call["running_mean"])] = call["running_mean"], call["running_var"]

    buffers = dict(model.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    after = []
    model.train()
    for some in (images, others(images)):
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices), _BatchNorms(note):
            torch.manual_seed(0)
            model(some)
        after.append({id(buffer): buffer.clone() for buffer in buffers.values()})
        for name, buffer in buffers.items():
            buffer.copy_(before[name])
    model.eval()
    one, other = after
    moved = {place for place in one if not torch.equal(bits(one[place]), bits(other[place]))}
    known = {id(statistic) for pair in used.values() for statistic in pair}
    for name, buffer in buffers.items():
        if id(buffer) in moved - known:
            raise RunError(
                f"chaos.barrier_batch_norm = 'recalibrate': {name} holds statistics of the images, "
                "but is of no batch norm of PyTorch (functional.batch_norm), so it cannot be "
                "measured again; choose 'interpolate', and leave out matching"
            )
    return {place: pair for place, pair in used.items() if moved & {id(each) for each in pair}}
