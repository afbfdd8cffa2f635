"""Verdicts: what the published tables say of each claim. Computed, never typed."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from twophase.estimators.seeds import CannotSay, Estimate
from twophase.writeup.claims import Claim, Claims, Part
from twophase.writeup.quantities import QUANTITIES
from twophase.writeup.sources import Source

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


class Outcome(NamedTuple):
    """Of one part: its estimate if there is one, whether it holds (None: cannot say), and why."""

    part: Part
    estimate: Estimate | None
    holds: bool | None
    why: str


class Verdict(NamedTuple):
    """What a source says of a claim; `seen` if the rule was written after looking at its study."""

    claim: Claim
    source: Source
    word: str
    why: str
    outcomes: list[Outcome]
    seen: bool


def limits(part: Part, tolerance: float) -> tuple[float, float]:
    """Between which numbers the part's quantity must lie."""
    if part.paper:
        low, high = part.paper
        return low / tolerance, high * tolerance
    low, high = part.holds.above, part.holds.below
    return (-np.inf if low is None else low), (np.inf if high is None else high)


def judge(part: Part, source: Source, claims: Claims) -> Outcome:
    """A part holds if the interval lies between its limits, does not hold if it lies outside of
    them, and if it lies across one nothing can be said.
    """
    try:
        estimate = QUANTITIES[part.quantity](source, **part.at)
    except CannotSay as reason:
        return Outcome(part, None, None, str(reason))
    if estimate.seeds < claims.fewest_seeds:
        return Outcome(part, estimate, None, "too few seeds")
    low, high = limits(part, claims.tolerance)
    if low < estimate.low and estimate.high < high:
        return Outcome(part, estimate, True, "")
    if estimate.high <= low or high <= estimate.low:
        return Outcome(part, estimate, False, "")
    return Outcome(part, estimate, None, "the interval holds both yes and no")


def verdict(claim: Claim, source: Source, claims: Claims) -> Verdict:
    """Replicated if all parts hold, not replicated if none does, partly if some do and some do
    not; else it cannot be said yet: a part is open, or seeds or iterations are too few.
    """
    seen = source.study in claims.seen

    def cannot(why: str, outcomes: list[Outcome] | None = None) -> Verdict:
        return Verdict(claim, source, CANNOT_SAY, why, outcomes or [], seen)

    study, architecture = claim.only.get("study", "*"), claim.only.get("architecture")
    if not fnmatchcase(source.study, study):
        return cannot(OTHER_DATA)
    if architecture and source.network != {"architecture": architecture}:
        return cannot(OTHER_NETWORK)
    if source.seeds < claims.fewest_seeds:
        return cannot("too few seeds")
    if source.iterations < claim.horizon:
        return cannot("too few iterations")
    outcomes = [judge(part, source, claims) for part in claim.parts]
    found = {outcome.holds for outcome in outcomes}
    if found >= {True, False}:
        return Verdict(claim, source, PARTLY, "", outcomes, seen)
    if None in found:
        open_ = next(outcome for outcome in outcomes if outcome.holds is None)
        return cannot(f"{open_.part.says}: {open_.why}", outcomes)
    return Verdict(claim, source, REPLICATED if found == {True} else NOT, "", outcomes, seen)


def verdicts(claims: Claims, sources: list[Source]) -> list[Verdict]:
    """Every claim on every source, claim by claim."""
    return [verdict(claim, source, claims) for claim in claims.claims for source in sources]
