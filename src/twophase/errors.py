"""What a person can mend: shown as one line, without a traceback."""


class Problem(Exception):
    """Base of the errors whose message says what is wrong and what to do."""


class StudyError(Problem):
    """A mistake in a study file; each line names file, key, value and what is allowed."""


class ArtifactError(Problem):
    """A result that is missing, damaged, or not the one asked for."""


class RunError(Problem):
    """A run whose numbers cannot be used, or cannot be made on this machine."""
