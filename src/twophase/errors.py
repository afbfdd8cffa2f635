"""What a person can mend: shown as one line, without a traceback."""

import sysconfig
import traceback
from pathlib import Path


class Problem(Exception):
    """Base of the errors whose message says what is wrong and what to do."""


class StudyError(Problem):
    """A mistake in a study file; each line names file, key, value and what is allowed."""


class ArtifactError(Problem):
    """A result that is missing, damaged, or not the one asked for."""


class RunError(Problem):
    """A run whose numbers cannot be used, or cannot be made on this machine."""


def in_a_line(error: Exception) -> str:
    """An error of code that is not ours: its kind and what it says, on one line of at most 200
    characters.
    """
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def at_its_line(error: Exception) -> str:
    """The same behind the file and the line of the user's own code that raised it, or that called
    what did.
    """
    places = traceback.extract_tb(error.__traceback__)
    place = next((each for each in reversed(places) if not _of_others(each.filename)), places[-1])
    return f"{place.filename}:{place.lineno}: {in_a_line(error)}"


def _of_others(file: str) -> bool:
    """Whether code is of this package, of Python, or installed."""
    paths = sysconfig.get_paths()
    there = [Path(__file__).parent, *(paths[key] for key in ("stdlib", "purelib", "platlib"))]
    return file.startswith("<") or any(Path(file).is_relative_to(folder) for folder in there)
