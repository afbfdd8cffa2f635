"""The write-up's appendix: of each study all numbers, folded where nothing can be judged."""

from __future__ import annotations

from pathlib import Path

from twophase.figures import FIGURES
from twophase.study.model import Study
from twophase.writeup import beside, parts, sources, text
from twophase.writeup.claims import Claims
from twophase.writeup.sources import Source, Sweep
from twophase.writeup.verdicts import CANNOT_SAY, Verdict


def study(
    known: Study,
    file: Path,
    found: list[Verdict],
    of: list[Source],
    sweeps: list[Sweep],
    rules: Claims,
    above: set[tuple[str, str]],
) -> str:
    """A published study: where it comes from, its verdicts with their numbers, when things change,
    what lies beside the claims, and its figures but for those that are shown `above`.
    """
    own = [source for source in of if source.study == known.name]
    title = " ".join(known.title.split())
    said = [f"<p>{title}. {text.counted(len(known.seeds), 'seed')}.</p>", parts.origin(known, file)]
    for source in own:
        mine = [v for v in found if v.source is source and v.claim.kind != "figure"]
        said += [_head(source, "verdicts with their numbers"), text.details(mine, rules)]
        said += ["<p>Controls equal to their base run bit for bit: " + parts.controls(source)]
        said += [".</p>"]
        if not source.withheld:
            said += [_head(source, "when measures change"), parts.transitions(source)]
            said += [_head(source, "beside the claims"), parts.beyond(source), parts.growth(source)]
    several = [v for v in found if v.source.study == known.name and v.source.conditions]
    if several:
        said += ["<p><b>Over several models</b></p>", text.details(several, rules)]
    for sweep in sweeps:
        if sweep.study == known.name:
            said += [f"<p><b>{sweep.name}: {sweep.keys}</b></p>", parts.dependence(sweep)]
    shown = [name for name in FIGURES if (known.name, name) in above]
    said += [f"<p>Shown above: {', '.join(shown)}.</p>"] * bool(shown)
    panels = beside.drawn(known, file, but=shown)
    said.append(beside.figure(panels, titled=True))
    if not panels and not shown:
        said.append(f"<p><i>No figure: {sources.why_none(known, file)}.</i></p>")
    body = "".join(said)
    if known.sweep or any(v.word != CANNOT_SAY for v in found if v.source in own):
        return f"<h3>{known.name}</h3>{body}"
    return (
        f"<h3>{known.name}</h3><details><summary>Nothing can be judged here yet; what was "
        f"measured</summary>{body}</details>"
    )


def _head(source: Source, what: str) -> str:
    return f"<p><b>{text.name_of(source)}: {what}</b></p>"
