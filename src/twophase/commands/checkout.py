"""The checkout that results come from: its commit, what differs from it, and when a run began.

The record of a base run's beginning lies beside its results and in no table, whose bytes must not
depend on it. With it a reader can see that rules were registered before the run was there.
"""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from twophase.store.artifacts import sha256, whole_file
from twophase.store.own_code import imported_files
from twophase.store.paths import run_folder
from twophase.study import stages
from twophase.study.base import base_state
from twophase.study.functions import place
from twophase.study.model import Study
from twophase.study.run import Run
from twophase.study.stage import unfinished

RULES = (Path("paper/claims.yaml"), Path("paper/registration"))
CODE = Path(__file__).parents[1]
RECORD = "record.json"  # the name under which a record is published, beside its run's tables
NO_HISTORY = "no history of commits is here in which the order could be seen"


def git(*arguments: str, folder: Path = Path()) -> str | None:
    """What git says in a folder, without the last line break; None if it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError):
        return None
    return done.stdout.rstrip("\n")


def own_files(study: Study) -> list[Path]:
    """The files of the study's own networks and images, without which it cannot be read."""
    own = [study.data.images, *(model.network for model in study.models.values())]
    files = (getattr(each, "file", None) for each in own)
    return [path for file in files if file for path in imported_files(place(file, ""))]


def changed(study: Study, file: Path) -> list[str]:
    """The files that the commit has not, or has with other content, of those that say what comes
    out: the code, the study's file and its own files, the claims and their registration.
    """
    paths = [CODE, *(p.absolute() for p in (file, *own_files(study), *RULES))]
    top = git("rev-parse", "--show-toplevel", folder=CODE)
    if top is None:
        return []
    # What git is told to ignore is not in the commit either.
    asked = ["status", "--porcelain", "--untracked-files=all", "--ignored", "-z", "--no-renames"]
    inside = [str(path) for path in paths if path.resolve().is_relative_to(Path(top).resolve())]
    said = git(*asked, "--", *inside, folder=CODE) or ""
    names = [line[3:] for line in said.split("\0") if line and "__pycache__" not in line]
    outside = [str(path) for path in paths[1:] if str(path) not in inside and path.exists()]
    return sorted(names + outside)


def commit() -> str | None:
    """The commit of the checkout that this code runs from; None if it is none."""
    return git("rev-parse", "HEAD", folder=CODE)


def record_file(run: Run) -> Path:
    """Where the record of a base run lies: by its options alone, so that results which were adopted
    from older code keep theirs; models of a sweep that share a base run share it.
    """
    options = base_state(run, 0).maker.options[:8]
    return run_folder(run.shared) / f"record.{options}.json"


def begin(run: Run, file: Path) -> None:
    """Write the record of a base run: commit, what differs from it, the study's digest, the time.

    It is never written again, nor if the run has begun already: then there is none, for it is not
    known when it began.
    """
    record, first = record_file(run), base_state(run, 0)
    begun = (first.path, unfinished(first).path, stages.run_table(run, "training").path)
    if record.exists() or any(path.exists() for path in begun):
        return
    said = {
        "commit": commit(),
        "changed": changed(run.study, file),
        "study": sha256(file),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with whole_file(record) as temporary:
        temporary.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def reachable(commit: str, folder: Path) -> str:
    """Why a commit is not in the history that leads to the checkout in `folder`; "" if it is."""
    if git("rev-parse", "HEAD", folder=folder) is None:
        return NO_HISTORY
    if git("merge-base", "--is-ancestor", commit, "HEAD", folder=folder) is not None:
        return ""
    if git("rev-parse", "--is-shallow-repository", folder=folder) == "true":
        return NO_HISTORY
    return "began at a commit that is not in this history"
