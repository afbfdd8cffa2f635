"""Words and tables of the write-up: every number in it comes through `number` or `interval`."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterable, Sequence
from datetime import date

from matplotlib import rc_context
from matplotlib.figure import Figure

from twophase.errors import RunError
from twophase.estimators.seeds import Estimate
from twophase.writeup import CLAIMS
from twophase.writeup.claims import Claim, Claims
from twophase.writeup.sources import Source
from twophase.writeup.verdicts import (
    CANNOT_SAY,
    NOT,
    OTHER_DATA,
    OTHER_NETWORK,
    REGISTERED,
    REPLICATED,
    UNCHECKED,
    WORDS,
    Outcome,
    Verdict,
    limits,
)

BEGIN = "<!-- verdicts: `make readme` writes what follows -->"
END = "<!-- end of verdicts -->"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
WIDER = 1.25  # CSS pixels for a point of a figure


def number(value: float) -> str:
    """A number with three digits, or all of them if it is whole."""
    if math.isnan(value):
        return "?"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 1e7 or 0 < abs(value) < 1e-4:
        mantissa, power = f"{value:.2e}".split("e")
        text = f"{float(mantissa):g}\u00a0×\u00a010{str(int(power)).translate(RAISED)}"
    elif float(value).is_integer() or abs(value) >= 1000:
        text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"
    else:
        text = f"{value:.3g}"
    return text.replace(",", "\u202f").replace("-", "−")


def span(values: Sequence[float]) -> str:
    """From the smallest of some numbers to the largest; "no" if there are none."""
    return f"{number(min(values))} to {number(max(values))}" if values else "no"


def counted(count: int, noun: str) -> str:
    """A number of things, such as "3 seeds"."""
    return f"{number(count)} {noun}{'s' * (count != 1)}"


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{number(100 * share)} %"


def day(text: str) -> str:
    """A day as the claims' file gives it."""
    return date.fromisoformat(text).strftime("%-d %B %Y")


def interval(estimate: Estimate | None) -> str:
    """An estimate, such as "1.88 [1.46, 2.3]"."""
    if estimate is None:
        return "–"
    value, low, high, _ = estimate
    if math.isnan(low):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def range_of(low: float, high: float) -> str:
    """Where a quantity must lie."""
    if math.isinf(low):
        return f"below {number(high)}"
    if math.isinf(high):
        return f"above {number(low)}"
    return f"{number(low)} to {number(high)}"


def name_of(source: Source) -> str:
    """A source, such as "cifar10-lite, resnet"."""
    return f"{source.study}, {source.name}"


def mark(word: str, why: str = "") -> str:
    """A verdict as a coloured label; `why` shows where the pointer is."""
    kind = word.replace(" ", "-")
    title = html.escape(why, quote=True)
    return f'<span class="verdict {kind}" title="{title}">{word}</span>'


def short(claim: Claim) -> str:
    """A claim's name, such as "early chaos"."""
    return claim.id.replace("-", " ")


def table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """A table in HTML; cells may hold HTML."""
    head = list(head)
    top = "".join(f"<th>{cell}</th>" for cell in head)
    # On a phone each cell is under the first, behind the head of its column.
    body = "".join(
        "<tr>"
        + "".join(f'<td data-head="{h}">{c}</td>' for h, c in zip(head, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def same_as(source: Source) -> str:
    """Which source holds the same runs, so that they count once; nothing if none does."""
    return f" (same runs as {source.same_as})" if source.same_as else ""


def is_test(v: Verdict) -> bool:
    """Whether a verdict is shown among the registered ones: it is one, or may become one."""
    own = v.source.registration
    waits = bool(own and v.claim.id in own.claims and v.source.withheld)
    return waits or v.standing in (REGISTERED, UNCHECKED)


def matrix(found: list[Verdict], sources: list[Source]) -> str:
    """Sources in rows, claims in columns, a verdict in each cell; an asterisk behind a source if
    the rules were written after looking at its study. Sources of which no claim can be said have no
    row and are listed below. A cell is empty where a verdict is not among those found.
    """
    rows, silent = [], []
    claims = dict.fromkeys(v.claim.id for v in found)
    for source in sources:
        own = {v.claim.id: v for v in found if v.source is source}
        name = name_of(source) + "\u00a0*" * any(v.seen for v in own.values()) + same_as(source)
        if not own:
            continue
        if source.withheld:
            silent.append(f"{name} ({source.withheld})")
        elif {v.word for v in own.values()} == {CANNOT_SAY}:
            silent.append(name)
        else:
            rows.append([name, *(_cell(own.get(claim)) for claim in claims)])
    heads = [claim.replace("-", " ") for claim in claims]
    judged = table(["Study, network", *heads], rows, "matrix") if rows else ""
    those = f"<p>No claim can be judged yet on: {'; '.join(silent)}.</p>" if silent else ""
    return judged + those


def _cell(v: Verdict | None) -> str:
    return mark(v.word, v.why) if v else ""


def answer(tests: list[Verdict]) -> str:
    """What the registered verdicts say, as a list in Markdown: for each network, and for those that
    a study compares, the claims by their verdicts; or how many seeds are there, before a look.
    """
    if not tests:
        return "No study here was registered before its first seed began."
    each: dict[str, list[Verdict]] = {}
    for v in tests:
        compared = f"{v.source.study}, its networks compared" if v.source.conditions else ""
        each.setdefault(compared or name_of(v.source), []).append(v)
    return "\n".join(f"- {name}: {_by_verdict(own)}" for name, own in each.items())


def _by_verdict(found: list[Verdict]) -> str:
    """Claims behind the verdict that they have; those that are withheld share one."""
    open_ = [v for v in found if not v.source.withheld]
    told = []
    for word in WORDS:
        own = [" ".join([short(v.claim), *_measured(v)]) for v in open_ if v.word == word]
        told += [f"**{word}**: {', '.join(own)}"] * bool(own)
    withheld = dict.fromkeys(f"*{v.source.withheld}*" for v in found if v.source.withheld)
    return "; ".join([*told, *withheld])


def figure_name(name: str) -> str:
    """A figure of the paper, such as "Figure 3"."""
    return f"Figure {name.removeprefix('fig')}"


def fallen(found: list[Verdict]) -> str:
    """The verdicts that were registered and are exploratory, or whose order cannot be checked, with
    the reason, as a list in Markdown.
    """
    told = [
        f"- *{short(v.claim)}*, {name_of(v.source)}: {v.standing}, for {v.because}"
        for v in found
        if v.because
    ]
    return "\n".join(told)


def details(found: list[Verdict], claims: Claims) -> str:
    """Every part of some verdicts: what was measured, where it must lie, and whether it does."""
    rows = []
    for v in found:
        told = mark(v.word)
        if v.source.withheld:
            told = f"<i>{v.source.withheld}</i>"
        elif is_test(v):
            told += f"<br>{v.standing}"
        rows.append([f"<b>{v.claim.claim}</b><br>{v.claim.source}", "", "", told + " *" * v.seen])
        for outcome in v.outcomes:
            rows.append(_part(outcome, claims))
        if v.why and not v.outcomes and not v.source.withheld:
            rows.append([v.why, "", "", ""])
    return table(["Claim and its parts", "Here", "Holds if", "Verdict"], rows, "details")


def _part(outcome: Outcome, claims: Claims) -> list[str]:
    word = {True: "yes", False: "no", None: outcome.why}[outcome.holds]
    holds = range_of(*limits(outcome.part, claims.tolerance))
    return [f"– {outcome.part.says}", interval(outcome.estimate), holds, word]


def summary(found: list[Verdict]) -> str:
    """The claims by what their verdicts have in common, as a list in Markdown. Behind each, how
    many networks got which verdict; those with the same runs as another do not count.
    """
    found = [v for v in found if not v.source.same_as]
    groups: dict[str, list[str]] = {
        "Replicated on each network that can be judged": [],
        "Depends on the network, or holds in part": [],
        "Replicated on none that can be judged": [],
        "Undecided on every network": [],
    }
    always, mixed, never, silent = groups.values()
    for claim in dict.fromkeys(v.claim.id for v in found):
        own = [v for v in found if v.claim.id == claim]
        each = [v.word for v in own]
        judged = frozenset(word for word in each if word != CANNOT_SAY)
        group = {frozenset(): silent, frozenset({REPLICATED}): always, frozenset({NOT}): never}
        counts = (f"{each.count(word)} {word}" for word in WORDS if word in each)
        told = own[0].claim.claim.removesuffix(".")
        said = f"  - **{short(own[0].claim)}**: {told} ({', '.join(counts)})"
        group.get(judged, mixed).append(said)
    return "\n".join("\n".join([f"- *{told}*", *each]) for told, each in groups.items() if each)


def reasons(found: list[Verdict]) -> str:
    """Why nothing can be said of a number, with the sources that it is of, if there are any."""
    each: dict[str, list[str]] = {}
    for v in found:
        if v.why not in (OTHER_DATA, OTHER_NETWORK) and not v.source.same_as:
            each.setdefault(v.why, []).append(name_of(v.source))
    told = "; ".join(f"{why} ({', '.join(names)})" for why, names in each.items())
    return told or "no published study is of this network on this data set"


def quoted(found: list[Verdict], claims: Claims) -> str:
    """The verdicts that README quotes, as tables in Markdown: first those that are registered, then
    claims and studies as the file says; each with what was measured for the claim's first part.

    Raises `RunError` if a study that is to be quoted is not published.
    """
    tests = _quoted_tests(found, claims)
    studies = list(dict.fromkeys(v.source.study for v in found))
    for study in claims.quoted_studies:
        if study not in studies:
            raise RunError(
                f"{CLAIMS}: quoted_studies: {study} is not published; must be of "
                f"{', '.join(studies)}"
            )
    registered = {each.study for each in claims.registered}
    others = [s for s in studies if s not in claims.quoted_studies and s not in registered]
    found = [v for v in found if v.source.study in claims.quoted_studies and not is_test(v)]
    names = [name for name in claims.quoted if any(v.claim.id == name for v in found)]
    lines = _grid(names, found)
    notes = ["\\* The rule was written, or changed, after looking at results of this study."]
    notes = notes * any(v.seen for v in found)
    if others:
        notes.append(f"On the page below, too: {', '.join(others)}.")
    return "\n".join([*tests, *lines, "", " ".join(notes)]).strip()


def _quoted_tests(found: list[Verdict], claims: Claims) -> list[str]:
    """The registered verdicts, and what was registered and is not published."""
    if not claims.registered:
        return []
    names = [f"{each.study}: {len(each.claims)} claims, {each.date}" for each in claims.registered]
    lines = [f"Registered ({'; '.join(names)}), by rules in `{CLAIMS}`:", ""]
    tests = [v for v in found if is_test(v)]
    for each in claims.registered:
        own = [v for v in tests if v.source.study == each.study]
        # Where models are compared, the verdicts on each by itself are on the page alone.
        if own := [v for v in own if v.source.conditions] or own:
            lines.append(answer(own))
        elif each.study not in {v.source.study for v in found}:
            lines.append(f"- {each.study}: *none of it published yet*")
    lost = fallen(found)
    return [*lines, *[lost] * bool(lost), "", "Exploratory:", ""]


def _grid(names: list[str], found: list[Verdict]) -> list[str]:
    """Claims in rows, sources in columns, in Markdown."""
    sources = list(dict.fromkeys(v.source for v in found))
    lines = [
        "| claim | " + " | ".join(map(name_of, sources)) + " |",
        "|---" * (1 + len(sources)) + "|",
    ]
    for name in names:
        own = {v.source: v for v in found if v.claim.id == name}
        cells = [_quoted_cell(own.get(source)) for source in sources]
        claim = next((v.claim for v in own.values()), None)
        if claim:
            told = f"{claim.claim} *({claim.parts[0].says})*"
            lines.append(f"| {told} | " + " | ".join(cells) + " |")
    return lines


def _quoted_cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "–"
    if verdict.source.withheld:
        return f"*{verdict.source.withheld}*"
    return ": ".join([f"**{verdict.word}**", *_measured(verdict)]) + " \\*" * verdict.seen


def _measured(verdict: Verdict) -> list[str]:
    return [interval(o.estimate) for o in verdict.outcomes[:1] if o.estimate]


def in_readme(readme: str, block: str) -> str:
    """README's text with the verdicts between their marks.

    Raises `RunError` if the marks are not there, once each and in order.
    """
    if (
        readme.count(BEGIN) != 1
        or readme.count(END) != 1
        or readme.index(BEGIN) > readme.index(END)
    ):
        raise RunError(f"README.md: must hold the lines {BEGIN} and {END}, once each")
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def svg(figure: Figure, label: str) -> str:
    """A figure as SVG that lies in the page, with ids of its own."""
    out = io.StringIO()
    with rc_context({"svg.hashsalt": label, "svg.fonttype": "path"}):
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<image [^>]*?)id="[^"]*"', r"\1", text)  # two that look alike share one
    width = WIDER * figure.get_figwidth() * 72
    text = text.replace("<svg", f'<svg style="width:{width:.0f}px"', 1)
    prefix = re.sub(r"\W", "-", label)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    return f'<div class="figure" role="img" aria-label="{html.escape(label)}">{text}</div>'
