"""What makes the results of this process beside options and code: packages and machine."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

from twophase.store.paths import Identity

PACKAGES = ("torch", "numpy", "pandas", "matplotlib")

# It stands in every file that this process writes. The command line fills it in.
ORIGIN: Identity = {}

# Sums round differently with other vector instructions. Processors of one name may have others
# (some "AMD EPYC" have AVX-512), and these variables let a library use fewer than there are.
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "sve": "SVE"}
FEWER = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")

# What of it does not change the bits of training.
WITHOUT_EFFECT = {"matplotlib", "pandas"}


def origin(compute: Identity) -> Identity:
    """Packages, kind of machine, and `compute`, the study's computing options where they matter.

    No host and no time: the same on every machine of a kind.
    """
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "machine": _machine(compute),
        "vector_instructions": _vector_instructions(),
        **compute,
    }


def _machine(compute: Identity) -> str:
    processor = platform.machine()
    if name := re.search(r"^model name\s*: (.*)$", _cpuinfo(), re.M):
        processor += f", {name[1]}"
    torch = sys.modules.get("torch")
    if compute.get("device") == "cuda" and torch and torch.cuda.is_available():
        cudnn = torch.backends.cudnn.version()
        processor += f", {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    return f"{platform.system()} {processor}"


def _vector_instructions() -> str:
    # The widest vector instructions, and what keeps libraries from using them.
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", _cpuinfo(), re.M)
    widest = [name for flag, name in VECTORS.items() if flags and flag in flags[1].split()][:1]
    fewer = [f"{variable}={os.environ[variable]}" for variable in FEWER if variable in os.environ]
    return ", ".join(widest + fewer) or "?"


def _cpuinfo() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.exists() else ""
