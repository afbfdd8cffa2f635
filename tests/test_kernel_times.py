"""`kernel.times`: kernels at iterations that the study names, close together or far apart."""

import math

import numpy as np
import pandas as pd
import pytest

from twophase.errors import StudyError
from twophase.figures import drawing, fig4, tables
from twophase.figures.panels import composed
from twophase.stages.across_seeds import across_seeds
from twophase.stages.summary import summary
from twophase.store.artifacts import read_table
from twophase.study import stages
from twophase.study.run import Run, runs
from twophase.study.studyfile import load

TIMES = [0, 1, 2, 4, 7, 12]
CONE = ("cone", "kernel_content", "kernel_distance", "kernel_projection")


@pytest.fixture
def study(raw, write_study):
    """The smoke study's VGG with kernels at the times given, or on the grid given."""

    def with_kernels(**grid):
        raw["models"].pop("resnet", None)
        raw["kernel"] = {"examples_per_class": 1, "kind": "full", "references": [0, 4]}
        raw["kernel"] |= {"intervals": [1, 6], **grid}
        return load(write_study(raw))

    return with_kernels


def _tables(study):
    """The tables of its cone, made if need be."""
    run = Run(study, "vgg", 0)
    stages.imported("data")(study)
    for stage in ("base", "kernel", "cone"):
        if stage in stages.missing(run):
            stages.imported(stage)(run)
    return {name: read_table(stages.run_table(run, name)) for name in CONE}


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"times": TIMES, "every": 1}, "kernel.times = .*: takes the place of every and until"),
        (
            {"times": [0, 4, 13], "intervals": [9]},
            "kernel.times = 13: lies after the end of training; .* = 12",
        ),
        ({"times": [4, 0, 1, 7]}, "kernel.times = .*: must rise"),
        ({"times": [0, 4], "intervals": [4]}, "kernel.times = .*: are fewer than three"),
        ({"times": TIMES, "references": [0, 3]}, "kernel.references = 3: is no kernel's time"),
        ({"times": TIMES, "intervals": [9]}, "kernel.intervals = 9: joins no two of kernel.times"),
        ({"until": 12}, "kernel.every: is missing; kernel.times may"),
    ],
)
def test_mistakes_are_one_line(study, grid, said):
    with pytest.raises(StudyError, match=said) as told:
        study(**grid)
    assert "\n" not in str(told.value)


def test_even_times_are_the_grid_bit_for_bit(study, in_tmp):
    named = _tables(study(times=[0, 4, 8, 12], intervals=[4, 8]))
    spaced = _tables(study(every=4, until=12, intervals=[4, 8]))
    for name in CONE:
        pd.testing.assert_frame_equal(named[name], spaced[name], check_exact=True)


def test_distances_are_those_of_a_full_grid_at_these_times(study, in_tmp):
    ours = _tables(study(times=TIMES))["kernel_distance"]
    full = _tables(study(every=1, until=12))["kernel_distance"]
    theirs = full[full["t"].isin(TIMES) & full["u"].isin(TIMES)].reset_index(drop=True)
    assert ours["t"].unique().tolist() == TIMES
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-9, atol=1e-12)


def test_velocity_and_exponent_are_over_the_iterations_that_pass(study, in_tmp):
    tables = _tables(study(times=TIMES))
    s = tables["kernel_distance"].pivot(index="t", columns="u", values="distance")
    cone = tables["cone"].set_index("t")
    for t, after in zip(TIMES, TIMES[1:], strict=False):
        expected = s.loc[t, after] / (after - t)
        assert cone.loc[t, "velocity"] == pytest.approx(expected, rel=1e-12)
    assert math.isnan(cone.loc[12, "velocity"])
    for t in TIMES:
        later = [u for u in TIMES if t < u <= t + 6]
        if len(later) < 3:
            assert math.isnan(cone.loc[t, "exponent"])
            continue
        line = np.polyfit(np.log([u - t for u in later]), np.log(s.loc[t, later]), 1)
        assert cone.loc[t, "exponent"] == pytest.approx(line[0], rel=1e-9)
    assert cone["exponent"].notna().tolist() == [True, True, False, False, False, False]


def test_all_figures_of_kernels_are_drawn_at_these_times(raw, study, in_tmp):
    raw["seeds"], raw["across_seeds"] = [0, 1], {}
    found = study(times=TIMES)
    stages.imported("data")(found)
    for run in runs(found):
        for stage in ("base", "fork", "chaos", "kernel", "cone", "curvature"):
            stages.imported(stage)(run)
    across_seeds(found)
    for name in stages.tables_of(found):
        if stages.STAGE_OF[name] in ("base", "chaos", "cone", "across_seeds", "curvature"):
            summary(found, name)
    for figure in ("fig1", "fig2", "fig4", "fig5", "s3", "s4"):
        drawing.draw(found, figure, in_tmp / "figures")
    page = fig4.draw(found, tables(found, "fig4"))
    assert "not evenly spaced" in page.caption
    panel = composed(page).axes[0]
    ticks = {int(text.get_text()): text.get_position()[0] for text in panel.get_xticklabels()}
    assert len(ticks) > 2
    assert all(place == TIMES.index(t) + 0.5 for t, place in ticks.items())
