"""The rules decide known truths, and never the wrong way."""

import sys

import numpy as np
import pytest
from conftest import ROOT

from twophase.writeup import claims, quantities

sys.path.insert(0, str(ROOT / "benchmarks"))
import intervals  # noqa: E402
import made_up  # noqa: E402
import operating  # noqa: E402

RULES = claims.load(ROOT / "paper/claims.yaml")


def cells(rows):
    """Percent of yes and of no, by truth, claim and number of seeds."""
    found = {}
    for truth, claim, *each in rows:
        for seeds, cell in zip(operating.LEVELS, each, strict=True):
            yes, no = cell.split(" (")[0].split(" / ")
            found[truth, claim.strip("`"), seeds] = int(yes), int(no)
    return found


@pytest.fixture(scope="module")
def kernel():
    return cells(operating.kernel_verdicts(RULES, trials=12))


def test_a_time_of_its_own_is_told_from_one_that_is_not(kernel):
    for truth in ("step", "sigmoid", "decay"):
        assert kernel[truth, "cone-time-of-its-own", 16] >= (90, 0)
        assert all(kernel[truth, "cone-time-of-its-own", n][1] == 0 for n in (8, 16))
    for truth in ("power law", "walk"):
        assert all(kernel[truth, "cone-time-of-its-own", n][0] == 0 for n in (3, 8, 16))
        assert kernel[truth, "cone-time-of-its-own", 8][1] >= 90


def test_what_is_sharp_is_told_from_what_is_not(kernel):
    for truth in ("step", "sigmoid"):
        assert kernel[truth, "sharp", 8] >= (90, 0)
    for truth in ("decay", "power law"):
        assert kernel[truth, "sharp", 8][0] == 0
        assert kernel[truth, "sharp", 16][1] >= 90


def test_no_change_and_a_walk_are_no_cone(kernel):
    assert kernel["no change", "cone-entered", 8] == (0, 100)
    assert kernel["no change", "kernel-slows", 8][0] == 0
    assert all(kernel["no change", "cone-later-not-earlier", n][0] == 0 for n in (3, 8, 16))
    assert all(kernel["walk", "cone", n][0] == 0 for n in (3, 8, 16))
    assert kernel["walk", "cone", 8][1] >= 90


def test_chaos_and_late_forks():
    found = cells(operating.chaos_verdicts(RULES, trials=12))
    own = "chaos time grows as the time followed to the {}", "chaos-time-of-its-own"
    assert found[own[0].format(0), own[1], 16] >= (75, 0)
    assert found[own[0].format(0), own[1], 16][1] == 0
    assert found[own[0].format(1.5), own[1], 16][0] == 0
    assert found[own[0].format(1.5), own[1], 16][1] >= 75
    blind = next(key for key in found if "only" in key[0])
    assert all(found[(*blind[:2], seeds)] == (0, 0) for seeds in (3, 8, 16))
    assert found["chaos ends at 0.1 of the kernel's time", "same-point", 8][1] >= 75
    assert found["0% of late forks end behind a barrier", "late-stable", 8] == (0, 0)
    assert found["0% of late forks end behind a barrier", "late-stable", 16] == (100, 0)


def test_an_experiment_is_what_the_quantity_says_of_these_runs():
    made = made_up.source(kernel_distance=made_up.kernels("sigmoid", 8))
    each = operating.each_run(made)
    parts = {p.quantity: p for claim in RULES.claims for p in claim.parts if not p.at}
    for quantity in each:
        one = operating.estimate(each, parts[quantity], np.arange(8), 0.9706)
        assert one == quantities.QUANTITIES[quantity](made, level=0.9706)


def test_all_kinds_of_intervals_are_tried_and_tables_fit_the_page(tmp_path):
    rows = intervals.coverage(trials=4)
    assert len({tuple(row[:2]) for row in rows}) == len(rows) >= 20
    assert all(0 <= int(cell) <= 100 for row in rows for cell in row[2:])
    page = tmp_path / "rules.md"
    page.write_text((ROOT / "docs/rules.md").read_text())
    operating.write(page, {"coverage": "| new |"})
    text = page.read_text()
    assert "<!-- coverage -->\n\n| new |\n\n<!-- end of coverage -->" in text
    assert "<!-- kernel -->" in text
    with pytest.raises(SystemExit, match="must have <!-- none -->"):
        operating.write(page, {"none": ""})
