"""All figures of a study, and the list of what each is made from, as digests.

The list of jobs reads this to see whether they are current: what draws is imported late.
"""

import hashlib
import json
from pathlib import Path

from twophase import figures
from twophase.store.code import code_digest
from twophase.store.paths import digest
from twophase.study.model import Study


def draw_all(study: Study, file: Path, folder: Path) -> None:
    """Draw the figures that are not current into `folder`, and list them all."""
    from twophase.figures.drawing import draw

    for figure in figures.asked(study):
        if not figures.current(folder, figure, figures.made_by(study, figure)):
            draw(study, figure, folder)
    manifest(study, file, folder)


def manifest(study: Study, file: Path, folder: Path) -> None:
    """Write `manifest.json` into `folder`: the study file's digest and, for each figure, those of
    its files, of the tables it is drawn from and of the code that draws it (all SHA-256).

    The tables' names carry the fingerprints of the options and code that made them.
    """
    from twophase.store.artifacts import sha256, whole_file

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
                "code": figures.code_of(figure, study),
            }
            for figure in figures.asked(study)
        },
    }
    with whole_file(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def made_by(study: Study, file: Path) -> str:
    """What the manifest is made by: the study file and what all the figures are made by."""
    makers = {figure: figures.made_by(study, figure) for figure in figures.asked(study)}
    said = hashlib.sha256(file.read_bytes()).hexdigest()
    return digest([said, makers, code_digest("figures.manifest")])


def current(study: Study, file: Path, folder: Path) -> bool:
    """Whether the manifest in `folder` is that of the study and the code as they are now."""
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("made_by") == made_by(study, file)
