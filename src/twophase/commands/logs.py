"""What the logs of jobs say: which stages have ended and what they took, and how far a bar is."""

from __future__ import annotations

import re

# The last line of a stage.
SPENT = re.compile(r"^(\w+): processor time (\S+) s to start, (\S+) s at work$", re.M)
# What a bar is of, its percentage, how much of all that is, and the time left.
BAR = re.compile(r"^(.*?): +(\d+)%\|.*?\| *(\d+/\d+) \[[\d:]+<([\d:?]+)")


def several(text: str) -> list[str]:
    """The stages that a job of several lists at its start; none if it does only one."""
    listed = re.search(r"^stages: (.*)$", text, re.M)
    return listed[1].split(", ") if listed else []


def progress(text: str) -> float:
    """How far a job is, as a share: by its bar, and by the stages that it lists and has done if it
    does several.
    """
    ended = text.count(": processor time ")
    bars = re.findall(r"(\d+)%\|", text.rpartition(": processor time ")[2])
    share = int(bars[-1]) / 100 if bars else 0
    stages = several(text)
    return (ended + share) / len(stages) if stages else share


def last_words(text: str) -> str:
    """The last line, of a bar how far it is and the time left; nothing if a stage ended there."""
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    last = lines[-1].strip() if lines else ""
    if bar := BAR.match(last):
        what, percent, done, left = bar.groups()
        return f"{what}: {percent} % ({done}), {left} left"
    return "" if SPENT.match(last) or last.startswith("stages: ") else last


def span(seconds: float) -> str:
    """A duration, to seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 100 else f"{hours:,} h"
