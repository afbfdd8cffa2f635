"""Commands beside the stages: they look at results, figures and stages together."""

import os
import sys
from pathlib import Path


def run_this_checkout(folder: Path) -> None:
    """Let rules run this Python and the code in `folder`, whatever else is installed.

    The path is relative, because a folder's name may hold the colon that separates paths.
    """
    os.environ["PYTHONPATH"] = os.path.relpath(folder / "src")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
