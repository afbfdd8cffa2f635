"""A reproducible test of the two-phase picture of neural network training (arXiv 2505.13900).

`twophase.load` gives the tables of a study, `twophase.estimate` a column of one over seeds,
`twophase.draw` its figures; `network`, `batch`, `examples` and `kernel` what its runs left. The
functions that measure are in the modules that docs/library.md lists.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twophase.study.tables import load as load

# Where the public functions are, and what they are called there. No result depends on them: by
# names, because this module's text counts in none.
PUBLIC = {
    "batch": "training.states:batch",
    "draw": "figures.pictures:drawn",
    "estimate": "estimators.columns:estimate",
    "examples": "training.states:examples",
    "kernel": "training.states:kernel",
    "load": "study.tables:load",
    "network": "training.states:network",
}
__all__ = ["batch", "draw", "estimate", "examples", "kernel", "load", "network"]  # noqa: F822


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are asked for: `import twophase` costs nothing."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'twophase' has no attribute {name!r}")
    module, _, function = PUBLIC[name].partition(":")
    return getattr(importlib.import_module(f"twophase.{module}"), function)
