"""Where passes leave the inputs, output gradients and parameters' gradients that they find."""

from __future__ import annotations

from typing import NamedTuple

import torch

from twophase.entk.layers import NORMS, groups_of
from twophase.entk.network import Misfit
from twophase.entk.plan import Share, Task, stacked
from twophase.entk.rules import Table


class Places(NamedTuple):
    """Room for what the passes find, for all n examples. Every pass fills in its examples."""

    columns: dict[str, slice]  # of the parameters whose gradients stand side by side
    formed: torch.Tensor  # these gradients, sums over uses: (n, C, columns), zeros at first
    alone: dict[str, torch.Tensor]  # gradients (n, C, numbers) that one product forms
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]]  # inputs and output gradients (n, C, O, P)

    def of(self, share: Share, part: slice, some: slice) -> torch.Tensor:
        """Gradients of a parameter for the examples of `part` and `some` logits."""
        return self.formed[part, some, self.columns[share.name]]

    def keep(
        self, share: Share, part: slice, a: torch.Tensor, stack: tuple[int, ...], order: str
    ) -> torch.Tensor:
        """Keep the inputs `a` of the examples of `part`; room for their output gradients.

        Raises `Misfit` if they are of other shapes than those of earlier examples.
        """
        if share.name not in self.kept:
            n = len(self.formed)
            made = a.new_empty(n, *a.shape[1:]), empty(order, self.formed, n, stack)
            for tensor in made:
                tensor[: part.start] = 0  # examples that did not come here
            self.kept[share.name] = made
        inputs, g = self.kept[share.name]
        if (a.shape[1:], stack) != (inputs.shape[1:], g.shape[1:]):
            raise Misfit([share.parameter])
        inputs[part] = a
        return g[part]

    def leave_out(self, names: set[str], part: slice) -> None:
        """Zeros for the examples of `part`, which came to none of these parameters."""
        for name in names:
            for tensor in (self.alone[name],) if name in self.alone else self.kept.get(name, ()):
                tensor[part] = 0


def places(task: Task, shares: list[Share], jacobians: set[str], like: torch.Tensor) -> Places:
    """Room for the gradients of `shares` that are formed, in an order of `jacobians` or here."""
    columns, end = {}, 0
    alone = {}
    for share in shares:
        if by_one_product(share):
            shape = share.operations[0].shape if share.operations else share.parameter.shape
            alone[share.name] = like.new_empty(task.n, task.backwards, shape.numel())
        elif share.order == "formed" or share.order in jacobians:
            columns[share.name] = slice(end, end + share.parameter.numel())
            end += share.parameter.numel()
    return Places(columns, like.new_zeros(task.n, task.backwards, end), alone, {})


def by_one_product(share: Share) -> bool:
    """Whether a parameter's gradients are formed by one product of matrices for each example."""
    if share.order != "formed":
        return False
    if share.operations:
        return stacked(share.operations) and share.operations[0].rule is not Table
    if len(share.uses) != 1:
        return False
    module, role = share.uses[0]
    return role == "weight" and not isinstance(module, NORMS) and groups_of(module) == 1


def empty(order: str, like: torch.Tensor, n: int, stack: tuple[int, ...]) -> torch.Tensor:
    """Room for output gradients (n, C, O, P), laid out for the order in which they are contracted:
    matrix products want a position's numbers side by side, `pairs` those of a row of the kernel.
    """
    if order == "pairs":
        return like.new_empty(n, *stack)
    rows, width, sites = stack
    return like.new_empty(n, sites, rows, width).permute(0, 2, 3, 1)
