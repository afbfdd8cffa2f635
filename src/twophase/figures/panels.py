"""A figure is rows of panels and a caption; here they are laid out on a page of any width."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from twophase.errors import StudyError
from twophase.figures import style

LEAST = 2.1  # inches that a panel needs to be read
PAGE = 9.0  # inches that a page is high
CHARACTERS, LETTERS = 12.5, 16.5  # of a title and of a label, in an inch
LINE = 1.55 * (style.SIZE - 0.7) / 72  # inches of a line of a legend or a title


class Panel(NamedTuple):
    """A panel: what draws it, and the title that a stranger understands. Panels that `share` have
    one scale. Of its `values` the caption counts those that no axis can show; `also` is what else
    the caption says of it, once for all panels that say the same.
    """

    draw: Callable[[Axes], object]
    title: str = ""
    share: str = ""
    projection: str | None = None
    height: float = 1.6  # below title and legend, in inches
    width: float = 1.0  # beside others in its row
    values: Sequence[float] = ()
    also: str = ""


class Page(NamedTuple):
    """A figure: its panels, and what they show, in words."""

    rows: list[list[Panel]]
    caption: str


def composed(
    page: Page, width: float = style.WIDTH, panel: str | None = None, caption: bool = False
) -> Figure:
    """The page as a figure of so many inches, or one `panel` of it by its letter; with the
    `caption` below where that is wanted. Of rows that are too wide, panels stand below each other.

    Raises `StudyError` if there is no such panel.
    """
    rows = _lettered(page, panel)
    most = max(map(len, rows))
    columns = -(-most // -(-most // max(1, int(width / LEAST))))  # four are two and two, not three
    lines = [row[at : at + columns] for row in rows for at in range(0, len(row), columns)]
    widths = [max((line[at][1].width for line in lines if at < len(line)), default=1)
              for at in range(columns)]  # fmt: skip
    figure = Figure((width, 1), layout="constrained")
    grid = figure.add_gridspec(len(lines), columns, width_ratios=widths)
    drawn: list[list[Axes]] = []
    shared: dict[str, list[Axes]] = {}
    titles: list[str] = []
    seen: list = []
    heads = []
    for index, line in enumerate(lines):
        drawn.append([])
        heads.append(0.0)
        for column, (letter, each) in enumerate(line):
            stop = column + 1 if column + 1 < len(line) else columns  # the last fills its line
            ax = figure.add_subplot(grid[index, column:stop], projection=each.projection)
            each.draw(ax)
            title = "" if each.title in titles else each.title
            titles.append(title)
            inches = width * sum(widths[column:stop]) / sum(widths)
            heads[-1] = max(heads[-1], LINE * _head(ax, letter, title, inches, seen))
            drawn[-1].append(ax)
            if each.share:
                shared.setdefault(each.share, []).append(ax)
        if columns == 1:
            seen.clear()  # the first panel is far away
    for together in shared.values():
        limits = [ax.get_ylim() for ax in together]
        for ax in together:
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
            if ax.get_yscale() == "log":
                style.few_ticks(ax.yaxis, *ax.get_ylim())
    heights = [max(each.height for _, each in line) for line in lines]
    grid.set_height_ratios(heights)  # of the axes alone
    needed = sum(heads)
    if columns > 1:
        needed -= _without_labels_that_stand_below(drawn)
        squeezed = np.clip((PAGE - needed) / sum(heights), 0.75, 1)
        heights = [squeezed * height for height in heights]
    for axes, height in zip(drawn, heights, strict=True):
        for ax in axes:
            ax.set_ylabel(_along(ax.get_ylabel(), height))
    needed += LINE * (style.signs_legend(figure) + (note(figure, page.caption) if caption else 0))
    figure.set_size_inches(width, sum(heights) + needed + 0.1)
    return figure


def _lettered(page: Page, panel: str | None) -> list[list[tuple[str, Panel]]]:
    """The panels in their rows, each with its letter; or only the `panel` of that letter."""
    letters = [a + b for a in ("", *ascii_lowercase) for b in ascii_lowercase]
    letters = letters[: sum(map(len, page.rows))]
    place = iter(letters)
    rows = [[(next(place), each) for each in row] for row in page.rows]
    chosen = [[each] for row in rows for each in row if each[0] == panel]
    if panel and not chosen:
        raise StudyError(f"--panel {panel}: must be one of {', '.join(letters)}")
    return chosen or rows


def _without_labels_that_stand_below(lines: list[list[Axes]]) -> float:
    """Take the labels of x axes away where all panels below have the same. Returns the inches that
    they took.
    """
    saved = 0.0
    for line, below in pairwise(lines):
        labels = [ax.get_xlabel() for ax in line]
        if labels == [ax.get_xlabel() for ax in below][: len(labels)]:
            for ax in line:
                ax.set_xlabel("")
            saved += LINE * max(label.count("\n") + 1 for label in labels)
    return saved


def _along(label: str, height: float) -> str:
    """The label of a y axis, on two lines where it would be longer than a panel of this height."""
    if len(label.replace("$", "")) <= LETTERS * height or "$" in label.partition(" ")[0]:
        return label
    return label.replace(" (", "\n(") if " (" in label else label.replace(" ", "\n", 1)


def _head(ax: Axes, letter: str, heading: str, width: float, seen: list) -> float:
    """Letter and title above the axes, above the bars of transitions, and above the legend if it
    says more than those `seen` before. Returns how many lines they take.
    """
    found, lines, bars = ax.get_legend(), 0, style.bars(ax)
    if found:
        title, texts = found.get_title().get_text(), found.get_texts()
        said = [(title, text.get_text(), *_looks(handle))
                for text, handle in zip(texts, found.legend_handles, strict=True)]  # fmt: skip
        if all(entry in seen for entry in said):
            found.remove()
        else:
            seen += said
            lines = -(-len(texts) // found._ncols) + bool(title)
            found.set_bbox_to_anchor((0, 1), ax.transAxes + style.above(ax, bars))
    text = textwrap.fill(heading, max(12, int(CHARACTERS * width) - 4))
    text = text.replace("$", r"\$") if text.count("$") == 1 else text
    ax.set_title(rf"$\bf{{{letter}}}$  {text}", pad=4 + bars + lines * LINE * 72, loc="left")
    return lines + bars / (LINE * 72) + text.count("\n") + 1


def _looks(handle: Artist) -> tuple:
    """What tells an entry of a legend from others with the same words."""
    if isinstance(handle, Line2D):
        return to_hex(handle.get_color()), handle.get_marker(), handle.get_linestyle()
    return (handle,)


def note(figure: Figure, text: str) -> int:
    """Small print under the figure: the paragraphs of `text`, wrapped. Returns how many lines."""
    columns = int(18.3 * figure.get_figwidth())
    lines = [textwrap.fill(p, columns, break_on_hyphens=False) for p in text.splitlines()]
    shown = "\n".join(lines)
    figure.supxlabel(
        shown, fontsize=style.SIZE - 1, color="0.3", x=0.01, ha="left", parse_math=False
    )
    return shown.count("\n") + 1
