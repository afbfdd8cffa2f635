"""Several papers side by side: a row for each claim of each, and the questions that they share.

A paper is a folder of `paper/` with a file of claims and `about.md`, its title and what it says.
The one whose claims lie in `paper/` itself is called `.`. So another paper changes no code.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from twophase.errors import StudyError
from twophase.study import studyfile
from twophase.writeup import CLAIMS, claims, sources, standing, text
from twophase.writeup.claims import Claims
from twophase.writeup.sources import Source
from twophase.writeup.verdicts import CANNOT_SAY, OTHER_DATA, OTHER_NETWORK, WORDS, Verdict

ABOUT, QUESTIONS = "about.md", "questions.yaml"


class Paper(NamedTuple):
    """A paper: what it is called, its file of claims, the rules in it, and all verdicts."""

    name: str
    file: Path
    rules: Claims
    found: list[Verdict]

    @property
    def about(self) -> str:
        """Its title and what it says, in Markdown."""
        return (self.file.parent / ABOUT).read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """The first line of that."""
        return self.about.splitlines()[0].removeprefix("# ")


def files(folder: Path = CLAIMS.parent) -> dict[str, Path]:
    """Each paper's file of claims, by the paper's name."""
    each = [folder / CLAIMS.name, *sorted(folder.glob(f"*/{CLAIMS.name}"))]
    return {str(file.parent.relative_to(folder)): file for file in each}


def papers(folder: Path = CLAIMS.parent) -> list[Paper]:
    """All papers, judged by everything that is published."""
    tested, swept, _ = sources.all_networks(folder / "measurements")
    return [judged(name, file, tested, swept) for name, file in files(folder).items()]


def judged(name: str, file: Path, tested: list[Source], swept: list[Source]) -> Paper:
    """A paper, judged by these sources: those of sweeps and all others."""
    rules = claims.load(file)
    return Paper(name, file, rules, standing.judged(rules, tested, file, swept))


def counting(found: list[Verdict]) -> list[Verdict]:
    """The verdicts that say something of a claim: not those on networks or images that it is not
    about, and not those on runs of which another study says the same already. A study may have the
    base runs of another, and other forks.
    """
    judged = {(v.claim.id, text.name_of(v.source)) for v in found if v.word != CANNOT_SAY}
    return [
        v
        for v in found
        if v.why not in (OTHER_DATA, OTHER_NETWORK) and (v.claim.id, v.source.same_as) not in judged
    ]


def table(paper: Paper) -> str:
    """A paper's claims in rows, in HTML; for each verdict the networks that have it."""
    rows = []
    for claim in paper.rules.claims:
        own = [v for v in counting(paper.found) if v.claim is claim]
        cells = [_those([v for v in own if v.word == word]) for word in WORDS[:-1]]
        silent = [v for v in own if v.word == CANNOT_SAY]
        cells.append(text.number(len(silent)))
        rows.append([f"<b>{claim.claim}</b><br>{claim.source}", *cells])
    return text.table(["Claim", *(word.capitalize() for word in WORDS)], rows)


def _those(found: list[Verdict]) -> str:
    return "<br>".join(text.name_of(v.source) + "\u00a0*" * v.seen for v in found)


class Question(NamedTuple):
    """What several papers answer: the words, and the claim of each paper."""

    words: str
    claims: dict[str, str]


def questions(each: list[Paper], folder: Path = CLAIMS.parent) -> list[Question]:
    """The questions that papers share.

    Raises `StudyError` if one names a paper or a claim that there is not.
    """
    file = folder / QUESTIONS
    raw = studyfile.mapping(file, file.read_text(encoding="utf-8"))
    found = [Question(words, named) for words, named in raw.items()]
    known = {paper.name: [claim.id for claim in paper.rules.claims] for paper in each}
    for question in found:
        for name, claim in question.claims.items():
            if claim not in known.get(name, ()):
                allowed = ", ".join(known.get(name, known))
                raise StudyError(f"{file}: {question.words} {name}: {claim}: must be of {allowed}")
    return found


def answers(question: Question, each: list[Paper]) -> dict[str, dict[str, Verdict]]:
    """For each network that two papers or more can be judged on, the verdict of each paper. One
    with the runs of another is left out if that is judged by all papers that it is judged by.
    """
    found: dict[str, dict[str, Verdict]] = {}
    for paper in each:
        for v in paper.found:
            if v.claim.id == question.claims.get(paper.name) and v.word != CANNOT_SAY:
                found.setdefault(text.name_of(v.source), {})[paper.name] = v
    several = {network: own for network, own in found.items() if len(own) > 1}
    same = {network: next(iter(own.values())).source.same_as for network, own in several.items()}
    return {
        network: own
        for network, own in several.items()
        if not own.keys() <= several.get(same[network], {}).keys()
    }


def agree(own: dict[str, Verdict]) -> bool:
    """Whether all papers get the same verdict."""
    return len({v.word for v in own.values()}) == 1


def shared(question: Question, each: list[Paper]) -> str:
    """The answers to a question, in HTML: networks in rows, papers in columns."""
    names = list(question.claims)
    rows = []
    for network, own in answers(question, each).items():
        cells = [_cell(own.get(name)) for name in names]
        rows.append([network, *cells, "yes" if agree(own) else "<b>no</b>"])
    titles = {paper.name: paper.title for paper in each}
    heads = [f"{titles[name]}: {question.claims[name].replace('-', ' ')}" for name in names]
    if not rows:
        return "<p>No network can be judged by two of these claims yet.</p>"
    return text.table(["Study, network", *heads, "Agree"], rows, "matrix")


def _cell(v: Verdict | None) -> str:
    return text.mark(v.word, v.why) if v else ""
