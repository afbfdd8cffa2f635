"""Where a result comes from, and whether it is what the study asks for now."""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

from twophase import figures, paths, study
from twophase.artifacts import Identity, read_header
from twophase.errors import ArtifactError, StudyError
from twophase.fingerprint import code_digest
from twophase.publish import MEASUREMENTS

PACKAGES = ("torch", "numpy", "pandas", "matplotlib")


def origin(plan: study.Study, module: str) -> Identity:
    """What makes the results of this process: code, packages, kind of machine, computing options.

    No host and no time: the same on every machine of a kind. The canonical data file has no
    computing options, because they do not change it.
    """
    options = {} if module == "sources" else plan.compute.model_dump()
    return {
        "code": code_digest(module),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "machine": _machine(plan),
        **options,
    }


def _machine(plan: study.Study) -> str:
    processor = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.M) if cpuinfo.exists() else None
    )
    if found:
        processor += f", {found[1]}"
    torch = sys.modules.get("torch")
    if plan.compute.device == "cuda" and torch and torch.cuda.is_available():
        cudnn = torch.backends.cudnn.version()
        processor += f", {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    return f"{platform.system()} {processor}"


def describe(file: Path) -> str:
    """Identity and origin of a result or figure, one item a line, and whether it is current.

    Raises `ArtifactError` if the file is no result, or damaged.
    """
    if file.suffix in (".parquet", ".safetensors"):
        header = read_header(file)
        items = header["identity"] | header.get("origin", {})
    else:
        items = read_note(file)
    lines = [f"{key}: {value}" for key, value in items.items()]
    return "\n".join([*lines, f"current: {_current(file)}"])


def read_note(file: Path) -> dict:
    """What a figure or `findings.md` says of itself."""
    if not file.exists():
        raise ArtifactError(f"{file}: is missing")
    found = re.search(rb"made by ([0-9a-f]{8}) on (\{[^{}]*\})", file.read_bytes())
    if not found:
        raise ArtifactError(f"{file}: does not say what made it; delete it and draw it again")
    # A PDF escapes parentheses and backslashes.
    text = re.sub(rb"\\([()\\])", rb"\1", found[2]).decode("utf-8", "replace")
    return {"made by": found[1].decode(), **json.loads(text)}


def _current(file: Path) -> str:
    """Yes, or why not, by the study's file and the code as they are now."""
    if file.resolve().is_relative_to(MEASUREMENTS.parent.resolve()):
        return f"published: provenance.json in {MEASUREMENTS}/<study> tells what it is made from"
    name = next((part for part in reversed(file.parts[:-1]) if _study_file(part).exists()), None)
    if name is None:
        return f"unknown: no folder of its path names a study in {_study_file('').parent}"
    try:
        plan = study.load(_study_file(name))
    except StudyError as error:
        return f"unknown: {error}"
    if file.resolve() in {path.resolve() for path in paths.every(plan)}:
        return "yes"
    for product in figures.SUMMARIES:
        if file.name in figures.files(product):
            asked = figures.made_by(plan, product).removeprefix("made by ")
            return (
                "yes"
                if read_note(file)["made by"] == asked
                else "no: made by other options or code"
            )
    return "no: the study and the code ask for other files"


def _study_file(name: str) -> Path:
    return Path("workflow/config") / f"{name}.yaml"
