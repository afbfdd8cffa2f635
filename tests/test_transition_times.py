"""Times of the two transitions: known answers, and no more said than the grid says."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from twophase.estimators import changepoint, confinement, phases, times
from twophase.estimators.censored import over_intervals, shift
from twophase.estimators.seeds import (
    CannotSay,
    exact_share,
    expected_false,
    holm,
    least_error,
    over_seeds,
)
from twophase.measures import kernel


@pytest.fixture
def rng():
    return np.random.default_rng(18)


def forks(*shares, t0=(0, 4, 10, 25, 60)):
    """A row for each fork; of each seed a string, 1 where a fork ends behind a barrier."""
    rows = [(s, t, y == "1") for s, own in enumerate(shares) for t, y in zip(t0, own, strict=True)]
    return pd.DataFrame(rows, columns=["seed", "t0", "above"])


def kernels(cosines, t, seed=0):
    i, j = np.indices(cosines.shape)
    t = np.asarray(t)
    table = {"seed": seed, "t": t[i.ravel()], "u": t[j.ravel()], "distance": 1 - cosines.ravel()}
    return pd.DataFrame(table)


def along(t, away, noise, turned=lambda t: t / 100):
    """Cosines, exact, of kernels at t that are `away` (a function) off a mean direction, along a
    direction whose correlation falls as exp(-distance of `turned`), and scatter by `noise`.
    """
    t, x = np.asarray(t, float), turned(np.asarray(t, float))
    off = away(t)
    products = 1 + np.outer(off, off) * np.exp(-np.abs(x[:, None] - x[None, :]))
    products += noise * np.eye(len(t))
    length = np.sqrt(np.diagonal(products))
    return products / np.outer(length, length)


def test_chaos_ends_between_the_last_fork_with_a_barrier_and_the_first_without():
    found = times.chaos_times(forks("11000", "10000", "00000", "11111", "11100"))
    low = [4, 0, 0, 60, 10]
    assert np.allclose(found["low"], low)
    assert np.allclose(found["high"], [10, 4, 4, np.inf, 25])


def test_forks_out_of_order_share_their_time():
    (low, high), *_ = times.chaos_times(forks("11010")).to_numpy()
    assert np.isclose(low, (4 * 25) ** 0.5)  # half of it in (4, 10), half in (25, 60)
    assert np.isclose(high, (10 * 60) ** 0.5)
    # If half may lie before the first positive t0, it may lie anywhere before the other half's.
    (low, high), *_ = times.chaos_times(forks("10100")).to_numpy()
    assert low == 0
    assert np.isclose(high, (4 * 25) ** 0.5)


def test_one_positive_fork_is_no_grid():
    with pytest.raises(CannotSay, match="fewer than 2 perturbation times after 0"):
        times.chaos_times(forks("11", t0=(0, 500)))


def same_time(chaos, kernel_time, level=0.95):
    own = pd.DataFrame({"low": kernel_time, "high": kernel_time}, index=chaos.index)
    return over_intervals(*times.log_ratio(chaos, own), level)


@pytest.mark.parametrize("seeds", [3, 8, 16])
def test_a_grid_that_starts_after_all_times_says_no_same(seeds):
    """Chaos ends anywhere before 500: that is no sign that it ends where the cone begins, at 450,
    but it is one that it does not end where the cone begins at 5,000.
    """
    chaos = times.chaos_times(forks(*["100"] * seeds, t0=(0, 500, 1000)))
    near = same_time(chaos, 450.0, 0.9706)
    assert near.low == -np.inf
    assert near.high > np.log(499 / 450)
    if seeds >= 8:
        assert np.exp(same_time(chaos, 5000.0, 0.9706).high) == pytest.approx(0.1)
    # The other end: all forks end behind a barrier.
    chaos = times.chaos_times(forks(*["111"] * seeds, t0=(0, 500, 1000)))
    assert same_time(chaos, 450.0).high == np.inf


def test_equal_cells_say_no_more_than_the_cell():
    """Sixteen seeds whose chaos ends between 10 and 25 may all have any time in there."""
    chaos = times.chaos_times(forks(*["11100"] * 16))
    found = same_time(chaos, 20.0)
    assert np.exp(found.low) <= 10.001 / 20
    assert np.exp(found.high) >= 24.999 / 20


def test_known_values_give_students_t(rng):
    values = rng.normal(size=9)
    exact = over_seeds(values, level=0.97)
    assert over_intervals(values, values, 0.97) == exact
    # And values known to within a thousandth of their spread almost do.
    near = over_intervals(values - 5e-4, values + 5e-4, 0.97)
    assert np.allclose(near[:3], exact[:3], atol=0.03)


def test_a_higher_level_is_a_wider_interval(rng):
    low = rng.normal(size=8)
    low[0] = -np.inf
    high = low + 0.5
    high[0] = -1.0
    at = [over_intervals(low, high, level) for level in (0.9, 0.95, 0.9706)]
    assert at[0].low > at[1].low > at[2].low
    assert at[0].high < at[1].high < at[2].high
    first = np.stack([low, high], 1)
    moved = [shift(first, first + 0.1, level) for level in (0.9, 0.9706)]
    assert moved[0].low > moved[1].low
    assert exact_share([0, 0, 1], 0.9).high < exact_share([0, 0, 1]).high


def test_bounds_of_nothing_say_nothing():
    with pytest.raises(CannotSay, match="no seed has a bound"):
        over_intervals([-np.inf] * 3, [np.inf] * 3)
    with pytest.raises(CannotSay, match="a seed has no value"):
        over_intervals([0, np.nan], [1, 1])
    with pytest.raises(CannotSay, match="fewer than two seeds have a bound"):
        shift([[-np.inf, np.inf]] * 3, [[-np.inf, np.inf]] * 3)
    assert np.isnan(over_intervals([0], [1]).low)
    for low, high in (([2, 1], [1, 2]), ([np.inf, 1], [np.inf, 2])):
        with pytest.raises(CannotSay, match="a seed has no value"):
            over_intervals(low, high)
        with pytest.raises(CannotSay, match="a seed has no value"):
            shift([[0, 1], [0, 1]], np.stack([low, high], 1))
    for nothing in (over_seeds, exact_share, lambda none: over_intervals(none, none)):
        with pytest.raises(CannotSay, match="has no seed"):
            nothing([])


READ = {
    "entry": lambda d: times.kernel_times(d, times.entry_curve),
    "speed": lambda d: times.kernel_times(d, times.speed_curve),
    "radius": lambda d: confinement.radius_ratios(d, late=True),
    "exponent": confinement.exponent_excess,
    "blocks": changepoint.block_boundary,
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_of_kernels_that_lack_a_distance_nothing_is_said(read):
    t = np.arange(0, 2001, 100)
    whole = kernels(along(t, lambda t: 1 / (1 + t / 300), 0.01), t)
    read(whole)
    damaged = {
        "no number": whole.assign(distance=whole["distance"].where(whole["t"] != 100)),
        "twice, or lacks one": pd.concat([whole, whole[:1]]),
        "or lacks one": whole[1:],
    }
    for said, table in damaged.items():
        with pytest.raises(CannotSay, match=said):
            read(table)


def test_a_kernel_that_stays_has_no_cone_and_one_alone_no_window():
    t = np.arange(0, 2001, 100)
    with pytest.raises(CannotSay, match="does not turn"):
        confinement.radius_ratios(kernels(np.ones((len(t), len(t))), t), late=True)
    for ratio in (READ["radius"], READ["exponent"]):
        with pytest.raises(CannotSay, match="fewer than 2 kernels"):
            ratio(kernels(np.ones((1, 1)), [0]))


def test_where_the_widest_gap_comes_last_no_later_speed_is_known():
    t = np.r_[0:1000:50, 2500]
    distances = kernels(along(t, lambda t: 1 / (1 + t / 300), 0.01), t)
    with pytest.raises(CannotSay, match="no later kernels as far apart"):
        times.kernel_times(distances, times.speed_curve)


def test_a_rate_that_drops_before_the_first_kernel_leaves_no_time():
    t = np.arange(100, 2001, 100)
    distances = kernels(along(t, lambda t: 1 / (1 + t / 300), 0.01), t)
    training = pd.DataFrame({"t": [0, 50, 2000], "lr": [0.1, 0.01, 0.01]})
    with pytest.raises(CannotSay, match="no kernel before the learning rate drops"):
        phases.kernel_time(distances, training)
    with pytest.raises(CannotSay, match="near half"):
        phases.half_way([0])


def test_a_change_smaller_than_a_cell_is_seen_by_how_many_seeds_it_moves(rng):
    edges = np.log([4, 10, 25, 60, 150, 400])

    def cells(x):
        at = np.searchsorted(edges, x)
        return np.stack([np.r_[-np.inf, edges][at], np.r_[edges, np.inf][at]], 1)

    own = np.log(40) + 0.7 * rng.normal(size=60)
    found = shift(cells(own), cells(own + 0.3))
    assert found.low < 0.3 < found.high
    assert found.low > 0
    none = shift(cells(own), cells(own))
    assert none.low < 0 < none.high < 0.2
    # Of seeds that never leave one cell, the cell is all that is known.
    one = np.full((16, 2), [np.log(10), np.log(25)])
    same = shift(one, one)
    assert same.high - same.low > np.log(2.5) / 4


UNIFORM = np.arange(0, 5001, 50)
# Fine at first, then as coarse as every 250.
SPACED = np.unique(np.r_[0, np.geomspace(50, 5000, 60).round(-1), UNIFORM[::5]])
AWAY = {
    "step": lambda t: 1.5 * (t < 420),
    "sigmoid": lambda t: 1.5 / (1 + (t / 420) ** 4),
    "decay": lambda t: 1.5 * np.exp(-t / 300),
}


@pytest.mark.parametrize("name", AWAY)
def test_a_time_does_not_depend_on_the_grid(name):
    """Neither that of the entry, whose mean direction weighs kernels by the time they stand for."""
    each = []
    for t in (UNIFORM, SPACED):
        table = kernels(along(t, AWAY[name], 0.15), t)
        each.append([times.kernel_times(table, times.entry_curve, way) for way in (0.25, 0.5)])
    for one, other in zip(*each, strict=True):
        width = np.log((one["low"][0] + 50) / one["low"][0])
        assert abs(np.log(one["low"][0] / other["low"][0])) < width


def test_the_entry_is_where_the_angle_has_gone_half_its_way():
    t = np.arange(0, 5001, 10)
    found = times.kernel_times(kernels(along(t, AWAY["step"], 0.1), t), times.entry_curve)
    assert 410 <= found["low"][0] <= 420
    # Of an exponential the logarithm falls evenly: three quarters take three times a quarter.
    t = np.arange(0, 5001, 10)
    decay = along(t, lambda t: 0.2 * np.exp(-t / 300), 1e-5)
    early, late = (
        times.kernel_times(kernels(decay, t), times.entry_curve, way)["low"][0]
        for way in (0.25, 0.75)
    )
    assert late / early == pytest.approx(3, rel=0.1)


def exponent(cosines, t):
    table = kernels(cosines, t)
    whole, half = (
        times.kernel_times(table, times.entry_curve, horizon=h)["low"][0]
        for h in (t[-1], t[-1] / 2)
    )
    return np.log2(whole / half)


def test_the_horizon_exponent_of_known_truths():
    t = UNIFORM
    for name in AWAY:
        assert exponent(along(t, AWAY[name], 0.15), t) == pytest.approx(0, abs=0.1)
    walk = np.exp(-np.abs(t[:, None] - t[None, :]) / 2500)
    assert exponent(walk, t) == pytest.approx(1, abs=0.1)
    power = along(t, lambda t: 1.5 * (1 + t / 20) ** -0.4, 0, lambda t: np.log1p(t / 20))
    assert 0.4 < exponent(power, t) < 1


def test_the_speed_over_one_interval_on_a_grid_of_many():
    """S over 100 iterations, whatever the grid, though kernels stand closer at first."""
    t = np.unique(np.r_[np.arange(0, 400, 20), np.arange(400, 5001, 100)])
    cosines = along(t, AWAY["step"], 0.1)
    at, values, early, later = times.speed_curve(t.astype(float), cosines)
    index = {time: i for i, time in enumerate(t)}
    for time, value in zip(at, values, strict=True):
        if time + 100 in index:
            pair = cosines[index[int(time)], index[int(time) + 100]]
            assert value == pytest.approx(1 - pair, rel=1e-9)
    assert later == pytest.approx(1 - 1 / 1.1, rel=1e-6)
    assert early > 2 * later
    found = times.kernel_times(kernels(cosines, t), times.speed_curve)
    assert 300 <= found["low"][0] <= 500


def test_a_kernel_that_does_not_fall_may_have_any_time():
    t = UNIFORM
    rising = along(t, lambda t: t / 2000, 0.1)
    found = times.kernel_times(kernels(rising, t), times.speed_curve)
    assert found.to_numpy().tolist() == [[0, np.inf]]


def test_the_spread_over_a_walks_does_not_depend_on_the_size_of_steps():
    for size in (0.01, 0.1, 0.4):
        cloud = np.full((12, 12), 1 - size) + size * np.eye(12)
        ratio = confinement.spread(cloud) / confinement.spread(confinement.walk(cloud))
        assert ratio == pytest.approx((3 / 13) ** 0.5, rel=1e-9)
        walk = confinement.walk(cloud)
        assert confinement.spread(walk) == pytest.approx(confinement.spread(confinement.walk(walk)))
        assert confinement.growth(1 - cloud) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("step", [0.01, 0.05, 0.13, 0.35])
def test_a_walk_has_no_excess_of_its_exponent(step):
    """Whatever its steps, though its exponent lies between 0.3 and 1 by them."""
    t = np.arange(0, 3001, 100)
    walk = (1 - step) ** (np.abs(t[:, None] - t[None, :]) / 100)
    assert confinement.exponent_excess(kernels(walk, t))[0] == pytest.approx(0, abs=1e-9)
    assert confinement.radius_ratios(kernels(walk, t), late=True)[0] == pytest.approx(0, abs=1e-9)
    assert 0.2 < confinement.growth(1 - walk) < 1


def test_the_walk_is_that_of_the_stage(rng):
    place = rng.normal(size=(12, 400)).cumsum(0) * 0.1
    place[:, 0] += 5
    place /= np.linalg.norm(place, axis=1, keepdims=True)
    ours = confinement.walk(place @ place.T)
    assert np.allclose(ours, kernel.random_walk(torch.tensor(place @ place.T)).numpy())


def test_the_growth_exponent_is_the_mean_of_the_stages(rng):
    place = rng.normal(size=(20, 300)).cumsum(0) * 0.1
    place[:, 0] += 3
    place /= np.linalg.norm(place, axis=1, keepdims=True)
    d = 1 - place @ place.T
    # Of the kernels that reach as far.
    stage = kernel.growth_exponents(torch.tensor(d), list(range(20)), 10)[:10]
    assert confinement.growth(d) == pytest.approx(np.mean(stage), rel=1e-9)


def test_early_and_late_windows_hold_as_many_kernels_as_far_apart():
    t = np.unique(np.r_[np.arange(0, 400, 20), np.arange(400, 4001, 100)])
    table = kernels(along(t, AWAY["step"], 0.1), t)
    coarse = table[(table["t"] % 100 == 0) & (table["u"] % 100 == 0)]
    for late in (False, True):
        one, other = (confinement.radius_ratios(each, late)[0] for each in (table, coarse))
        assert one == pytest.approx(other, rel=1e-9)
    with pytest.raises(CannotSay, match="fewer than 5 kernels"):
        confinement.radius_ratios(coarse[(coarse["t"] < 500) & (coarse["u"] < 500)], late=True)


def test_the_exact_interval_of_a_share():
    """Of 0 in n, whose upper end is 1 - (half the errors) ** (1 / n), and of all in n."""
    for n in (3, 8, 16, 17):
        found = exact_share(np.zeros(n), 0.95)
        assert (found.value, found.low) == (0, 0)
        assert found.high == pytest.approx(1 - 0.025 ** (1 / n))
        assert exact_share(np.ones(n), 0.95)[:2] == pytest.approx((1, 0.025 ** (1 / n)))
    # Runs of one seed are no independent draws.
    assert exact_share([0.5, 0, 0]).high == exact_share([1, 0, 0]).high
    assert exact_share([0.5, 0, 0]).low == 0


def test_holms_correction_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])


def test_the_least_error_of_students_t_is_its_p_value(rng):
    values = rng.normal(0.8, 1, 9)
    found = least_error(lambda level: over_seeds(values, level=level).low > 0)
    assert found == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-5)
    assert least_error(lambda _: False) == 1
    assert expected_false([0.95, 0.95, 0.9706]) == pytest.approx(0.1294)
