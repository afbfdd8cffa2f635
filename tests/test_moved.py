"""Whether what moves one time moves another: the slope over conditions."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from twophase.estimators import followed
from twophase.estimators.seeds import CannotSay
from twophase.writeup import moved


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


@pytest.mark.parametrize(
    ("moves", "by", "value"), [(-1, -1, 1), (1, -2, -0.5), (1, 2, 0.5), (-3, 2, -1.5), (0, -1, 0)]
)
def test_one_seed_has_the_ratio_and_no_interval(moves, by, value):
    moves, by = np.array([[float(moves)]] * 2), np.array([[float(by)]] * 2)
    found = followed.slope(moves, by)
    assert found.value == pytest.approx(value, abs=1e-5)
    assert np.isnan([found.low, found.high]).all()
    assert found.seeds == 1
    # Of bounds the middle counts.
    wide = np.array([[-0.25], [0.25]])
    assert followed.slope(moves + wide, by + wide).value == pytest.approx(value, abs=1e-5)
    with pytest.raises(CannotSay, match="move nothing that could be followed"):
        followed.slope(moves, 0 * by)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_move_of_unknown_size_has_an_interval_and_no_value(sign):
    least, open_ = np.linspace(1, 2, 8), np.full(8, np.inf)
    by = (least, open_) if sign > 0 else (-open_, -least)
    # A move of 3 per one of 1 to 2 or more is a slope of 3 or less, and not below 0.
    found = followed.slope((np.full(8, sign * 3.0),) * 2, by)
    assert np.isnan(found.value)
    assert 0 <= found.low < 1e-5
    assert found.high == pytest.approx(3, abs=1e-5)
    # What stays, stays.
    still = np.random.default_rng(6).normal(0, 0.1, 8)
    found = followed.slope((still, still), by)
    assert np.isnan(found.value)
    assert -0.2 < found.low < 0 < found.high < 0.2
    # Where all of what is moved is open it is beyond all bounds, which is no artefact.
    known = np.full(8, float(sign))
    assert followed.slope(by, (known, known)).value == np.inf
    one = followed.slope((np.ones(1), np.ones(1)), (by[0][:1], by[1][:1]))
    assert np.isnan(one[:3]).all()
    # So too where other seeds are open on the other side of what is moved.
    half = np.arange(8) < 4
    moves = known, np.where(half, known, -sign * np.inf)
    mixed = [np.where(half, end, known) for end in by]
    assert np.isnan(followed.slope(moves[::-sign], mixed).value)


def test_one_condition_has_no_contrast():
    with pytest.raises(CannotSay, match="fewer than 2 conditions"):
        followed.contrast([[1.0]], [[2.0]])


def times_of(seeds, time):
    """Times of seeds, each with its own."""
    each = [time * 1.1**seed for seed in seeds]
    return pd.DataFrame({"low": each, "high": each}, index=pd.Index(seeds, name="seed"))


@pytest.fixture
def made_up(monkeypatch):
    """Quantities of three conditions: chaos and kernel times of the seeds that each names."""

    def made(chaos, kernels):
        each = {str(place): place for place in range(3)}
        shift = [[0.1 * seed * place for seed in range(9)] for place in range(3)]

        def times(seeds):
            return lambda place, *_: times_of(seeds[place], 100 * 2**place).mul(
                np.exp([shift[place][seed] for seed in seeds[place]]), axis=0
            )

        monkeypatch.setattr(moved, "chaos_times", times(chaos))
        monkeypatch.setattr(moved, "kernel_times", times(kernels))
        monkeypatch.setattr(moved, "depths", lambda *_: pd.Series(np.full(3, 2.0)))
        return each

    return made


def test_seeds_that_differ_leave_no_value(made_up):
    alike, later, fewer = [[0, 1, 2]] * 3, [[1, 2, 3]] * 3, [[0, 1]] * 3
    last = [[0, 1, 2], [0, 1, 2], [1, 2]]
    for chaos, kernels in ((later, alike), (fewer, alike), (alike, fewer), (last, alike)):
        each = made_up(chaos, kernels)
        for quantity in (moved.kernel_follows, moved.covariation):
            with pytest.raises(CannotSay, match="seeds differ"):
                quantity(each, "entry")
    with pytest.raises(CannotSay, match="seeds differ"):
        moved.chaos_times_ratio(made_up(last, alike))
    # In whatever order seeds stand, each is paired with itself.
    each = made_up(alike, [[2, 0, 1]] * 3)
    for quantity in (moved.kernel_follows, moved.covariation):
        assert quantity(each, "entry").value == pytest.approx(1, abs=1e-5)
    found = moved.kernel_follows(each, "entry")
    assert found[1:3] == pytest.approx([1, 1], abs=1e-5)
    # The seeds of a condition between the first and the last are not asked of their ratio.
    ratio = moved.chaos_times_ratio(made_up([[0, 1, 2], [5], [2, 1, 0]], alike))
    assert ratio.low < 4 * np.exp(0.2) < ratio.high
