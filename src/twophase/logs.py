"""What the logs of jobs say: which stages have ended and what they took, and how far a bar is."""

from __future__ import annotations

import re

# The last line of a stage.
SPENT = re.compile(r"^(\w+): processor time (\S+) s to start, (\S+) s at work$", re.M)
# A bar: what is done, the percentage, how much of all, and the time left.
BAR = re.compile(r"([^\r\n]*?): +(\d+)%\|.*?\| *(\d+/\d+) \[[\d:]+<([\d:?]+)")


def stages_in(text: str) -> list[str]:
    """The stages that a job of several lists at its start; none if it does only one."""
    listed = re.search(r"^stages: (.*)$", text, re.M)
    return listed[1].split(", ") if listed else []


def after_last_stage(text: str) -> str:
    """What a log says since a stage ended in it."""
    return text.rpartition(": processor time ")[2]


def progress(text: str) -> float:
    """How far a job is, as a share: by its bar, and by the stages that it lists and has done if it
    does several.
    """
    ended = text.count(": processor time ")
    bars = re.findall(r"(\d+)%\|", after_last_stage(text))
    share = int(bars[-1]) / 100 if bars else 0
    several = stages_in(text)
    return (ended + share) / len(several) if several else share


def span(seconds: float) -> str:
    """A duration, to seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 100 else f"{hours:,} h"
