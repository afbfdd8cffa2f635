import math

import pandas as pd

from twophase.figures.findings import verdict
from twophase.stages.summary import mean_and_range


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


def test_a_verdict_needs_all_runs_on_one_side():
    assert verdict(0.2, 0.3, 0.1) == "above"
    assert verdict(0.0, 0.05, 0.1) == "below"
    assert verdict(0.0, 0.3, 0.1) == "on both sides"
    assert verdict(float("nan"), float("nan"), 0.1) == "diverged"
