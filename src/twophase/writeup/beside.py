"""The paper's figures beside ours: a sentence on each, its numbers with their verdicts, ours."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

from twophase.figures import load, row, style
from twophase.figures.panels import composed
from twophase.study.model import Study
from twophase.writeup import views
from twophase.writeup.text import mark, name_of, svg
from twophase.writeup.verdicts import OTHER_DATA, OTHER_NETWORK, Verdict

ANSWER = "answer"
SHOWN = 2  # studies whose figures stand beside the paper's; the others' are in the appendix
# What the paper shows in each of its figures; what is grey in ours are its numbers.
PAPER = {
    "fig1": "The paper's figure 1 illustrates both effects. Ours is drawn from measurements.",
    "fig3": "In the paper a copy that is perturbed early ends behind a loss barrier and disagrees "
    "with its base run, and one that is perturbed late does not; the dissimilarity of parameters "
    "peaks soon after the perturbation, and vanishes.",
    "fig4": "In the paper kernels form two blocks: early ones are unlike all others, later ones "
    "like each other.",
    "fig5": "In the paper the kernel soon stops moving away from where it was, falls to the same "
    "floor over any interval, and stays within a narrow cone.",
    "fig6": "In the paper training that is linearised early ends badly, and training that is "
    "linearised late nearly as well as normal training.",
}


def drawn(
    study: Study, file: Path, names: list[str] | None = None, but: Collection[str] = ()
) -> list[tuple[str, str, str]]:
    """Each figure that a published study has the tables for, or those of `names`, but for some: its
    name, SVG and caption. Of a sweep, only those of what depends on its options; of a registered
    study, only what was looked at.
    """
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        part, tables = views.shown(study, file, Path(scratch))
        for name in names or tables:
            wanted = name in tables and name not in ("findings", *but)
            if wanted and row(study, name).of_sweeps == bool(study.sweep):
                page = load(name).draw(part, tables[name])
                with style.theme():
                    picture = svg(composed(page), f"{name} of {study.name}")
                found.append((name, picture, page.caption))
    return found


def figure(panels: list[tuple[str, str, str]], titled: bool = False) -> str:
    """Figures with their captions, in HTML."""
    return "".join(
        f"<p><b>{name}</b></p>" * titled + f'{picture}<p class="caption">{caption}</p>'
        for name, picture, caption in panels
    )


def numbers(name: str, found: list[Verdict]) -> str:
    """The numbers that the paper's figure gives, and what studies of the same network on the same
    images say of each, as a list in Markdown.
    """
    place = f"figure {name.removeprefix('fig')}"
    own = [v for v in found if v.claim.kind == "figure" and v.claim.source.startswith(place)]
    lines = []
    for claim in dict.fromkeys(v.claim.id for v in own):
        each = [v for v in own if v.claim.id == claim]
        there = [v for v in each if v.why not in (OTHER_DATA, OTHER_NETWORK)]
        said = "; ".join(f"{mark(v.word, v.why)} ({name_of(v.source)})" for v in there)
        told = each[0].claim
        lines.append(f"- {told.source}: {told.claim} {said or 'No study here can say.'}")
    return "\n".join(lines)
