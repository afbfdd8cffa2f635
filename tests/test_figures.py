"""Figures hide no value, say what was done and nothing else, fit on their page, and leave the
caller's matplotlib alone.
"""

import dataclasses
import subprocess
import sys
from typing import Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ENVIRONMENT, ROOT
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import twophase
from twophase.errors import StudyError
from twophase.estimators import phases
from twophase.estimators.seeds import CannotSay, Estimate
from twophase.figures import (
    FIGURES,
    answer,
    drawing,
    findings,
    lines,
    load,
    names,
    panels,
    paper,
    s6,
    style,
)
from twophase.store.artifacts import read_table
from twophase.study import studyfile
from twophase.study.chaos import Perturbation
from twophase.writeup import sources, transitions

TIMED = ("chaos", "kernel_distance", "training")  # what says when a transition comes
DIGITS = ROOT / "paper/measurements/digits/digits.yaml"
DRAWN = [name for name in FIGURES if name not in ("findings", "s2", "s7")]  # that digits has


@pytest.fixture(scope="module")
def digits():
    return studyfile.load(DIGITS)


def page(study, figure, file=DIGITS):
    with style.theme():
        return load(figure).draw(study, drawing.published_tables(study, file, figure))


def composed(shown, *arguments, **options):
    with style.theme():
        figure = panels.composed(shown, *arguments, **options)
        figure.draw_without_rendering()
    return figure


@pytest.fixture
def changed(monkeypatch):
    """Have figures read tables that a function changes."""

    def change(function):
        monkeypatch.setattr(style, "read_table", lambda result: function(read_table(result)))

    return change


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 9.0], "linear"),
        ([1e-5, 1e-3], "log"),
        ([0.0, 1e-5, 1e-3], "symlog"),
        ([-40.0, 3.0, 100.0], "symlog"),
        ([-3.0, 4.0], "linear"),
        ([0.0, 0.0], "linear"),
        ([np.nan, 1.0, 50.0], "log"),
    ],
)
def test_an_axis_is_logarithmic_where_values_span_a_factor_of_ten_and_shows_all(values, scale):
    with style.theme():
        ax = Figure().subplots()
        style.scale(ax, values)
        ax.plot(values)
        assert ax.get_yscale() == scale
        low, high = ax.get_ylim()
        finite = [value for value in values if np.isfinite(value)]
        shown = ax.transData.transform([[0, value] for value in finite])
        assert np.isfinite(shown).all()
        assert low <= min(finite) <= max(finite) <= high


def _upside_down(table):
    """A table in which the first seed's measures are negative, and one is zero."""
    measures = [c for c in ("batch_sharpness", "alignment", "velocity", "l2") if c in table]
    for measure in measures:
        table[measure] = np.where(table["seed"] == 0, -table[measure], table[measure])
    for measure in {"dissimilarity", "trace", "test_loss", "test_barrier"} & set(table):
        table.loc[table.index[0], measure] = 0.0
    return table


@pytest.mark.parametrize("figure", [name for name in DRAWN if name not in ("fig4", "s5")])
def test_no_axis_hides_a_value(figure, digits, changed):
    changed(_upside_down)
    drawn = composed(page(digits, figure))
    lines = 0
    for ax in (ax for ax in drawn.axes if ax.name != "3d" and ax.get_label() != "<colorbar>"):
        for line in ax.lines:
            x, y = (np.asarray(values, float) for values in (line.get_xdata(), line.get_ydata()))
            if line.get_transform() == ax.transData and np.isfinite(y).any():
                y, x = y[np.isfinite(y)], x[np.isfinite(y)]
                places = ax.transData.transform(np.column_stack([x, y]))
                assert np.isfinite(places).all(), (figure, ax.get_ylabel())
                box = ax.get_window_extent()
                assert places[:, 1].min() > box.y0 - 1, (figure, ax.get_ylabel())
                assert places[:, 1].max() < box.y1 + 1, (figure, ax.get_ylabel())
                lines += 1
    assert lines > 5


def test_a_thick_line_is_a_median_on_a_logarithmic_axis_and_a_mean_on_a_linear_one(digits):
    drawn = composed(page(digits, "fig3"))
    chaos = twophase.load("digits", "chaos", published=True, root=ROOT)
    own = chaos.query("model == 'vgg' and direction == '1' and t0 == 0").groupby("t1")
    for ax, expected in zip(
        drawn.axes[:2], (own["dissimilarity"].median(), own["test_barrier"].mean()), strict=True
    ):
        thick = next(
            line for line in ax.lines if line.get_linewidth() > 1 and len(line.get_xdata())
        )
        assert thick.get_ydata() == pytest.approx(expected.to_numpy())


@pytest.mark.filterwarnings("error::UserWarning")
def test_flips_are_told_only_of_what_a_network_has(digits, changed):
    smooth = {"gates": 0, "winners": 0}

    def without(*columns):
        def change(table):
            for column in {*columns} & set(table):
                table[column] = smooth[column]
            if "first_flip" in table and len(columns) == 2:
                table = table.assign(first_flip=np.inf, flip_free_factor=1.5)
            if "measure" in table and len(columns) == 2:  # the summary
                flip = table["measure"] == "first_flip"
                table.loc[flip, ["mean", "low", "high"]] = np.inf
            return table

        return change

    def told():
        tables = drawing.published_tables(digits, DIGITS, "findings")
        return page(digits, "s1").caption, findings.draw(digits, tables)

    for text in told():
        assert "a ReLU gate or a pooling winner" in text
    changed(without("winners"))
    for text in told():
        assert "a ReLU gate" in text
        assert "pooling" not in text
    changed(without("gates", "winners"))
    composed(page(digits, "s1"))
    caption, found = told()
    for word in ("gate", "winner", "flip", "Dots", "inf ", "inf [", "nan"):
        assert word not in caption + found


def test_batch_norm_is_named_only_where_measuring_it_again_changes_something(digits, changed):
    def same(table):
        if "recalibrated_barrier" in table:
            table["recalibrated_barrier"] = table["test_barrier"]
        return table

    shown = page(digits, "s6")
    texts = [t.get_text() for t in composed(shown, panel="d").axes[0].get_legend().get_texts()]
    assert texts == list(s6.BARRIERS.values())
    assert "batch norm" in shown.caption
    changed(same)
    shown = page(digits, "s6")
    texts = [t.get_text() for t in composed(shown, panel="d").axes[0].get_legend().get_texts()]
    assert texts == ["as they are", "units matched"]
    assert "batch norm" not in shown.caption
    assert "batch norm" not in page(digits, "fig6").caption.lower()


class Other(Perturbation):
    """A perturbation of a kind of its own, of some parameters."""

    kind: Literal["std", "sign"]
    layers: list[str] = []


def _perturbed(study, perturbation):
    chaos = study.models["vgg"].chaos.model_copy(update={"perturbation": perturbation})
    vgg = study.models["vgg"].model_copy(update={"chaos": chaos})
    return study.model_copy(update={"models": study.models | {"vgg": vgg}})


def test_captions_say_what_was_perturbed_and_how(digits):
    plain = page(digits, "fig3").caption
    assert "Gaussian noise of elementwise standard deviation 1e-07" in plain
    norms = twophase.load("digits", "chaos", published=True, root=ROOT)
    norms = norms.query("direction != 'control'")["perturbation_l2"]
    assert f"its L2 norm was {norms.min():.2g} to {norms.max():.2g}" in plain

    study = _perturbed(digits, Other(kind="sign", size=0.5))
    told = page(study, "fig3").caption
    assert "a perturbation of kind sign and size 0.5 or Gaussian noise" in told
    study = _perturbed(digits, Other(kind="std", size=1e-3, layers=["head", "norm"]))
    for figure in ("fig1", "fig3", "s6"):
        told = page(study, figure).caption
        assert "deviation 0.001 (layers: head, norm) or" in told
        assert "each parameter" not in told


def test_titles_name_network_and_images_and_tell_models_apart(digits, raw, write_study):
    assert names.titles(digits) == {
        "vgg": "VGG (small, 0.5 × width), digits",
        "resnet": "ResNet-8, digits",
    }
    swept = studyfile.load(DIGITS.parents[1] / "digits-activation/digits-activation.yaml")
    assert list(names.titles(swept).values())[:2] == [
        "VGG (small, 0.5 × width, relu), digits",
        "VGG (small, 0.5 × width, gelu), digits",
    ]
    raw["models"] = {
        "a": {"network": {"architecture": "resnet8", "activation": "gelu"}},
        "b": {"network": {"architecture": "resnet8", "activation": "gelu"}},
    }
    told = names.titles(studyfile.load(write_study(raw)))
    assert told["a"] == "ResNet-8 (gelu), digits (a)"
    raw["models"] = {"a": {"network": {"torchvision": "resnet18"}}}
    raw["data"]["images"] = {
        "source": "folder",
        "path": "x/cifar10-jpeg.tar.xz",
        "sha256": "0" * 64,
    }
    raw["data"]["images"]["image_size"] = 32
    raw["sweep"] = {"training.lr": [0.1, 0.2]}
    told = names.titles(studyfile.load(write_study(raw)))
    assert list(told.values()) == [f"resnet18, CIFAR-10, lr\xa0{lr}" for lr in (0.1, 0.2)]


def test_the_papers_numbers_are_marked_for_its_networks_alone(digits):
    for name, expected in (("cifar10-lite", 1), ("cifar10-narrow", 0), ("digits", 0)):
        file = DIGITS.parents[1] / name / f"{name}.yaml"
        study = studyfile.load(file)
        marks = [paper.marks(study, model, "test_barrier") for model in study.models.values()]
        assert sum(map(len, marks)) == expected
        told = page(study, "fig3", file).caption
        assert (paper.SAID in told) == bool(expected)


@pytest.mark.parametrize("width", [3.25, 7.2])
@pytest.mark.parametrize("figure", DRAWN)
def test_all_letters_lie_on_the_page_and_are_legible(figure, width, digits):
    drawn = composed(page(digits, figure), width)
    assert drawn.get_figwidth() == width
    letters = [ax.get_title(loc="left") for ax in drawn.axes if ax.get_title(loc="left")]
    assert letters[0].startswith(r"$\bf{a}$")
    assert len({title.split("$")[1] for title in letters}) == len(letters)
    box = drawn.get_tightbbox()  # inches
    assert -0.03 < box.x0 < box.x1 < width + 0.03
    assert -0.03 < box.y0 < box.y1 < drawn.get_figheight() + 0.03
    texts = [text for text in drawn.findobj(mpl.text.Text) if text.get_text().strip()]
    assert len(texts) > 10
    assert min(text.get_fontsize() for text in texts) >= 5.4
    assert min(ax.get_window_extent().width for ax in drawn.axes if ax.get_title(loc="left")) > 90


def test_a_panel_is_drawn_alone_with_its_letter_and_title(digits):
    shown = page(digits, "fig3")
    alone = composed(shown, 3.25, panel="b")
    (ax,) = alone.axes
    assert ax.get_ylabel() == "test loss barrier (nats)"
    assert ax.get_title(loc="left").startswith(r"$\bf{b}$  VGG (small")
    with pytest.raises(StudyError, match="--panel z: must be one of a, b, c, d, e, f"):
        composed(shown, panel="z")


def test_a_network_without_barriers_gets_a_sentence(digits):
    drawn = composed(page(digits, "fig3"))
    said = [text.get_text() for ax in drawn.axes for text in ax.texts]
    told = [text for text in said if "no barrier above" in text]
    assert told == ["no barrier above\n0.1 nats:\nthe largest is 0.003"]


def test_values_that_are_compared_have_one_scale_and_drops_of_the_rate_are_marked(digits):
    for figure in ("fig3", "fig5"):
        drawn = composed(page(digits, figure))
        limits = {}
        for ax in drawn.axes:
            if ax.get_label() != "<colorbar>" and ax.name != "3d":
                key = "S" if "S(" in ax.get_ylabel() else ax.get_ylabel()
                limits.setdefault(key, set()).add((ax.get_ylim(), ax.get_yscale()))
                assert "drop" in style.signs([ax])
        assert "lr / 10" in [text.get_text() for text in drawn.legends[0].get_texts()]
        assert all(len(each) == 1 for each in limits.values()), limits


def test_bars_of_transitions_hide_no_data_and_no_legend(digits):
    drawn = composed(page(digits, "fig1"), 3.25)
    bars = 0
    for ax in drawn.axes:
        for bar in (each for each in ax.collections if each.get_label()[1:] in style.SIGNS):
            box = bar.get_window_extent()
            assert box.y0 > ax.get_window_extent().y1
            assert box.y1 < ax.get_legend().get_window_extent().y0
            bars += 1
    assert bars > 4


@pytest.mark.parametrize(("count", "columns"), [(3, 3), (5, 3), (6, 3), (9, 3), (1, 1)])
def test_a_legend_is_read_line_by_line_and_is_no_wider_than_its_panel(count, columns):
    labels = [f"{1000 * at} steps" for at in range(count)]
    with style.theme():
        ax = Figure((3.25, 3)).subplots()
        for label in labels:
            ax.plot([0, 1], label=label)
        style.legend(ax)
        ax.figure.draw_without_rendering()
    found = ax.get_legend()
    boxes = {text.get_text(): text.get_window_extent() for text in found.get_texts()}
    read = sorted(boxes, key=lambda label: (-round(boxes[label].y0), boxes[label].x0))
    assert read == labels
    assert found._ncols == columns
    assert found.get_window_extent().width < ax.get_window_extent().width * 1.2


def test_lines_told_by_words_differ_in_grey_and_markers_are_the_same_in_all_panels():
    rows = [("a", "0", 1.0, 1.0), ("b", "0", 1.0, 2.0), ("a", "0", 2.0, 1.0), ("b", "0", 2.0, 2.0)]
    frame = pd.DataFrame(rows, columns=["line", "run", "t", "value"])
    with style.theme():
        words, numbers = Figure().subplots(1, 2)
        style.curves(words, frame, "t", "line", {"a": "k", "b": "k"})
        frame["line"] = frame["line"].map({"a": 10, "b": 30})
        palette = dict.fromkeys((10, 20, 30), "k")
        style.curves(numbers, frame, "t", "line", palette, markers=True)
    dashes = {str(line._dash_pattern) for line in words.lines if len(line.get_xdata())}
    assert len(dashes) == 2
    markers = [line.get_marker() for line in numbers.lines if len(line.get_xdata())]
    assert markers == [style.MARKERS[0], style.MARKERS[2]]


ALONE = """
import matplotlib as mpl
mpl.rcParams.update({"lines.linewidth": 7.5, "font.size": 21, "backend": "svg"})
import matplotlib.pyplot as plt
before, blue = dict(mpl.rcParams), mpl.colors.to_rgb("b")
mine = plt.figure()
import twophase
from twophase.figures import FIGURES, load
for figure in FIGURES:
    load(figure)
drawn = twophase.draw("digits", "fig3", width=3.25, panel="b", published=True)
assert drawn.get_figwidth() == 3.25 and len(drawn.axes) == 1
assert drawn.axes[0].yaxis.label.get_fontsize() < 10
after = dict(mpl.rcParams)
assert before == after, {k for k in after if before.get(k) != after[k]}
assert mpl.get_backend() == "svg" and mpl.colors.to_rgb("b") == blue
assert plt.get_fignums() == [mine.number]
import os
assert os.environ["MPLBACKEND"] == "pdf"
"""


def test_importing_and_drawing_leave_the_callers_matplotlib_alone():
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src"), "MPLBACKEND": "pdf"}
    subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, env=environment, check=True)


def test_what_a_journal_asks_for_has_a_file_of_its_own(digits, tmp_path):
    drawing.redraw(digits, DIGITS, "fig2", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fig2.pdf", "fig2.png", "fig2.txt"]
    text = (tmp_path / "fig2.txt").read_text()
    assert text.startswith("Handwritten digits, two small networks. The protocol of this")
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text("axes.labelsize: 19\nsvg.fonttype: none")
    wanted = {"format": "svg", "width": 3.25, "panel": "b", "style_sheet": sheet, "caption": True}
    drawing.redraw(digits, DIGITS, "fig2", tmp_path, **wanted)
    svg = (tmp_path / "fig2b.svg").read_text()
    assert 'width="234pt"' in svg
    assert "19px" in svg
    assert "accuracy (share)" in svg
    assert "The protocol" in svg.replace("\n", " ")  # the caption
    drawing.redraw(digits, DIGITS, "fig2", tmp_path, format="eps")
    assert (tmp_path / "fig2.eps").read_bytes().startswith(b"%!PS")


def test_no_figure_stays_open(digits, tmp_path):
    before = plt.get_fignums()
    drawing.redraw(digits, DIGITS, "fig6", tmp_path)
    assert plt.get_fignums() == before


def test_times_in_figures_are_those_of_the_write_up(digits):
    found = drawing.published_tables(digits, DIGITS, "answer")
    marks = style.transitions(digits, found)
    source = next(
        s for s in sources.sources(DIGITS.parents[1]) if (s.study, s.name) == ("digits", "vgg")
    )
    for what, quantity in (("chaos", transitions.chaos_time), ("cone", transitions.entry_time)):
        assert marks["vgg"][what].mean == quantity(source)
    assert answer._ratio(marks["vgg"]).startswith(
        f"{transitions.same_time_entry(source).value:.2g}"
    )
    assert marks["vgg"]["chaos"].each.equals(transitions.chaos_times(source))
    with pytest.raises(CannotSay) as why:
        transitions.chaos_time(dataclasses.replace(source, name="resnet", tables=_of("resnet")))
    assert marks["resnet"]["chaos"] == str(why.value)


def _of(model):
    each = {t: twophase.load("digits", t, published=True, root=ROOT) for t in TIMED}
    return {name: table[table["model"] == model] for name, table in each.items()}


def test_each_seed_lies_in_the_plane_where_its_times_do(digits):
    shown = page(digits, "answer")
    (ax,) = composed(shown, panel="b").axes
    marks = style.transitions(digits, drawing.published_tables(digits, DIGITS, "answer"))["vgg"]
    signs = [
        line for line in ax.lines if line.get_marker() in style.MARKERS and line.get_zorder() == 3
    ]
    assert len({line.get_marker() for line in signs}) == len(signs)
    drawn = [line.get_xydata()[0] for line in signs if line.get_fillstyle() == "full"]
    drawn = [(float(x), float(y)) for x, y in drawn]
    expected = []
    for (_, chaos), (_, cone) in zip(
        marks["chaos"].each.iterrows(), marks["cone"].each.iterrows(), strict=True
    ):
        low, high = np.clip([chaos["low"], chaos["high"]], *ax.get_xlim())
        assert cone["low"] == cone["high"]
        expected.append((np.sqrt(low * high), cone["low"]))
    assert np.allclose(sorted(drawn), sorted(expected))
    assert "ResNet-8, digits: no end of chaos is marked" in shown.caption


def test_a_time_without_an_end_leaves_the_axis_of_the_grid(digits):
    marks = style.transitions(digits, drawing.published_tables(digits, DIGITS, "answer"))["vgg"]
    ends = marks["chaos"].ends
    each = pd.DataFrame({"low": [40.0], "high": [np.inf]}, index=[0])
    endless = phases.Times(each, Estimate(np.inf, 40.0, np.inf, 1), 500)
    with style.theme():
        ax = Figure().subplots()
        answer._doses(digits, "vgg", ends, {"cone": endless}, ax)
    assert ax.get_xlim()[1] == pytest.approx(1.08 * ends["t0"].max())


@pytest.mark.parametrize(
    ("times", "sign"), [((10, 40), 1), ((0, 40), 0), ((0, np.inf), 0), ((20, 20), 1)]
)
def test_a_transition_has_a_sign_only_where_its_mean_is_bounded(times, sign):
    low, high = times
    mean = (low * high) ** 0.5 if low else 0.0
    each = pd.DataFrame({"low": [low], "high": [high]}, index=[0])
    found = phases.Times(each, Estimate(mean, low, high, 1), 100)
    with style.theme():
        ax = Figure().subplots()
        ax.set_xlim(0, 100)
        style.mark_transitions(ax, {"chaos": found, "cone": "has no table"})
    bars = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(bars) == 1
    (start, _), (stop, _) = bars[0].get_segments()[0]
    assert (start, stop) == (low, min(high, 100))
    assert len(ax.collections) - 1 == (sign if np.isfinite(high) else 0)
    assert ax.get_xlim() == (0, 100)


def test_a_caption_makes_the_page_longer_and_no_panel_smaller(digits):
    shown = page(digits, "fig3")
    plain, told = composed(shown, 3.25), composed(shown, 3.25, caption=True)
    assert told.get_figheight() > plain.get_figheight() + 0.5
    heights = [[ax.get_window_extent().height for ax in each.axes] for each in (plain, told)]
    assert np.allclose(*heights, rtol=0.1)


def test_conditions_that_move_both_times_alike_lie_along_the_band():
    def found(time):
        each = pd.DataFrame({"low": [time, time], "high": [time, time]}, index=[0, 1])
        return phases.Times(each, Estimate(time, time / 1.2, time * 1.2, 2), 500)

    means = {str(t): {"chaos": found(float(t)), "cone": found(1.5 * t)} for t in (10, 40, 160)}
    with style.theme():
        ax = Figure().subplots()
        answer._conditions(means, "entry", ax)
    signs = [line for line in ax.lines if line.get_marker() in style.MARKERS]
    assert len({line.get_marker() for line in signs}) == 3
    places = [line.get_xydata()[0] for line in signs]
    assert np.allclose(places, [(t, 1.5 * t) for t in (10, 40, 160)])
    band = ax.collections[0].get_paths()[0].vertices
    assert all(x / 2.001 <= y <= 2.001 * x for x, y in band)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(means)


def test_a_sweep_tells_what_is_drawn_and_shows_the_loss_where_there_is_no_accuracy(monkeypatch):
    file = ROOT / "paper/measurements/digits-lr/digits-lr.yaml"
    study = studyfile.load(file)
    told = page(study, "s7", file).caption
    for said in (
        "Accuracy: at the end",
        "Barrier and disagreement: of base run",
        "Radius: largest",
    ):
        assert said in told
    monkeypatch.setattr(style, "runs", without(style.runs))
    shown = page(study, "s7", file)
    assert "Loss: at the end" in shown.caption
    assert len(shown.rows[0]) == 4


def without(runs):
    """Tables of runs of a task without accuracy."""

    def read(tables, table):
        found = runs(tables, table)
        return found[~found["measure"].str.endswith("accuracy")]

    return read


@pytest.mark.parametrize("figure", ["fig9", "fig5", "findings"])
def test_a_figure_that_the_study_does_not_have_is_named(figure, monkeypatch):
    monkeypatch.chdir(ROOT)
    said = f"digits-warmup: figure '{figure}': must be one of fig2, fig3, s7"
    with pytest.raises(StudyError, match=said):
        twophase.draw("digits-warmup", figure, published=True)


def test_panels_of_several_perturbations_have_one_scale(smoke):
    values = {"small": [0.0, 0.5], "large": [1.0, 20.0]}
    frame = pd.DataFrame(
        {"model": "vgg", "run": "0", "direction": kind, "t0": 0, "t1": t1, "measure": "apart",
         "value": value}
        for kind, each in values.items() for t1, value in zip((5, 10), each, strict=True)
    )  # fmt: skip
    asked = [lines.AGAINST("apart", "apart", log=True)]
    drawn = {}
    for kind in values:
        (panel,) = lines.row(smoke, "vgg", frame, asked, None, "", kind)
        drawn[kind] = Figure().add_subplot()
        panel.draw(drawn[kind])
        assert [*panel.values] == values[kind]
    # That of all their values: they share their limits, and one of the values is zero.
    assert {ax.get_yscale() for ax in drawn.values()} == {"symlog"}
