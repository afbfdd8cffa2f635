"""Contractions of a layer's inputs a and output gradients g (n, rows, width, P) to its share of the
kernel. Each adds to the lower block triangle of the kernel (n rows, n rows), or to the rectangle of
later examples by first ones, where these are those of the columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from twophase.entk.layers import unfolded, zeros_around
from twophase.entk.plan import Task, position_kernel_times


def add_gram(kernel: torch.Tensor, matrix: torch.Tensor, first: int = 0) -> None:
    """Add matrix @ matrix.T, in strips, up to the diagonal; with `first`, the product of the later
    rows with the `first` ones.
    """
    size = len(matrix)
    height = max(32, math.ceil((size - first) / 8))
    for top in range(first, size, height):
        bottom = min(top + height, size)
        end = first or bottom
        kernel[top - first : bottom - first, :end].addmm_(matrix[top:bottom], matrix[:end].T)


def mirror(kernel: torch.Tensor, height: int = 512) -> None:
    """Copy what lies below the diagonal to above it."""
    for top in range(0, len(kernel), height):
        bottom = min(top + height, len(kernel))
        kernel[:top, top:bottom] = kernel[top:bottom, :top].T
        square = kernel[top:bottom, top:bottom]
        square.copy_(square.tril() + square.tril(-1).T)


def _by_gradients(
    kernel: torch.Tensor, module: nn.Module, a: torch.Tensor, g: torch.Tensor, task: Task
) -> None:
    """Form the gradients of some output channels at a time, and multiply."""
    patches = unfolded(module, a).transpose(1, 2)
    n, rows, width, sites = g.shape
    inner = patches.shape[2]
    step = max(1, task.chunk // (n * rows * (inner + sites)))
    step = math.ceil(width / math.ceil(width / step))  # chunks of like size
    flat = g.permute(0, 3, 1, 2) if g.stride(2) == 1 else g  # as it lies in memory
    buffer = g.new_empty(n * rows * min(step, width) * inner)
    for start in range(0, width, step):
        if flat is g:
            some = g[:, :, start : start + step].reshape(n, -1, sites)
        else:
            some = flat[..., start : start + step].reshape(n, sites, -1).transpose(1, 2)
        gradients = buffer[: n * some.shape[1] * inner].view(n, -1, inner)
        torch.bmm(some, patches, out=gradients)
        add_gram(kernel, gradients.view(n * rows, -1), task.first * rows)


def _by_pairs(
    kernel: torch.Tensor, module: nn.Module, a: torch.Tensor, g: torch.Tensor, task: Task
) -> None:
    """Apply the position kernel of examples (j, i) to g_j, then multiply with g_i."""
    n, rows, width, sites = g.shape
    position_kernel = _position_kernel(module, a, sites)
    step = max(1, task.cache // g[0].numel())
    applied = g.new_empty(min(step, n), rows * width, sites)
    flat = g.view(n, rows * width, sites)
    for i in range(task.first, n):
        end, at = task.first or i + 1, i - task.first
        weights = position_kernel(i, end)
        for start in range(0, end, step):
            stop = min(start + step, end)
            out = applied[: stop - start]
            torch.bmm(flat[start:stop], weights[start:stop], out=out)
            kernel[at * rows : (at + 1) * rows, start * rows : stop * rows].addmm_(
                g[i].view(rows, -1), out.view((stop - start) * rows, -1).T
            )


def _position_kernel(
    module: nn.Module, a: torch.Tensor, sites: int
) -> Callable[[int, int], torch.Tensor]:
    """Function of i and end: <a_js', a_is> for all examples j < end, (end, P, P)."""
    by_patches, by_pixels = position_kernel_times(module, a.shape[1:], sites)
    if by_patches <= by_pixels:
        patches = unfolded(module, a).transpose(1, 2).contiguous()
        return lambda i, end: (patches[:end].flatten(0, 1) @ patches[i].T).view(-1, sites, sites)

    # <a_js', a_is> is a sum over the taps of products of single pixels, one axis after another.
    pixels = a.flatten(2).transpose(1, 2).contiguous()
    padding, axes = zeros_around(module) * 2, len(module.kernel_size)

    def summed(products: torch.Tensor, axis: int) -> torch.Tensor:
        length = products.shape[axis + 1]
        stride, dilation = module.stride[axis], module.dilation[axis]
        taps = module.kernel_size[axis]
        last = length - dilation * (taps - 1)
        parts = []
        for tap in range(taps):
            window = [slice(None)] * (1 + 2 * axes)
            window[axis + 1] = window[axis + 1 + axes] = slice(
                tap * dilation, tap * dilation + last, stride
            )
            parts.append(products[tuple(window)])
        total = parts[0].clone(memory_format=torch.contiguous_format)
        for part in parts[1:]:
            total += part
        return total

    def kernels(i: int, end: int) -> torch.Tensor:
        products = pixels[:end].flatten(0, 1) @ pixels[i].T
        products = products.view(end, *a.shape[2:], *a.shape[2:])
        products = F.pad(products, padding)
        for axis in reversed(range(axes)):
            products = summed(products, axis)
        return products.view(end, sites, sites)

    return kernels


def _by_positions(
    kernel: torch.Tensor, module: nn.Module, a: torch.Tensor, g: torch.Tensor, task: Task
) -> None:
    """One product of g rows for each pair of positions, weighted by the positions' kernel."""
    n, rows, width, sites = g.shape
    patches = unfolded(module, a).transpose(1, 2).reshape(n * sites, -1)
    g = g.permute(3, 0, 1, 2).reshape(sites, n * rows, width)
    step = max(1, task.chunk // (n * (2 * rows**2 + sites**2)))
    for start in range(task.first, n, step):
        stop = min(start + step, n)
        end, at = task.first or stop, start - task.first
        weights = patches[start * sites : stop * sites] @ patches[: end * sites].T
        weights = weights.view(stop - start, 1, sites, end, 1, sites)
        strip = kernel[at * rows : (at + stop - start) * rows, : end * rows]
        strip = strip.view(stop - start, rows, end, rows)
        for s in range(sites):
            for t in range(sites):
                products = g[s, start * rows : stop * rows] @ g[t, : end * rows].T
                strip.addcmul_(products.view(strip.shape), weights[:, :, s, :, :, t])


ORDERS = {"gradients": _by_gradients, "pairs": _by_pairs, "positions": _by_positions}
