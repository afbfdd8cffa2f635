"""What makes the results of this process beside options and code: packages and machine."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

from twophase.store.paths import Identity

PACKAGES = ("torch", "numpy", "pandas", "matplotlib")

# It stands in every file that this process writes. The command line fills it in.
ORIGIN: Identity = {}

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
        **compute,
    }


def _machine(compute: Identity) -> str:
    processor = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.M) if cpuinfo.exists() else None
    )
    if found:
        processor += f", {found[1]}"
    torch = sys.modules.get("torch")
    if compute.get("device") == "cuda" and torch and torch.cuda.is_available():
        cudnn = torch.backends.cudnn.version()
        processor += f", {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    return f"{platform.system()} {processor}"
