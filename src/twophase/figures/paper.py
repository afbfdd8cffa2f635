"""Numbers that arXiv 2505.13900 gives, as grey marks: read off its figures by a third party, so
approximate. paper/claims.yaml compares them.
"""

from __future__ import annotations

from matplotlib.axes import Axes

from twophase.figures import names
from twophase.figures.style import GREY
from twophase.study.model import Model, Study

END = float("inf")
Mark = tuple[float, float, float, float]  # iterations from and to, smallest and largest value
MARKS: dict[tuple[str, str], list[Mark]] = {  # of a network and a measure
    ("vgg16", "dissimilarity"): [(2500, 2500, 8e-4, 8e-4)],
    ("vgg16", "test_barrier"): [(5000, END, 1, 2)],
    ("vgg16", "disagreement"): [(2500, 2500, 0.3, 0.3), (5000, END, 0.1, 0.15)],
    ("vgg16", "reference"): [(0, END, 0.15, 0.2)],
    ("vgg16", "neighbours"): [(0, 0, 1, 1), (5000, END, 0.05, 0.05)],
    ("vgg16", "blocks"): [(2000, 2000, 0, 0)],
    ("vgg16", "test_accuracy"): [(0, 200, 0.13, 0.13), (5000, 5000, 0.82, 0.82)],
    ("resnet20", "dissimilarity"): [(100, 200, 0.06, 0.06)],
    ("resnet20", "test_barrier"): [(1000, END, 2, 2)],
    ("resnet20", "disagreement"): [(100, 100, 0.5, 0.5), (1000, END, 0.1, 0.2)],
    ("resnet20", "reference"): [(0, END, 0.15, 0.2)],
    ("resnet20", "neighbours"): [(0, 0, 0.25, 0.25), (1000, END, 0.02, 0.02)],
    ("resnet20", "blocks"): [(100, 500, 0, 0)],
    ("resnet20", "test_accuracy"): [(0, 0, 0.44, 0.44), (5000, 5000, 0.84, 0.84)],
}
SAID = "Grey: about what the paper shows, of one run"
WHICH = {"reference": "; on the left from the kernel at 0", "test_accuracy": ""}
WHICH["neighbours"] = WHICH["reference"]  # a caption tells once what is the same


def marks(study: Study, model: Model, measure: str) -> list[Mark]:
    """What the paper gives for a measure of this network; nothing, if it is not one of its own:
    another width counts, and other images.
    """
    own = getattr(model.network, "width", 0) == 1 and names.images(study) == "CIFAR-10"
    return MARKS.get((model.network.architecture, measure), []) if own else []


def mark(ax: Axes, given: list[Mark]) -> None:
    """Draw them where the axes come that far: a box, a line or a cross."""
    low, high = ax.get_xlim()
    for start, stop, least, most in given:
        if start > high:
            continue
        stop = min(stop, high)
        if start == stop:
            ax.plot([start], [least], "P", color=GREY, markersize=6, zorder=1.5, clip_on=False)
        elif least == most:
            ax.plot([start, stop], [least, least], color=GREY, linewidth=3, alpha=0.5, zorder=0.5)
        else:
            ax.fill_between([start, stop], least, most, color=GREY, alpha=0.35, lw=0, zorder=0.5)
    ax.set_xlim(low, high)


def said(measure: str) -> str:
    """A sentence on the marks."""
    return SAID + WHICH.get(measure, "; of forks, those from its first t0") + "."
