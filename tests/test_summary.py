import math

import pandas as pd
import pytest
from scipy.stats import binomtest

from twophase.estimators.seeds import wilson
from twophase.figures import FIGURES, PANELS, findings
from twophase.stages.summary import mean_and_range
from twophase.study import stages


def test_mean_and_range_are_over_seeds_and_directions_but_not_controls():
    runs = pd.DataFrame(
        {
            "study": "s",
            "model": "m",
            "seed": [0, 0, 0, 1, 1, 1],
            "direction": ["1", "2", "control"] * 2,
            "t0": 0,
            "t1": 5,
            "test_barrier": [1.0, 2.0, 0.0, 4.0, 5.0, 0.0],
        }
    )
    summary = mean_and_range(runs, ["direction", "t0", "t1"]).set_index("direction")
    perturbed, control = summary.loc["perturbed"], summary.loc["control"]
    assert (perturbed["mean"], perturbed["low"], perturbed["high"]) == (3.0, 1.0, 5.0)
    assert (perturbed["runs"], control["runs"]) == (4, 2)
    assert control["high"] == 0


def test_a_run_that_is_not_a_number_is_not_hidden():
    runs = pd.DataFrame({"study": "s", "model": "m", "seed": [0, 1], "t": 0, "x": [1.0, math.nan]})
    assert mean_and_range(runs, ["t"])["mean"].isna().all()


def _ends(*barriers):
    """Barriers of runs, two directions of each seed."""
    return pd.DataFrame({"seed": [index // 2 for index in range(len(barriers))], "value": barriers})


def test_a_share_is_of_runs_and_its_interval_of_seeds():
    # Wilson's interval of 5 of 5 is [0.566, 1] and of 2.5 of 5 [0.170, 0.830]
    # (scipy.stats.binomtest and Agresti and Coull 1998), however many runs a seed has.
    assert findings.above(_ends(*[0.2] * 10), 0.1) == "10 of 10 [0.57, 1.00]"
    assert findings.above(_ends(*[0.2, 0.0] * 5), 0.1) == "5 of 10 [0.17, 0.83]"
    assert findings.above(_ends(*[0.1, 0.0] * 5), 0.1) == "0 of 10 [0.00, 0.43]"


def test_a_run_that_diverged_is_counted_as_such():
    said = findings.above(_ends(0.2, math.nan), 0.1)
    assert said.startswith("1 of 2 ")
    assert said.endswith(", 1 diverged")


def test_wilsons_interval_is_scipys():
    for count, seeds in ((0, 3), (1, 3), (4, 5), (10, 10)):
        theirs = binomtest(count, seeds).proportion_ci(method="wilson")
        assert wilson(count / seeds, seeds) == pytest.approx(tuple(theirs), abs=1e-12)


def test_every_summary_is_shown_so_that_a_study_with_all_figures_can_be_published():
    shown = {
        table
        for row in (FIGURES | PANELS).values()
        for table in row.runs + row.also + row.summaries
    }
    assert set(stages.SUMMARISED) <= shown <= set(stages.STAGE_OF)
