"""Verdicts: what the published tables say of each claim. Computed, never typed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from twophase.estimators.seeds import LEVEL, CannotSay, Estimate
from twophase.writeup.claims import Claim, Claims, Part
from twophase.writeup.quantities import QUANTITIES
from twophase.writeup.sources import Source, conditions

WORDS = REPLICATED, PARTLY, NOT, CANNOT_SAY = (
    "replicated",
    "partly",
    "not replicated",
    "cannot say yet",
)
OTHER_DATA, OTHER_NETWORK = (
    "the number is of another data set",
    "the number is of another network",
)
NO_TIME = "no time to compare"  # a claim that this one needs is not replicated
REGISTERED, UNCHECKED, EXPLORATORY = "registered", "registered, order not checked", "exploratory"


class Outcome(NamedTuple):
    """Of one part: its estimate if there is one, whether it holds (None: cannot say), and why."""

    part: Part
    estimate: Estimate | None
    holds: bool | None
    why: str


class Verdict(NamedTuple):
    """What a source says of a claim; `seen` if the rule was written after looking at its study.

    It is `REGISTERED`, or `UNCHECKED` where there is no history to see that in, or `EXPLORATORY`;
    `because` says why if the claim is registered for the study, and yet exploratory or unchecked.
    """

    claim: Claim
    source: Source
    word: str
    why: str
    outcomes: list[Outcome]
    seen: bool
    standing: str = EXPLORATORY
    because: str = ""


def limits(part: Part, tolerance: float) -> tuple[float, float]:
    """Between which numbers the part's quantity must lie."""
    if part.paper:
        low, high = part.paper
        return low / tolerance, high * tolerance
    low, high = part.holds.above, part.holds.below
    return (-np.inf if low is None else low), (np.inf if high is None else high)


def holds(part: Part, estimate: Estimate, tolerance: float) -> bool | None:
    """A part holds if the interval lies between its limits, does not hold if it lies outside of
    them, and if it lies across one nothing can be said.
    """
    low, high = limits(part, tolerance)
    if low < estimate.low and estimate.high < high:
        return True
    return False if estimate.high <= low or high <= estimate.low else None


def judge(part: Part, source: Source, claims: Claims, level: float = LEVEL) -> Outcome:
    """What a part's quantity says of a source, and whether the part holds; if not known, why."""
    try:
        estimate = estimated(part, source, level)
    except CannotSay as reason:
        return Outcome(part, None, None, str(reason))
    if estimate.seeds < claims.fewest_seeds:
        return Outcome(part, estimate, None, "too few seeds")
    held = holds(part, estimate, claims.tolerance)
    why = "the interval holds both yes and no" if held is None else ""
    return Outcome(part, estimate, held, why)


def estimated(part: Part, source: Source, level: float) -> Estimate:
    """A part's quantity. Raises `CannotSay` if nothing can be said of it at this level."""
    quantity = QUANTITIES[part.quantity]
    subject = source.conditions if part.of_conditions else source
    if "level" in inspect.signature(quantity).parameters:
        return quantity(subject, **part.at, level=level)
    if level != LEVEL:
        raise CannotSay(f"{part.quantity} has intervals of {LEVEL:.0%} only")
    return quantity(subject, **part.at)


def verdict(claim: Claim, source: Source, claims: Claims) -> Verdict:
    """Replicated if all parts hold, not replicated if none does, partly if some do and some do
    not; else it cannot be said yet: a part is open, a claim that this one needs is not replicated,
    or seeds or iterations are too few. Of a source that is withheld nothing is computed.
    """
    seen = source.study in claims.seen_by(claim)

    def cannot(why: str, outcomes: list[Outcome] | None = None) -> Verdict:
        return Verdict(claim, source, CANNOT_SAY, why, outcomes or [], seen)

    study, architecture = claim.only.get("study", "*"), claim.only.get("architecture")
    if not fnmatchcase(source.study, study):
        return cannot(OTHER_DATA)
    if architecture and source.network != {"architecture": architecture}:
        return cannot(OTHER_NETWORK)
    if source.withheld:
        return cannot(source.withheld)
    if source.seeds < claims.fewest_seeds:
        return cannot("too few seeds")
    if source.iterations < claim.horizon:
        return cannot("too few iterations")
    for need in claim.needs:
        if verdict(claims.claim(need), source, claims).word != REPLICATED:
            return cannot(f"{NO_TIME}: {need} is not replicated here")
    outcomes = [judge(part, source, claims, source.level_of(claim.id)) for part in claim.parts]
    found = {outcome.holds for outcome in outcomes}
    if found >= {True, False}:
        return Verdict(claim, source, PARTLY, "", outcomes, seen)
    if None in found:
        open_ = next(outcome for outcome in outcomes if outcome.holds is None)
        return cannot(f"{open_.part.says}: {open_.why}", outcomes)
    return Verdict(claim, source, REPLICATED if found == {True} else NOT, "", outcomes, seen)


def verdicts(claims: Claims, sources: list[Source], swept: Iterable[Source] = ()) -> list[Verdict]:
    """Every claim on every source, claim by claim; one that is over several models on each study
    that has them, among the models that are `swept`, too.
    """
    found = []
    for claim in claims.claims:
        own = conditions([*sources, *swept], claim.over) if claim.over else sources
        found += [verdict(claim, source, claims) for source in own]
    return found
