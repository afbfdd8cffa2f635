"""Progress bars with the time left."""

import sys

from tqdm import tqdm


def progress(what: str, total: int, unit: str = "it") -> tqdm:
    """A bar on stderr that counts to `total`; in a log file, a line now and then."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        mininterval=0.2 if terminal else 10,
        maxinterval=10 if terminal else 60,
        ascii=not terminal,
    )
