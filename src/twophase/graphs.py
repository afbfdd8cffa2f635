"""A computation as a CUDA graph: its hundreds of small kernels are launched as one.

A step of ResNet-20 is shorter on a GPU than the time that Python takes to launch its kernels one
by one. The graph holds the same kernels, in the same order, so the bits are the same
(`benchmarks/gpu.py` compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

Computation = Callable[[torch.Tensor], Sequence[torch.Tensor | None]]


def captured(
    function: Computation, example: torch.Tensor, changed: Iterable[torch.Tensor]
) -> Computation:
    """`function` of one tensor like `example`, on CUDA, as a graph that is replayed.

    All that `function` reads beside its argument must stay in its place in memory, and what it
    returns is overwritten by the next call. `changed` are the tensors that it changes: they and
    PyTorch's generators are left as they were. Random numbers that it draws come from the
    generator's state at each call.
    """
    given = example.clone()
    changed = list(changed)
    before = [tensor.clone() for tensor in changed]
    graph = torch.cuda.CUDAGraph()
    aside = torch.cuda.Stream()
    with torch.random.fork_rng([torch.cuda.current_device()]):
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            function(given)  # once before, for the libraries' handles and work space
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(graph):
            found = function(given)
    with torch.no_grad():
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)

    def replay(argument: torch.Tensor) -> Sequence[torch.Tensor | None]:
        given.copy_(argument)
        graph.replay()
        return found

    return replay
