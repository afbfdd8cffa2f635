"""Intervals hold what they say they hold: 200 draws of tables whose truth is known, fixed seeds."""

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from twophase.estimators import changepoint, coincidence, columns, transition
from twophase.estimators.seeds import CannotSay, Estimate, Scale, over_seeds

DRAWS = 200
SEEDS = (3, 5, 10)
T0 = np.array([0, 10, 25, 50, 100, 300])
T = np.arange(0, 600, 20)
SCALE = Scale(T0)


def coverage(draw, estimate, truth):
    """The share of draws whose interval holds the truth; one that says nothing holds nothing."""
    found = []
    for _ in range(DRAWS):
        try:
            low, high = estimate(draw())[1:3]
        except CannotSay:
            low, high = np.inf, -np.inf
        found.append(low <= truth <= high)
    return np.mean(found)


@lru_cache
def rows(n, points, column, directions):
    index = pd.MultiIndex.from_product([range(n), points, range(directions)])
    return index.to_frame(index=False, name=["seed", column, "direction"])


def grid(n, points, column, directions=1):
    """All rows (seed, point, direction) of a table, with the number of each row's seed."""
    table = rows(n, tuple(points), column, directions).copy()
    return table, table["seed"].to_numpy()


@pytest.fixture
def rng():
    return np.random.default_rng(18)


def course(rng, n, middle, spread, noise, width=0.0):
    """A measure whose level falls by 1.5 at the place `middle`, at once or over `width`."""
    table, seed = grid(n, T, "t")
    away = SCALE.x(table["t"]) - (middle + spread * rng.normal(size=n))[seed]
    level = 1 / (1 + np.exp(-away / width)) if width else away >= 0
    return table.assign(value=-1.5 * level + noise * rng.normal(size=len(table)))


@pytest.mark.parametrize("n", SEEDS)
def test_over_seeds(rng, n):
    assert coverage(lambda: rng.normal(2, 1, n), over_seeds, 2) >= 0.9
    # Skewed, as barriers are.
    assert coverage(lambda: rng.gamma(4, 0.25, n), over_seeds, 1) >= 0.9


@pytest.mark.parametrize("n", SEEDS)
def test_fall_transition(rng, n):
    def draw():
        table, seed = grid(n, T0, "t0", 2)
        away = SCALE.x(table["t0"]) - (1.8 + 0.3 * rng.normal(size=n))[seed]
        fall = 1 / (1 + np.exp(away / 0.15))
        return table.assign(value=0.1 + 0.2 * fall + 0.005 * rng.normal(size=len(table)))

    assert coverage(draw, lambda t: transition.fall_transition(t, SCALE), SCALE.times(1.8)) >= 0.9


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize(
    ("middle", "spread", "noise", "width"),
    [(2.5, 0.2, 0.3, 0), (3, 0.2, 0.2, 0), (2, 0.3, 0.2, 0.1)],
)
def test_fall_time(rng, n, middle, spread, noise, width):
    share = coverage(
        lambda: course(rng, n, middle, spread, noise, width),
        lambda table: changepoint.fall_time(changepoint.change_points(table), SCALE),
        SCALE.times(middle),
    )
    assert share >= 0.9


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("truth", [0.4, 1.0, 2.0])
def test_coincidence(rng, n, truth):
    def times():
        own = 2 + 0.3 * rng.normal(size=n)
        other = own + np.log(truth) + 0.2 * rng.normal(size=n)
        return pd.Series(SCALE.times(other)), pd.Series(SCALE.times(own))

    assert (
        coverage(times, lambda drawn: coincidence.time_coincidence(*drawn, SCALE, 0), truth) >= 0.9
    )


def kernels(cosines, seed=0):
    t, u = np.indices(cosines.shape)
    return pd.DataFrame(
        {"seed": seed, "t": t.ravel() * 20, "u": u.ravel() * 20, "distance": 1 - cosines.ravel()}
    )


@pytest.mark.parametrize("n", SEEDS)
def test_number_of_change_points(rng, n):
    def numbers(draw):
        found = []
        for _ in range(50):
            try:
                found.append(changepoint.change_points(draw()).number)
            except CannotSay:
                found.append(None)
        return found

    one = numbers(lambda: course(rng, n, 2.5, 0.2, 0.3))
    assert sum(e is not None and e.value == 1 for e in one) >= 45

    def drift():
        table, _ = grid(n, T, "t")
        noise = 0.3 * rng.normal(size=len(table))
        return table.assign(value=-0.8 * SCALE.x(table["t"]) + noise)

    assert all(e.value == 0 for e in numbers(drift))  # a power law has no time of its own

    def decay():
        table, _ = grid(n, T, "t")
        noise = 0.15 * rng.normal(size=len(table))
        return table.assign(value=np.log(0.2 + 0.5 * np.exp(-table["t"] / 30)) + noise)

    found = numbers(decay)  # which has an end, but no point at which it is
    assert sum((e.value, e.low, e.high) == (0, 0, 1) for e in found) >= 45
    two = numbers(
        lambda: course(rng, n, 1.2, 0.05, 0.2).assign(
            value=lambda t: t["value"] - 1.5 * (t["t"] >= 300)
        )
    )
    assert sum(e is not None and e.value == 2 for e in two) >= 45
    noise = numbers(lambda: course(rng, n, 9, 0, 0.3))
    assert sum(e is None for e in noise) >= 45


def test_one_step_is_found_where_an_exhaustive_search_finds_it(rng):
    y = rng.normal(size=(5, 12))
    rss, places = changepoint._best_step(y)
    two, pairs = changepoint._best_steps(y)
    for row, least, (place,), least_of_two, pair in zip(y, rss, places, two, pairs, strict=True):

        def cost(*cuts, row=row):
            return sum(part.var() * len(part) for part in np.split(row, cuts))

        tried = {cut: cost(cut) for cut in range(2, 11)}
        assert min(tried, key=tried.get) == place
        assert np.isclose(min(tried.values()), least)
        tried = {(a, b): cost(a, b) for a in range(2, 9) for b in range(a + 2, 11)}
        assert min(tried, key=tried.get) == tuple(pair)
        assert np.isclose(min(tried.values()), least_of_two)


def test_block_boundary(rng):
    early, late = np.eye(400)[0], np.eye(400)[1]
    ways = np.array([early] * 5 + [late] * 9) + 0.01 * rng.normal(size=(14, 400))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    assert changepoint.block_boundary(kernels(ways @ ways.T)) == 5 * 20


def test_the_width_of_a_step_is_the_widest_gap_that_holds_one():
    times = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    table = pd.DataFrame([(s, t, float(t < f)) for s, f in ((0, 50), (1, 5)) for t in times])
    table.columns = ["seed", "t", "value"]
    changes = changepoint.change_points(table)
    assert changes.falls.tolist() == [50, 5]
    assert np.isclose(changepoint.step_width(changes, Scale([10])), np.log(6 / 3))


def test_half_fall_by_hand():
    table = pd.DataFrame({"seed": 0, "t0": [0, 10, 25], "value": [0.4, 0.4, 0.0]})
    x = SCALE.x([10, 25])
    assert np.isclose(transition.half_falls(table, SCALE)[0], x.mean())
    falls = transition.half_falls(table, SCALE)
    assert np.isclose(transition.gap(table, falls, SCALE), np.diff(x)[0])
    rising = table.assign(value=[0.1, 0.2, 0.3])
    assert np.isnan(transition.half_falls(rising, SCALE)[0])


def test_of_two_falls_the_larger_is_the_transition(rng):
    times = 20 * np.arange(16)
    for levels in ((3, 2, 0), (3, 1, 0)):
        level = np.repeat(levels, (4, 6, 6))
        rows = [
            (s, t, v + 0.01 * rng.normal())
            for s in (0, 1)
            for t, v in zip(times, level, strict=True)
        ]
        changes = changepoint.change_points(pd.DataFrame(rows, columns=["seed", "t", "value"]))
        assert changes.number.value == 2
        assert changes.falls.tolist() == 2 * [times[10 if levels[1] == 2 else 4]]


def test_the_interval_over_seeds_is_students():
    values = [1.0, 2.0, 4.0, 8.0]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert over_seeds(values) == pytest.approx((3.75, low, high, 4))
    assert over_seeds([1.0, 3.0]).high == pytest.approx(2 + 12.7062)  # Student's t of one degree


def test_a_column_is_estimated_at_each_point_that_there_is():
    table = pd.DataFrame({"seed": [0, 1, 0, 1], "t0": [5, 5, np.nan, np.nan], "x": [1.0, 3, 5, 7]})
    found = columns.estimate(table, "x", by="t0")
    assert found["mean"].tolist() == [2.0, 6.0]  # a point without a number is one, too
    assert columns.estimate(table[:0], "x").empty
    with pytest.raises(ValueError, match=r"level = 95: must be between 0 and 1"):
        columns.estimate(table, "x", by=["t0"], level=95)


def test_one_seed_has_no_interval():
    assert np.isnan(over_seeds([1.0])[1:3]).all()
    assert over_seeds([1.0, 1.0], resolution=0.5) == Estimate(1.0, 0.5, 1.5, 2)
    with pytest.raises(CannotSay, match="a seed has no value"):
        over_seeds([1.0, np.nan])
