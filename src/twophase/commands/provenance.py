"""Command `provenance`: where a result or figure comes from, and whether it is current."""

from __future__ import annotations

import json
import re
from pathlib import Path

from twophase import figures
from twophase.errors import ArtifactError, StudyError
from twophase.store.artifacts import read_header, said_by, sha256
from twophase.store.paths import MEASUREMENTS
from twophase.store.why import differences, told
from twophase.study import stages, studyfile
from twophase.study.model import Study


def describe(file: Path) -> str:
    """Identity, maker and origin of a result or figure, one item a line, and whether it is current.

    Raises `ArtifactError` if the file is no result, or damaged.
    """
    if file.suffix in (".parquet", ".safetensors"):
        header = read_header(file)
        items = header["identity"] | header.get("maker", {}) | header.get("origin", {})
        if adopted := header.get("adopted"):
            share = f"{adopted['sample']:g} of its stage's work was done again, bit for bit"
            items["adopted"] = f"made by code {adopted['made_by_code']}; {share}"
    else:
        items = read_note(file)
    lines = [f"{key}: {value}" for key, value in items.items()]
    return "\n".join([*lines, f"current: {_current(file)}"])


def read_note(file: Path) -> dict:
    """What a figure or `findings.md` says of itself."""
    if not file.exists():
        raise ArtifactError(f"{file}: is missing")
    if file.suffix not in (".pdf", ".png", ".md"):
        raise ArtifactError(f"{file}: is no result or figure")
    found = re.search(rb"made by ([0-9a-f]{8}) on (\{[^{}]*\})", file.read_bytes())
    try:
        # A PDF escapes parentheses and backslashes.
        text = re.sub(rb"\\([()\\])", rb"\1", found[2]).decode("utf-8", "replace")
        return {"made by": found[1].decode(), **json.loads(text)}
    except (TypeError, ValueError):  # there is none, or it was changed
        why = "does not say what made it; delete it and draw it again"
        raise ArtifactError(f"{file}: {why}") from None


def _current(file: Path) -> str:
    """Yes, or why not, by the study's file and the code as they are now."""
    if file.resolve().is_relative_to(MEASUREMENTS.parent.resolve()):
        return f"published: provenance.json in {MEASUREMENTS}/<study> tells what it is made from"
    name = next((part for part in reversed(file.parts[:-1]) if _study_file(part).exists()), None)
    if name is None:
        return f"unknown: no folder of its path names a study in {_study_file('').parent}"
    try:
        study = studyfile.load(_study_file(name))
    except StudyError as error:
        return f"unknown: {error}"
    every = stages.every(study)
    if file.resolve() in {result.path.resolve() for result in every}:
        return "yes"
    for figure in figures.asked(study):
        if file.name in figures.files(figure):
            asked = figures.made_by(study, figure).removeprefix("made by ")
            if read_note(file)["made by"] == asked:
                return "yes"
            return f"no: {_why_figure(study, figure, file) or 'made by other options or code'}"
    header = said_by(file)
    # Several perturbations leave files of one identity: it is that which it is most like.
    like = [result for result in every if result.identity == header.get("identity")]
    if found := [differences(header, result.maker, result.path) for result in like]:
        return f"no: {told(min(found, key=len))}"
    return "no: the study asks for no such result"


def _why_figure(study: Study, figure: str, file: Path) -> str:
    """What of a figure's tables or code differs from the time when it was drawn, as far as the
    manifest beside it tells.
    """
    try:
        manifest = (file.parent / "manifest.json").read_text(encoding="utf-8")
        drawn = json.loads(manifest)["figures"][figure]
        if drawn["files"][str(Path("figures") / study.name / file.name)] != sha256(file):
            return ""
        tables, code = drawn["tables"], drawn["code"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    found = []
    for table in figures.tables(study, figure).values():
        name = str(table.path).replace(f"-{table.maker.fingerprint}", "-????????")
        for old in (each for each in tables if Path(each).match(name)):
            if old != str(table.path) and (header := said_by(Path(old))):
                found += differences(header, table.maker, table.path)
    if code != figures.code_of(figure, study):
        found.append("code that draws it")
    return told(list(dict.fromkeys(found)))


def _study_file(name: str) -> Path:
    return Path("workflow/config") / f"{name}.yaml"
