"""The figures: one table that says of each what it shows and which tables it is drawn from.

A figure is a module of this folder; `draw(study, tables)` returns its panels and caption, from
tables alone. `findings` is one too, in words. A new one is its module and its row here;
a study may name functions of its own, too.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from twophase.store.code import code_digest
from twophase.store.paths import Result, digest
from twophase.study import functions, stages
from twophase.study.model import Study

# How whole files end.
ENDS = {
    ".pdf": b"%%EOF\n",
    ".png": b"IEND\xaeB`\x82",
    ".svg": b"</svg>\n",
    ".eps": b"%EOF\n",
    ".pgf": b"\n",
    ".md": b"\n",
    ".txt": b"\n",
}
FORMATS = ("pdf", "png", "svg", "eps", "pgf")  # that a figure can be asked for in


class Figure(NamedTuple):
    """A row of the table. A table of every run comes with its summary, where it has one."""

    shows: str  # in a few words; its caption says what is in the tables
    runs: tuple[str, ...] = ()  # the tables that it shows of every run
    also: tuple[str, ...] = ()  # the same, where the study has them
    summaries: tuple[str, ...] = ()  # the tables of which it shows only the summary over all runs
    first_seed: tuple[str, ...] = ()  # the tables that it shows of the first seed
    options: tuple[str, ...] = ()  # the options of a model that it shows, beside the tables
    timed: tuple[str, ...] = ()  # from which tables it marks when chaos ends and the cone begins
    of_sweeps: bool = False  # it is of studies with a sweep, whose values it shows
    files: tuple[str, ...] = (".pdf", ".txt", ".png")


BOTH = ("chaos", "kernel_distance")
# fmt: off
FIGURES = {
    "fig1": Figure(
        "the chaos and the cone effect at a glance", timed=BOTH,
        runs=("chaos",), first_seed=("kernel_projection",), options=("chaos", "training")),
    "fig2": Figure(
        "the protocol of this replication, beside the training curves",
        runs=("training",), options=("chaos", "kernel", "linearized", "training")),
    "fig3": Figure(
        "chaos: dissimilarity, loss barrier and disagreement over t0 and t1",
        runs=("chaos",), options=("chaos", "training"), timed=("chaos",)),
    "fig4": Figure(
        "kernel distance between all pairs of checkpoints",
        summaries=("kernel_distance",), options=("training",), timed=("kernel_distance",)),
    "fig5": Figure(
        "cone: kernel distances from references and between neighbours, and in three dimensions",
        runs=("kernel_distance",), first_seed=("kernel_projection",),
        options=("kernel", "training"), timed=("kernel_distance",)),
    "fig6": Figure(
        "linearised from a switch on, beside normal training",
        runs=("linearized", "training"), options=("training", "linearized")),
    "answer": Figure(
        "whether chaos ends when the cone begins: both times of every seed, at two horizons",
        runs=BOTH, options=("training",), timed=BOTH),
    "s1": Figure(
        "how base run and fork part, step by step",
        first_seed=("growth", "growth_rate"), options=("growth",)),
    "s2": Figure(
        "the chaos effect over the size of the perturbation",
        runs=("sizes",), options=("chaos", "sizes")),
    "s3": Figure(
        "the cone in numbers", runs=("cone",), also=("across_seeds",),
        options=("across_seeds", "training"), timed=("kernel_distance",)),
    "s4": Figure(
        "the kernel's content, and the curvature of the loss", runs=("kernel_content",),
        also=("curvature",), options=("curvature", "training"), timed=("kernel_distance",)),
    "s5": Figure(
        "the way through the space of parameters",
        summaries=("trajectory",), options=("training",)),
    "s6": Figure(
        "barriers modulo permutation, and the similarity of features",
        runs=("matching",), options=("chaos", "matching", "training")),
    "s7": Figure(
        "what depends on the options that the study sweeps", of_sweeps=True,
        runs=("training",), also=("chaos", "cone"), options=("training", "chaos", "kernel")),
    "findings": Figure(
        "what the study shows, in numbers", runs=("training",),
        also=("chaos", "kernel_distance", "linearized", "growth", "growth_rate"),
        options=("training", "chaos", "kernel", "growth"), files=(".md",)),
}
# Figures of a study's own measures; those of its own functions are in the study.
PANELS = {
    "measures": Figure(
        "measures of the study's own, over t0 and t1",
        runs=("own_measures",), options=("chaos", "training")),
}
# fmt: on


def row(study: Study, figure: str) -> Figure:
    """The row of a figure, be it the package's or the study's own."""
    if figure not in study.figures:
        return FIGURES.get(figure) or PANELS[figure]
    asked = study.figures[figure].tables
    summaries = [name.removesuffix("_summary") for name in asked if name not in stages.STAGE_OF]
    runs = [name for name in asked if name in stages.STAGE_OF]
    return Figure(f"the study's own figure {figure}", tuple(runs), summaries=tuple(summaries))


def asked(study: Study) -> list[str]:
    """The figures that the study has the tables for; `findings` says what there is."""

    def possible(name: str) -> bool:
        its_row = row(study, name)
        needed = (*its_row.runs, *its_row.summaries, *its_row.first_seed)
        sections = {stages.STAGES[stages.STAGE_OF[table]].section for table in needed}
        return (bool(study.sweep) or not its_row.of_sweeps) and any(
            all(section is None or getattr(model, section) for section in sections)
            for model in study.models.values()
        )

    return [name for name in (*FIGURES, *PANELS, *study.figures) if possible(name)]


def tables(study: Study, figure: str) -> dict[str, Result]:
    """The tables that a figure is drawn from, by the names they are published under: summaries
    after their table, tables of a run after model and seed.
    """
    its_row, there = row(study, figure), stages.tables_of(study)
    shown = its_row.runs + its_row.also
    found = {
        f"{table}_summary": stages.summary_table(study, table)
        for table in its_row.summaries + shown
        if table in there
    }
    timed = its_row.timed + ("training",) * bool(its_row.timed)
    for table in dict.fromkeys(shown + timed + its_row.first_seed):
        for run in stages.runs_of(study, stages.STAGE_OF[table]):
            if table not in its_row.first_seed or run.seed == study.seeds[0]:
                found[stages.published_name(run, table)] = stages.run_table(run, table)
    return found


def load(figure: str) -> Any:
    """The module that draws a figure, or what stands for one."""
    if figure in FIGURES:
        return importlib.import_module(f"twophase.figures.{figure}")
    own = importlib.import_module("twophase.figures.own")
    return SimpleNamespace(draw=functools.partial(own.draw, figure))


def files(figure: str) -> list[str]:
    """The names of a figure's files."""
    return [figure + suffix for suffix in FIGURES.get(figure, Figure("")).files]


def first_drawn(target: str) -> str:
    """The file behind which a target is drawn: a figure in another format follows its PDF."""
    stem, _, kind = target.rpartition(".")
    drawn = Path(target).parts[0] == "figures" and kind in FORMATS
    return f"{stem}.pdf" if drawn and Path(stem).name != "findings" else target


def made_by(study: Study, figure: str, drawn_from: list[str] | None = None) -> str:
    """What a figure is made by; it stands in each of the figure's files. `drawn_from` are names or
    digests that tell which tables it is drawn from: by default the paths of the study's own.
    """
    drawn_from = drawn_from or [str(each.path) for each in tables(study, figure).values()]
    its_row = row(study, figure)  # titles name network and images; chaos ends by a threshold
    beside = ("chaos",) * ("chaos" in its_row.timed and "chaos" not in its_row.options)
    sections = ("network", *its_row.options, *beside)
    options = {
        name: {each: (own := getattr(model, each)) and own.options() for each in sections}
        for name, model in study.models.items()
    }
    shown = [study.name, study.title, study.seeds, study.data.images.options(), options]
    if its_row.of_sweeps:
        shown.append({name: swept.options() for name, swept in study.sweep.items()})
    if own := study.figures.get(figure):
        shown.append(own.options())
    return f"made by {digest([shown, drawn_from, code_of(figure, study)])[:8]}"


def code_of(figure: str, study: Study | None = None) -> str:
    """Digest of the code that draws a figure, of a study's own with the function that it names."""
    module, own = (figure if figure in FIGURES else "own"), study and study.figures.get(figure)
    places = functions.place(own.file, own.function) if own else None
    code = (f"figures.{module}", "figures.drawing", "figures.pictures")
    return code_digest(*code, *([places] if places else []))


def current(folder: Path, figure: str, maker: str) -> bool:
    """Whether a figure's files in `folder` are there, whole, and were made by `maker`.

    What they say decides, never their dates.
    """
    return all(is_current(folder / name, maker) for name in files(figure))


def is_current(file: Path, maker: str) -> bool:
    """Whether one file of a figure is there, whole, and was made by `maker`."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return maker.encode() in content and content.endswith(ENDS[file.suffix])


def caption(folder: Path, figure: str) -> str:
    """What a figure shows, in the words of its caption if it has been drawn into `folder`."""
    try:
        return (folder / f"{figure}.txt").read_text(encoding="utf-8").rpartition("\n\n")[0]
    except OSError:
        return (FIGURES | PANELS).get(figure, Figure("a figure of the study's own")).shows
