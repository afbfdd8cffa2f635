"""A reproducible test of the two-phase picture of neural network training (arXiv 2505.13900).

`twophase.load` gives the tables of a study. The functions that measure are in the modules that
docs/library.md lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twophase.tables import load as load


def __getattr__(name: str) -> Any:
    """`load`, imported when it is asked for: `import twophase` costs nothing."""
    if name == "load":
        from twophase.tables import load

        return load
    raise AttributeError(f"module 'twophase' has no attribute {name!r}")
