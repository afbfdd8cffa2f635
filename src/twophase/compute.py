"""The machine's settings that numbers depend on: device, threads, precision, determinism."""

import contextlib
import ctypes
import os

from twophase.errors import RunError
from twophase.sections import Compute

# cuBLAS reads this once, when CUDA starts; without it its sums may change order, and with another
# value it may choose other algorithms.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

import torch  # noqa: E402


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
