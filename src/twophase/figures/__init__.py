"""The figures. Each module draws one, from tables alone: `draw(study, tables)` returns it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
from pathlib import Path

from twophase import paths
from twophase.artifacts import ORIGIN, sha256, whole_file
from twophase.fingerprint import fingerprint
from twophase.study import Study

# By how much a stale file is dated back, and before what date a file is one dated back.
FORTY_YEARS = 40 * 365 * 86_400 * 10**9  # ns
YEAR_2000 = 30 * 365 * 86_400 * 10**9  # ns

FIGURES = ("fig1", "fig2", "fig3", "fig4", "fig5", "fig6")

# The summaries over all runs that each product is made from; some also show the first seed's
# kernels in three dimensions.
SUMMARIES = {
    "fig1": ["chaos"],
    "fig2": ["training"],
    "fig3": ["chaos"],
    "fig4": ["kernel_distance"],
    "fig5": ["kernel_distance"],
    "fig6": ["linearized", "training"],
    "findings": ["training", "chaos", "kernel_distance", "linearized"],
}
PROJECTED = ("fig1", "fig5")


def tables(study: Study, product: str) -> dict[str, Path]:
    """The tables that a figure, or `findings`, is made from, by the names they are published under.

    Summaries are called after their table, projections of the first seed after their model.
    """
    found = {f"{table}_summary": paths.summary(study, table) for table in SUMMARIES[product]}
    if product in PROJECTED:
        seed = study.seeds[0]
        found |= {
            f"{model}/seed{seed}/kernel_projection": paths.kernel_projection(study, model, seed)
            for model in study.models
        }
    return found


def files(product: str) -> list[str]:
    """The names of the files of a figure, or of `findings`."""
    return ["findings.md"] if product == "findings" else [f"{product}.pdf", f"{product}.png"]


def made_by(study: Study, product: str) -> str:
    """What a product is made by: options, tables and code. It stands in each of its files."""
    module = "findings" if product == "findings" else f"figures.{product}"
    found = [str(path) for path in tables(study, product).values()]
    return f"made by {fingerprint(module, study.model_dump(), found)}"


def note(maker: str) -> str:
    """What stands in each file of a product: what made it, and on what (see `provenance.py`)."""
    return f"{maker} on {json.dumps(ORIGIN)}"


def age_stale(study: Study, folder: Path) -> None:
    """Date back by forty years the files in `folder` that this study and code did not make.

    Their names carry no fingerprint, and Snakemake by itself sees a change only if it remembers
    the run that made them. A file that is current again gets its date back.
    """
    for product in SUMMARIES:
        expected = made_by(study, product).encode()
        for file in (folder / name for name in files(product)):
            # What is not there, or cannot be written, cannot be dated.
            # By its descriptor: a file that a job puts in its place meanwhile is not touched.
            with contextlib.suppress(OSError), file.open("rb") as opened:
                found = re.search(rb"made by [0-9a-f]{8}", opened.read())
                stale = found is None or found.group() != expected
                date = os.fstat(opened.fileno()).st_mtime_ns
                if stale != (date < YEAR_2000):
                    date += -FORTY_YEARS if stale else FORTY_YEARS
                    os.utime(opened.fileno(), ns=(date, date))


def draw(study: Study, figure: str, folder: Path) -> None:
    """Draw `figure` into `folder`, as PDF and PNG; the same tables give the same bytes."""
    _draw(study, figure, folder, tables(study, figure), made_by(study, figure))


def redraw(study: Study, file: Path, figure: str, folder: Path) -> None:
    """Draw `figure` into `folder` from the measurements published beside the study's `file`."""
    published = {name: file.parent / f"{name}.parquet" for name in tables(study, figure)}
    digests = [sha256(path) for path in (file, *published.values())]
    maker = f"made by {fingerprint(f'figures.{figure}', digests)}"
    _draw(study, figure, folder, published, maker)


def _draw(study: Study, figure: str, folder: Path, drawn_from: dict[str, Path], maker: str) -> None:
    module = importlib.import_module(f"twophase.figures.{figure}")
    drawing = module.draw(study, drawn_from)
    what = note(maker)
    pdf, png = (folder / name for name in files(figure))
    with whole_file(pdf) as temporary:
        metadata = {"CreationDate": None, "Keywords": what}
        drawing.savefig(temporary, format="pdf", dpi=200, metadata=metadata)
    with whole_file(png) as temporary:
        drawing.savefig(
            temporary, format="png", dpi=200, metadata={"Software": None, "Comment": what}
        )
