"""A figure is rows of panels and a caption; here they are laid out on a page of any width."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from string import ascii_lowercase
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twophase.errors import StudyError
from twophase.figures import style

LEAST = 2.1  # inches that a panel needs to be read
CHARACTERS = 12.5  # of a title, in an inch
LINE = 1.55 * (style.SIZE - 0.7) / 72  # inches of a line of a legend or a title


class Panel(NamedTuple):
    """A panel: what draws it, and the title that a stranger understands. Panels that `share` have
    one scale.
    """

    draw: Callable[[Axes], object]
    title: str = ""
    share: str = ""
    projection: str | None = None
    height: float = 1.6  # below title and legend, in inches
    width: float = 1.0  # beside others in its row


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
    letters = _letters(sum(map(len, page.rows)))
    rows, place = [], iter(letters)
    for row in page.rows:
        rows.append([(next(place), each, index == 0) for index, each in enumerate(row)])
    if panel:
        chosen = [[(letter, each, True)] for r in rows for letter, each, _ in r if letter == panel]
        if not chosen:
            raise StudyError(f"--panel {panel}: must be one of {', '.join(letters)}")
        rows = chosen
    most = max(map(len, rows))
    columns = -(-most // -(-most // max(1, int(width / LEAST))))  # four are two and two, not three
    lines = [row[at : at + columns] for row in rows for at in range(0, len(row), columns)]
    widths = [max((line[at][1].width for line in lines if at < len(line)), default=1)
              for at in range(columns)]  # fmt: skip
    figure = Figure((width, 1), layout="constrained")
    grid = figure.add_gridspec(len(lines), columns, width_ratios=widths)
    shared: dict[str, list[Axes]] = {}
    titles: list[str] = []
    heights = []
    for index, line in enumerate(lines):
        seen: list = []
        heads = [0]
        for column, (letter, each, first) in enumerate(line):
            ax = figure.add_subplot(grid[index, column], projection=each.projection)
            each.draw(ax)
            title = each.title if first or (each.title and each.title not in titles) else ""
            titles.append(title)
            heads.append(_head(ax, letter, title, width * widths[column] / sum(widths), seen))
            if each.share:
                shared.setdefault(each.share, []).append(ax)
        heights.append(max(each.height for _, each, _ in line) + LINE * max(heads))
    for together in shared.values():
        limits = [ax.get_ylim() for ax in together]
        for ax in together:
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    grid.set_height_ratios(heights)
    lines = style.signs_legend(figure) + (note(figure, page.caption) if caption else 0)
    figure.set_size_inches(width, sum(heights) + LINE * lines + 0.1)
    return figure


def _letters(count: int) -> list[str]:
    """a to z, then aa to az, and so on."""
    names = ["", *ascii_lowercase]
    return [names[n // 26] + ascii_lowercase[n % 26] for n in range(count)]


def _head(ax: Axes, letter: str, title: str, width: float, seen: list) -> float:
    """Letter and title above the axes, above the bars of transitions, and above the legend if there
    is one, that is the first of its kind in the row. Returns how many lines they take.
    """
    found, lines, bars = ax.get_legend(), 0, style.bars(ax)
    if found:
        said = (found.get_title().get_text(), *(text.get_text() for text in found.get_texts()))
        if said in seen:
            found.remove()
        else:
            seen.append(said)
            lines = -(-len(found.get_texts()) // found._ncols) + bool(said[0])
            found.set_bbox_to_anchor((0, 1), ax.transAxes + style.above(ax, bars))
    text = textwrap.fill(title, max(12, int(CHARACTERS * width) - 4))
    text = text.replace("$", r"\$") if text.count("$") == 1 else text
    ax.set_title(rf"$\bf{{{letter}}}$  {text}", pad=4 + bars + lines * LINE * 72, loc="left")
    return lines + bars / (LINE * 72) + text.count("\n") + 1


def note(figure: Figure, text: str) -> int:
    """Small print under the figure: the paragraphs of `text`, wrapped. Returns how many lines."""
    columns = int(18.3 * figure.get_figwidth())
    lines = [textwrap.fill(p, columns, break_on_hyphens=False) for p in text.splitlines()]
    shown = "\n".join(lines)
    figure.supxlabel(
        shown, fontsize=style.SIZE - 1, color="0.3", x=0.01, ha="left", parse_math=False
    )
    return shown.count("\n") + 1
