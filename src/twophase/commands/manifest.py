"""Command `manifest`: what each figure of a study is made from, as digests."""

import json
from pathlib import Path

from twophase import figures
from twophase.store.artifacts import sha256, whole_file
from twophase.store.fingerprint import code_digest
from twophase.store.paths import digest
from twophase.study.model import Study


def manifest(study: Study, file: Path, folder: Path) -> None:
    """Write `manifest.json` into `folder`: the study file's digest and, for each figure, those of
    its files, of the tables it is drawn from and of the code that draws it (all SHA-256).

    The tables' names carry the fingerprints of the options and code that made them.
    """
    content = {
        "made_by": made_by(study, file),
        "study": {str(file): sha256(file)},
        "figures": {
            figure: {
                "files": {str(folder / n): sha256(folder / n) for n in figures.files(figure)},
                "tables": {
                    str(table.path): sha256(table.path)
                    for table in figures.tables(study, figure).values()
                },
                "code": figures.code_of(figure),
            }
            for figure in figures.asked(study)
        },
    }
    with whole_file(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def made_by(study: Study, file: Path) -> str:
    """What the manifest is made by: the study file and what all the figures are made by."""
    makers = {figure: figures.made_by(study, figure) for figure in figures.asked(study)}
    return digest([sha256(file), makers, code_digest("commands.manifest")])


def current(study: Study, file: Path, folder: Path) -> bool:
    """Whether the manifest in `folder` is that of the study and the code as they are now."""
    try:
        found = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("made_by") == made_by(study, file)
