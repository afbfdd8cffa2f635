"""Whether what moves one time moves another: the slope over conditions."""

import numpy as np
import pytest
from scipy import stats

from twophase.estimators import followed
from twophase.estimators.seeds import CannotSay


def test_a_contrast_is_the_rise_from_one_condition_to_the_next():
    steps = np.arange(5.0)
    for rise in (-1.0, 0.0, 2.5):
        low, high = followed.contrast([7 + rise * steps], [7 + rise * steps])
        assert low == high == pytest.approx([rise])
    # Least squares, whatever the course.
    y = np.random.default_rng(1).normal(size=(3, 4))
    low, high = followed.contrast(y, y)
    assert low == pytest.approx(np.polyfit(np.arange(4), y.T, 1)[0])
    # Bounds are those of all courses within them; nothing is asked of the middle of five.
    low, high = followed.contrast([[0.0, 0, -np.inf]], [[1.0, 9, 1]])
    assert (low, high) == (-np.inf, 0.5)
    low, high = followed.contrast([[0.0, -np.inf, 2]], [[1.0, np.inf, 4]])
    assert (low, high) == (0.5, 2)


def test_a_slope_of_known_values_is_fiellers():
    rng = np.random.default_rng(2)
    by = rng.normal(1, 0.3, 8)
    moved = 0.8 * by + rng.normal(0, 0.3, 8)
    t, cov = stats.t.ppf(0.975, 7), np.cov(moved, by) / 8
    a, b = moved.mean(), by.mean()
    roots = np.roots(
        [b**2 - t**2 * cov[1, 1], -2 * (a * b - t**2 * cov[0, 1]), a**2 - t**2 * cov[0, 0]]
    )
    found = followed.slope((moved, moved), (by, by))
    assert found[:3] == pytest.approx([a / b, *sorted(roots)], abs=1e-5)
    assert found.seeds == 8
    # What moves the other way round is followed alike.
    down = followed.slope((-moved, -moved), (-by, -by))
    assert down[:3] == pytest.approx(found[:3], abs=1e-5)


def test_bounds_widen_a_slope_and_say_no_more_than_they_know():
    rng = np.random.default_rng(3)
    by, moved = rng.normal(1, 0.1, 8), rng.normal(1, 0.1, 8)
    exact = followed.slope((moved, moved), (by, by))
    coarse = followed.slope((moved, moved), (by - 0.3, by + 0.3))
    assert coarse.low < 1 < coarse.high
    assert coarse.high - coarse.low > exact.high - exact.low
    least, most = (by - 0.3).max(), (by + 0.3).min()
    assert coarse.low < moved.mean() / most
    assert coarse.high > moved.mean() / least
    # A kernel of which a seed says nothing adds nothing; one end may be open.
    open_ = np.r_[-np.inf, moved[1:]], np.r_[np.inf, moved[1:]]
    assert np.isfinite(followed.slope(open_, (by, by))[:3]).all()


def test_nothing_follows_what_does_not_move():
    noise = np.random.default_rng(4).normal(size=8)
    with pytest.raises(CannotSay, match="move nothing that could be followed"):
        followed.slope((noise, noise), (noise - noise.mean(), noise - noise.mean()))
    with pytest.raises(CannotSay, match="move nothing"):
        followed.slope((noise, noise), (np.full(8, -np.inf), np.full(8, 2.0)))


def test_an_error_of_what_moves_flattens_no_slope():
    """A regression on means that are off by as much as they differ would be half as steep."""
    rng, found = np.random.default_rng(5), []
    for _ in range(40):
        truth = np.linspace(0, 2, 5)
        by = truth + rng.normal(0, 0.7, (8, 5))
        moved = truth + rng.normal(0, 0.2, (8, 5))
        found.append(followed.slope(followed.contrast(moved, moved), followed.contrast(by, by)))
    assert abs(np.median([each.value for each in found]) - 1) < 0.1
    assert np.mean([each.low < 1 < each.high for each in found]) > 0.85
