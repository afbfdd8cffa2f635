"""The figures: one table that says of each what it shows and which tables it is drawn from.

A figure is a module of this folder; `draw(study, tables)` returns it, from tables alone. `findings`
is one too, in words. A new one is its module and its row here.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from twophase.store.code import code_digest
from twophase.store.paths import Result, digest
from twophase.study import stages
from twophase.study.model import Study
from twophase.study.run import Run

RUNS = "Thick lines are means over all runs, thin lines the runs: one for each seed{}."

# How whole files end.
ENDS = {".pdf": b"%%EOF\n", ".png": b"IEND\xaeB`\x82", ".md": b"\n"}


class Figure(NamedTuple):
    """A row of the table."""

    caption: str
    summaries: tuple[str, ...] = ()  # the tables whose summary over all runs it shows
    also: tuple[str, ...] = ()  # the same, where the study has them
    runs: tuple[str, ...] = ()  # the tables that it shows of every run
    first_seed: tuple[str, ...] = ()  # the tables that it shows of the first seed
    options: tuple[str, ...] = ()  # the options of a model that it shows, beside the tables
    of_sweeps: bool = False  # it is of studies with a sweep, whose values it shows
    files: tuple[str, ...] = (".pdf", ".png")


FIGURES = {
    "fig1": Figure(
        "The chaos and the cone effect at a glance. Left: loss barrier between base run and forks, "
        "for the earliest and the latest fork of the study. A fork is a copy of the base run whose "
        "parameters were changed by a tiny perturbation at one iteration (dotted line) and that "
        "then saw the same batches. A barrier above the dashed line: the two runs ended in "
        "different valleys of the loss. Right: tangent kernels of the first seed, scaled to norm "
        "1, on their two leading principal directions; 0 is the apex of the cone. "
        + RUNS.format(" and perturbation direction"),
        summaries=("chaos",),
        runs=("chaos",),
        first_seed=("kernel_projection",),
        options=("chaos",),
    ),
    "fig2": Figure(
        "The protocol of this replication (the paper's figure 2 is not known to us): training "
        "curves of the base runs, and the iterations at which runs are forked, compared, their "
        "kernels computed and their linearised training started. " + RUNS.format(""),
        summaries=("training",),
        runs=("training",),
        options=("chaos", "kernel", "linearized"),
    ),
    "fig3": Figure(
        "Does a tiny perturbation change where training ends? It depends on when it comes. Each "
        "fork is a copy of its base run, perturbed at iteration t0 and then trained on the same "
        "batches; at iteration t1 the two are compared. Left: dissimilarity of their parameters, "
        "C = 1 - cos. Middle: loss barrier, the most by which the test loss on the straight path "
        "from one to the other exceeds the line between its ends; above the dashed line they lie "
        "in different valleys of the loss, below it in one. Right: share of test images on which "
        "they predict different classes. " + RUNS.format(" and perturbation direction"),
        summaries=("chaos",),
        runs=("chaos",),
        options=("chaos",),
    ),
    "fig4": Figure(
        "Kernel distance S (one minus the cosine) between the tangent kernels of all pairs of "
        "checkpoints of a run: mean (above) and range (below) over seeds.",
        summaries=("kernel_distance",),
    ),
    "fig5": Figure(
        "Cone effect. Left: kernel distance from reference iterations. Middle: distance of "
        "kernels dt iterations apart. Right: kernels of the first seed, scaled to norm 1, on "
        "their three leading uncentred principal directions; rays start at the origin. "
        + RUNS.format(""),
        summaries=("kernel_distance",),
        runs=("kernel_distance",),
        first_seed=("kernel_projection",),
        options=("kernel",),
    ),
    "fig6": Figure(
        "Training is normal up to the switch and linearised (first-order Taylor model in the "
        "parameters, batch norm frozen) from there to the end. Test accuracy and loss at the end, "
        "with normal training for comparison. " + RUNS.format(""),
        summaries=("linearized", "training"),
        runs=("linearized", "training"),
        options=("training",),
    ),
    "s1": Figure(
        "How base run and forks part, step by step from iteration t0, in the first seed: distance "
        "of the parameters after Gaussian noise, after one unit in the last place of one "
        "parameter (ulp), and without perturbation but with other SGD noise. Dots: the first step "
        "at which a ReLU gate or a pooling winner differs on a fixed batch.",
        first_seed=("growth", "growth_rate"),
        options=("growth",),
    ),
    "s2": Figure(
        "Does the size of the perturbation matter? Forks as in figure 3, compared with their base "
        "run at the last t1, after perturbations that are the same noise times a size. Left: loss "
        "barrier; above the dashed line the two lie in different valleys of the loss. Middle: "
        "share of test images on which they predict different classes. Right: distance of their "
        "parameters. The dotted line is the size of all other figures. "
        + RUNS.format(" and perturbation direction"),
        summaries=("sizes",),
        runs=("sizes",),
        options=("chaos", "sizes"),
    ),
    "s3": Figure(
        "The cone in numbers. Left: largest angle between a kernel from iteration t on and the "
        "mean direction of all of them, beside that of a random walk with the same angles between "
        "neighbours and no preferred direction; where the study measures it, also the angle "
        "between the kernel of one seed at t and the mean direction of those of the other seeds. "
        "Middle: exponent of the kernel distance S(t, t + dt) in dt; 0 is confined, 1 free "
        "diffusion. Right: kernel velocity. " + RUNS.format(""),
        summaries=("cone",),
        also=("across_seeds",),
        runs=("cone", "across_seeds"),
        options=("across_seeds",),
    ),
    "s4": Figure(
        "What the kernel distance does not see: scale (trace, norm), effective rank, and alignment "
        "with the labels of the tangent kernel along the base runs. Where the study measures it, "
        "the curvature of the training loss: its largest Hessian eigenvalue and batch sharpness, "
        "beside 2 / lr and the threshold of SGD with momentum. " + RUNS.format(""),
        summaries=("kernel_content",),
        also=("curvature",),
        runs=("kernel_content", "curvature"),
        options=("curvature",),
    ),
    "s5": Figure(
        "The way through the space of parameters: cosines of the parameters, cosines of their "
        "displacements from the start, and distances, between all pairs of checkpoints of a base "
        "run. Means over seeds.",
        summaries=("trajectory",),
    ),
    "s6": Figure(
        "Do forks end behind a barrier, or is it only that their units have other places? Left: "
        "loss barrier between base run and fork as they are, with batch norm's statistics "
        "measured again along the path, and so too after the fork's units were matched with the "
        "base run's; dashed: the study's threshold. Middle: linear CKA of their last hidden "
        "features, which no permutation changes. Right: share of units that the match moves. "
        + RUNS.format(" and perturbation direction"),
        summaries=("matching",),
        runs=("matching",),
        options=("chaos", "matching"),
    ),
    "s7": Figure(
        "What depends on the options that the study sweeps, over their values. Test accuracy at "
        "the end of training; loss barrier and disagreement of base run and fork at the last t1, "
        "for each t0; largest angle between a kernel from t on and the mean direction of all of "
        "them, for each t. Above the dashed line base run and fork lie in different valleys of the "
        "loss. " + RUNS.format(" and perturbation direction"),
        summaries=("training",),
        also=("chaos", "cone"),
        runs=("training", "chaos", "cone"),
        options=("training", "chaos", "kernel"),
        of_sweeps=True,
    ),
    "findings": Figure(
        "What the study shows, in numbers: means over all runs, with the smallest and the largest "
        "in brackets, and how many runs end behind a barrier.",
        summaries=("training",),
        also=("chaos", "kernel_distance", "linearized", "growth_rate"),
        runs=("chaos",),
        options=("training", "chaos", "kernel", "growth"),
        files=(".md",),
    ),
}


def asked(study: Study) -> list[str]:
    """The figures that the study has the tables for; `findings` says what there is."""
    there = set(stages.tables_of(study))

    def possible(figure: Figure) -> bool:
        needed = {*figure.summaries, *(t for t in figure.first_seed)}
        sections = {stages.STAGES[stages.STAGE_OF[table]].section for table in needed}
        return any(
            all(section is None or getattr(model, section) for section in sections)
            for model in study.models.values()
        )

    return [
        name
        for name, figure in FIGURES.items()
        if (study.sweep or not figure.of_sweeps)
        and (name == "findings" or (there.issuperset(figure.summaries) and possible(figure)))
    ]


def tables(study: Study, figure: str) -> dict[str, Result]:
    """The tables that a figure is drawn from, by the names they are published under: summaries
    after their table, tables of a run after model and seed.
    """
    row = FIGURES[figure]
    there = stages.tables_of(study)
    found = {
        f"{t}_summary": stages.summary_table(study, t)
        for t in row.summaries + row.also
        if t in there
    }
    for table in row.runs + row.first_seed:
        for run in stages.runs_of(study, stages.STAGE_OF[table]):
            if table in row.runs or run.seed == study.seeds[0]:
                found[published_name(run, table)] = stages.run_table(run, table)
    return found


def published_name(run: Run, table: str) -> str:
    """The name under which a run's table is published."""
    return f"{run.name}/seed{run.seed}/{table}"


def load(figure: str) -> ModuleType:
    """The module that draws a figure."""
    os.environ.pop("MPLBACKEND", None)  # ours needs none, and the user's may not exist here
    return importlib.import_module(f"twophase.figures.{figure}")


def files(figure: str) -> list[str]:
    """The names of a figure's files."""
    return [figure + suffix for suffix in FIGURES[figure].files]


def made_by(study: Study, figure: str) -> str:
    """What a figure is made by; it stands in each of the figure's files."""
    return made_from(study, figure, [str(t.path) for t in tables(study, figure).values()])


def made_from(study: Study, figure: str, drawn_from: list[str]) -> str:
    """The same, where names or digests tell which tables the figure is drawn from."""
    options = {
        name: {section: _dump(getattr(model, section)) for section in FIGURES[figure].options}
        for name, model in study.models.items()
    }
    shown = [study.name, study.title, study.seeds, options]
    if FIGURES[figure].of_sweeps:
        shown.append({name: swept.options() for name, swept in study.sweep.items()})
    return f"made by {digest([shown, drawn_from, code_of(figure)])[:8]}"


def code_of(figure: str) -> str:
    """Digest of the code that draws a figure."""
    return code_digest(f"figures.{figure}", "figures.drawing")


def _dump(section: object) -> dict | None:
    return section.options() if section else None


def current(folder: Path, figure: str, maker: str) -> bool:
    """Whether a figure's files in `folder` are there, whole, and were made by `maker`.

    What they say decides, never their dates.
    """
    for name in files(figure):
        try:
            content = (folder / name).read_bytes()
        except OSError:
            return False
        if maker.encode() not in content or not content.endswith(ENDS[Path(name).suffix]):
            return False
    return True
