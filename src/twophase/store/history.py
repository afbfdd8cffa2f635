"""The history of the checkout that this code runs from, as git tells it."""

from __future__ import annotations

import subprocess
from pathlib import Path

CODE = Path(__file__).parents[1]
NO_HISTORY = "no history of commits is here in which the order could be seen"


def git(*arguments: str, folder: Path = Path()) -> str | None:
    """What git says in a folder, without the last line break; None if it fails or is not there."""
    # Names of files may hold any bytes, and must not hide what else is said.
    said = {"encoding": "utf-8", "errors": "backslashreplace"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True, **said
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.rstrip("\n")


def commit() -> str | None:
    """The commit of the checkout that this code runs from; None if it is none."""
    return git("rev-parse", "HEAD", folder=CODE)


def reachable(commit: str, folder: Path) -> str:
    """Why a commit is not in the history that leads to the checkout in `folder`; "" if it is."""
    if git("rev-parse", "HEAD", folder=folder) is None:
        return NO_HISTORY
    if git("merge-base", "--is-ancestor", commit, "HEAD", folder=folder) is not None:
        return ""
    if git("rev-parse", "--is-shallow-repository", folder=folder) == "true":
        return NO_HISTORY
    return "began at a commit that is not in this history"
