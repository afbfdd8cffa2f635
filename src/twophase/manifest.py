"""Stage `manifest`: what each figure of a study is made from, as digests."""

import json
from pathlib import Path

from twophase.artifacts import sha256, whole_file
from twophase.figures import FIGURES, files, tables
from twophase.fingerprint import code_digest
from twophase.study import Study


def write_manifest(study: Study, file: Path, folder: Path) -> None:
    """Write `manifest.json` into `folder`: the study file's digest and, for each figure, those of
    its files, of the tables it is drawn from and of the code that draws it (all SHA-256).

    The tables' names carry the fingerprints of the options and code that made them.
    """
    manifest = {
        "study": {str(file): sha256(file)},
        "figures": {
            figure: {
                "files": {str(folder / name): sha256(folder / name) for name in files(figure)},
                "tables": {str(path): sha256(path) for path in tables(study, figure).values()},
                "code": code_digest(f"figures.{figure}"),
            }
            for figure in FIGURES
        },
    }
    with whole_file(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")
