"""How two runs part, step by step, and what their networks do differently on a fixed batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

# The calls whose branch depends on the sign or the order of their inputs.
GATES = {F.relu, torch.relu, torch.Tensor.relu, torch.relu_, F.leaky_relu, F.relu6}
POOLS = {F.max_pool2d, F.max_pool1d, F.max_pool3d, torch.max_pool2d}


class _Branches(TorchFunctionMode):
    """Collects, for each gate whether it is open, for each pooling window where its winner is."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[torch.Tensor] = []
        self.winners: list[torch.Tensor] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        kwargs = kwargs or {}
        if function in GATES:
            self.gates.append((args[0] if args else kwargs["input"]) > 0)
        elif function in POOLS:
            dimensions = 2 if function is torch.max_pool2d else int(function.__name__[-2])
            pool = getattr(F, f"max_pool{dimensions}d")
            options = {k: v for k, v in kwargs.items() if k != "return_indices"}
            self.winners.append(pool(*args[:6], **options, return_indices=True)[1])
        return function(*args, **kwargs)


@torch.no_grad()
def branches(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple]:
    """Logits (n, classes) of images (n, C, H, W) in eval mode; which ReLU gates are open (gates,);
    and the winners of max pooling (windows,) as places in their maps.

    >>> model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    >>> branches(model, torch.tensor([[[[-1.0, 2.0], [3.0, -4.0]]]]))
    (tensor([[3.]]), tensor([False,  True,  True, False]), tensor([2]))
    """
    model.eval()
    with _Branches() as seen:
        out = model(images)

    def flat(parts: list[torch.Tensor], kind: torch.dtype) -> torch.Tensor:
        return torch.cat([p.flatten() for p in parts]) if parts else torch.empty(0, dtype=kind)

    return out, flat(seen.gates, torch.bool), flat(seen.winners, torch.int64)


def steps_to(distances: list[float], threshold: float) -> float:
    """The first step at which the distance reaches `threshold`; infinite if none does, and not a
    number if one before is none.

    >>> steps_to([0.001, 0.02, 0.3], 0.1), steps_to([0.001], 0.1)
    (2.0, inf)
    """
    for step, distance in enumerate(distances):
        if not distance < threshold:
            return math.nan if math.isnan(distance) else float(step)
    return math.inf


def finite_size_rate(distances: list[float], low: float, high: float) -> float:
    """Growth rate, per step, between two finite distances: log(high / low) over the steps from the
    first that reaches `low` to the first that reaches `high` (Aurell et al. 1997). Not a number if
    `high` is not reached, or both in one step.

    >>> finite_size_rate([1.0, 2.0, 4.0, 8.0], low=1.0, high=8.0) == math.log(2)
    True
    """
    steps = steps_to(distances, high) - steps_to(distances, low)
    return math.log(high / low) / steps if 0 < steps < math.inf else math.nan


def flip_free_factor(distances: list[float], flips: list[int]) -> float:
    """Geometric mean of the factors by which the distance grows in steps before and after which
    the two networks open the same gates and have the same winners. Not a number if there is none.

    >>> flip_free_factor([1.0, 2.0, 4.0, 100.0], flips=[0, 0, 0, 5])
    2.0
    """
    logs = [
        math.log(after / before)
        for before, after, one, other in zip(
            distances, distances[1:], flips, flips[1:], strict=False
        )
        if one == other == 0 and before > 0 and after > 0
    ]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan
