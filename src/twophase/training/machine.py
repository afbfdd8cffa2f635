"""The machine: device, threads, precision, determinism, and computations as CUDA graphs."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterable, Sequence

from twophase.errors import RunError
from twophase.study.compute import Compute

# cuBLAS reads this once, when CUDA starts; without it its sums may change order, and with another
# value it may choose other algorithms.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

import torch  # noqa: E402

Computation = Callable[[torch.Tensor], Sequence[torch.Tensor | None]]


def prepare(compute: Compute) -> torch.device:
    """Make PyTorch deterministic as the study says, and return the device to compute on.

    The number of threads is the study's, never the machine's: sums over another number of
    threads round differently, and training amplifies that. Raises `RunError` if the study
    asks for CUDA and it does not work.
    """
    torch.set_num_threads(compute.threads)
    _keep_freed_memory()
    # The same as `use_deterministic_algorithms(True)`, which also loads the compiler: 1.4 s a job.
    torch.set_deterministic_debug_mode("error")
    # Deterministic mode would also fill every new tensor; nothing here reads one unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    tf32 = compute.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if compute.device == "cuda":
        try:
            torch.ones(1, device="cuda") + 1
        except (RuntimeError, AssertionError) as error:  # no device, driver, or code for it
            reason = str(error).partition("\n")[0]
            raise RunError(f"compute.device = 'cuda': {reason} (or choose 'cpu')") from None
    return torch.device(compute.device)


def _keep_freed_memory() -> None:
    """Ask glibc not to give freed memory back to the system.

    A step of SGD frees and asks for the same hundreds of megabytes as the step before; fetching
    them anew from the system, page by page, costs a tenth of a step of ResNet-20.
    """
    trim_threshold, mmap_max = -1, -4  # from glibc's malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(mmap_max, 0)


def captured(
    function: Computation, example: torch.Tensor, changed: Iterable[torch.Tensor]
) -> Computation:
    """`function` of one tensor like `example`, on CUDA, as a graph that is replayed.

    A step of ResNet-20 is shorter on a GPU than the time that Python takes to launch its hundreds
    of kernels one by one. The graph holds the same kernels, in the same order, so the bits are the
    same (`benchmarks/gpu.py` compares them).

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
