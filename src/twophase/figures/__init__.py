"""The figures. Each module draws one, from tables alone: `draw(study)` returns it."""

from __future__ import annotations

import importlib
from pathlib import Path

from twophase import paths
from twophase.artifacts import whole_file
from twophase.study import Study

# What each figure is drawn from: summaries over all runs, and tables of the first seed.
SUMMARIES = {
    "fig1": ["chaos"],
    "fig2": ["training"],
    "fig3": ["chaos"],
    "fig4": ["kernel_distance"],
    "fig5": ["kernel_distance"],
    "fig6": ["linearized", "training"],
}
PROJECTED = ("fig1", "fig5")
FIGURES = tuple(SUMMARIES)


def tables(study: Study, figure: str) -> list[Path]:
    """The tables that `figure` is drawn from."""
    found = [paths.summary(study, table) for table in SUMMARIES[figure]]
    if figure in PROJECTED:
        found += [paths.kernel_projection(study, model, study.seeds[0]) for model in study.models]
    return found


def draw(study: Study, figure: str, folder: Path) -> None:
    """Draw `figure` into `folder`, as PDF and PNG; the same tables give the same bytes."""
    module = importlib.import_module(f"twophase.figures.{figure}")
    drawing = module.draw(study)
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        with whole_file(folder / f"{figure}.{kind}") as temporary:
            drawing.savefig(temporary, format=kind, dpi=200, metadata=metadata)
