"""What a person can mend: shown as one line, without a traceback."""


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
