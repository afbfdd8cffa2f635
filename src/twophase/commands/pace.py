"""How long a run will still take, from what its jobs took on the cores that there are."""

from __future__ import annotations

import os
from typing import NamedTuple

from twophase.commands.logs import span

SOON = 10  # seconds of a run after which something can be said
SHOWN = 0.03  # how far a job must be for its pace to say anything


class Running(NamedTuple):
    """A running job: its rule, the seconds it has had, and how far it is, as a share."""

    rule: str
    spent: float
    far: float


class Left(NamedTuple):
    """Seconds that a run will still take, and by how much that may be wrong."""

    seconds: float
    error: float

    def __str__(self) -> str:
        """In words that promise no more than is known: never seconds.

        >>> print(Left(30, 10), Left(30, 40), Left(300, 100), sep=", ")
        less than a minute, about a minute, about 5 min
        """
        if self.seconds + self.error < 60:
            return "less than a minute"
        return "about a minute" if self.seconds < 90 else f"about {span(self.seconds)}"


def left(
    jobs: dict[str, int], took: dict[str, list[float]], running: list[Running], elapsed: float
) -> Left | None:
    """What is left of so many `jobs` of each rule, of which some `took` so many seconds each; None
    as long as nothing is known of half of them.

    A job that is late is expected to be as late again, and what waits to take as long as it. Of
    rules not seen yet, jobs are taken for short ones: summaries and figures come last. As many run
    at a time as now, whatever --cores says: where they share fewer cores, their seconds are longer.
    """
    expected, rests, unknown, seen = {}, [], [], 0.0
    for rule, count in jobs.items():
        ended, own = took.get(rule, []), [job for job in running if job.rule == rule]
        mean = sum(ended) / len(ended) if ended else 0.0
        totals = list(ended)
        for _, spent, far in own:
            if ended:
                rests.append(abs(mean - spent))
                totals += [2 * spent - mean] if spent > mean else []
            elif far > SHOWN:
                rests.append(spent / min(far, 1) - spent)
                totals.append(spent / min(far, 1))
                seen += far
        if totals:
            expected[rule] = sum(totals) / len(totals)
            rests += [expected[rule]] * (count - len(ended) - len(own))
            seen += len(ended) if count > len(ended) else 0
        else:
            unknown.append(count)
    if not expected or 2 * sum(unknown) > sum(jobs.values()) or elapsed < SOON:
        return None
    rests += [min(expected.values())] * sum(unknown)
    seconds = max(sum(rests) / max(1, len(running)), max(rests, default=0.0))
    return Left(seconds, seconds / max(seen, 1) ** 0.5)


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
