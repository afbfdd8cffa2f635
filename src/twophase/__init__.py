"""A reproducible test of the two-phase picture of neural network training (arXiv 2505.13900).

`twophase.load` gives the tables of a study, `twophase.draw` its figures. The functions that measure
are in the modules that docs/library.md lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twophase.study.tables import load as load

__all__ = ["draw", "load"]  # noqa: F822


def __getattr__(name: str) -> Any:
    """`load` and `draw`, imported when they are asked for: `import twophase` costs nothing."""
    if name == "load":
        from twophase.study.tables import load

        return load
    if name == "draw":
        from twophase.figures import load as module  # no result depends on how it is drawn

        return module("pictures").drawn
    raise AttributeError(f"module 'twophase' has no attribute {name!r}")
