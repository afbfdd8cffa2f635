"""The archive: all that a stranger needs to read the write-up and to make it again."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

import yaml

from twophase.errors import RunError
from twophase.store.artifacts import whole_file
from twophase.writeup import page, pdf

FOLDER = Path("dist")
MADE_FROM = ("Snakefile", "src", "workflow", "paper", "envs")  # what a new file in them may change
DAY = (1980, 1, 1, 0, 0, 0)  # of all files, so that the same content has the same bytes


def archive() -> Path:
    """Write `dist/twophase-<commit>.zip`: the code of the last commit with lock and published
    tables, the write-up as page, PDF and notebook, `SHA256SUMS` of all of these, and
    `.zenodo.json`, the metadata for a DOI. Returns its path.

    Raises `RunError` outside of a git checkout, or if the write-up is not that of this commit: a
    file that it is made from is not there, be it new, changed, or one that git ignores.
    """
    commit = _git("rev-parse", "HEAD").decode().strip()
    committed = _committed()
    if odd := _not_there(committed):
        raise RunError(f"{odd}: is not committed; commit it first")
    if not (page.current() and pdf.current()):
        raise RunError(
            f"{page.PAGE}: is missing or of other tables or code, or {pdf.PDF} is; run `snakemake "
            f"--cores all {pdf.PDF}` first"
        )
    made = (page.PAGE, page.NOTEBOOK, pdf.PDF)
    files = committed | {str(path): path.read_bytes() for path in made}
    files[".zenodo.json"] = (json.dumps(_metadata(files, commit), indent=2) + "\n").encode()
    sums = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}" for name in sorted(files)]
    files["SHA256SUMS"] = ("\n".join(sums) + "\n").encode()
    name = f"twophase-{commit[:8]}"
    path = FOLDER / f"{name}.zip"
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        for file in sorted(files):
            info = zipfile.ZipInfo(f"{name}/{file}", DAY)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            packed.writestr(info, files[file])
    return path


def _not_there(committed: dict[str, bytes]) -> str | None:
    """A file of the checkout that is not as in the commit, if there is one."""
    changed = (
        _git("status", "--porcelain", "--untracked-files=no", "--no-renames", "-z")
        .decode()
        .split("\0")
    )
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *MADE_FROM).decode()
    read = [str(path) for path in page.read_from()]
    lost = [file for file in read if committed.get(file) != Path(file).read_bytes()]
    return next(
        iter([c[3:] for c in changed if c] + [n for n in new.split("\0") if n] + lost), None
    )


def _committed() -> dict[str, bytes]:
    """The files of the last commit."""
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", "HEAD"))) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def _metadata(files: dict[str, bytes], commit: str) -> dict:
    """What Zenodo asks for, from CITATION.cff."""
    cited = yaml.safe_load(files["CITATION.cff"])
    paper = next(each for each in cited["references"] if "arXiv" in each["notes"])
    related = [{"identifier": paper["notes"], "relation": "cites", "scheme": "arxiv"}]
    if address := cited.get("repository-code"):
        related.append({"identifier": address, "relation": "isSupplementTo", "scheme": "url"})
    return {
        "upload_type": "software",
        "title": cited["title"],
        "version": f"{cited['version']} ({commit[:8]})",
        "publication_date": _git("show", "--no-patch", "--format=%cs", commit).decode().strip(),
        "license": cited["license"],
        "access_right": "open",
        "keywords": cited["keywords"],
        "creators": [
            {"name": each.get("name") or f"{each['family-names']}, {each['given-names']}"}
            for each in cited["authors"]
        ],
        "description": f"{cited['abstract']} Replicated is: {paper['title']} ({paper['notes']}).",
        "notes": cited["message"],
        "related_identifiers": related,
    }


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise RunError(f"{Path.cwd()}: is not a git checkout, which the archive is of") from None
