"""Quantities of the two transitions: when each comes, whether that time is the run's own, how sharp
it is, and whether the two are one.

Chaos ends at the t0 from which half the forks end behind a barrier. The kernel is read in two ways:
it *enters* its later cone, and its *speed* falls. See `twophase.estimators.times`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from twophase.estimators import confinement, phases, times
from twophase.estimators.censored import over_intervals, shift
from twophase.estimators.seeds import LEVEL, CannotSay, Estimate, exact_share, over_seeds
from twophase.estimators.seeds import transformed as on
from twophase.writeup import readings
from twophase.writeup.readings import kernel_table
from twophase.writeup.sources import Source

Bounds = tuple[np.ndarray, np.ndarray]  # of each seed's value, low and high, each (seeds,)


def chaos_times(source: Source) -> pd.DataFrame:
    """For each seed between which t0 chaos ends, at the last comparisons."""
    return times.chaos_times(phases.barriers_over_t0(readings.ends(source)))


def depths(source: Source, reading: str) -> pd.Series:
    """Logarithm of a reading's early over its later level, for each seed."""
    return times.depths(kernel_table(source), phases.READINGS[reading])


def kernel_times(
    source: Source, reading: str, way: float = 0.5, horizon: float | None = None
) -> pd.DataFrame:
    """Between which times each seed's kernel has gone `way`, looked at until `horizon`."""
    return times.kernel_times(kernel_table(source), phases.READINGS[reading], way, horizon)


def horizon_bounds(source: Source, reading: str) -> Bounds:
    """d log time / d log horizon of each seed, from half the horizon to all of it."""
    grid = kernel_table(source)["t"].unique()
    half = grid[np.abs(grid - grid.max() / 2).argmin()]
    if not 0.4 < half / grid.max() < 0.6:
        raise CannotSay("has no kernel near half of the training")
    longer = np.log(grid.max() / half)
    low, high = times.log_ratio(
        kernel_times(source, reading), kernel_times(source, reading, horizon=half)
    )
    return low / longer, high / longer


def sharpness_bounds(source: Source, reading: str) -> Bounds:
    """Logarithm of time at three quarters over time at one quarter of the way, of each seed."""
    return times.log_ratio(*(kernel_times(source, reading, way) for way in (0.75, 0.25)))


def same_bounds(source: Source, reading: str) -> Bounds:
    """Logarithm of the chaos time over the kernel's, of each seed."""
    return times.log_ratio(chaos_times(source), kernel_times(source, reading))


def chaos_time(source: Source, level: float = LEVEL) -> Estimate:
    """The t0 from which half the forks end behind a barrier (iterations)."""
    return phases.mean_time(chaos_times(source), level)


def entry_time(source: Source, level: float = LEVEL) -> Estimate:
    """When the kernel is half-way into its later cone (iterations)."""
    phases.falls(depths(source, "entry"))
    return phases.mean_time(kernel_times(source, "entry"), level)


def speed_time(source: Source, level: float = LEVEL) -> Estimate:
    """When the kernel's speed has fallen half its way (iterations)."""
    phases.falls(depths(source, "speed"))
    return phases.mean_time(kernel_times(source, "speed"), level)


def cone_depth(source: Source, level: float = LEVEL) -> Estimate:
    """The first kernel's angle to the later kernels' mean direction, over their own."""
    return confinement.ratio(depths(source, "entry"), level)


def speed_depth(source: Source, level: float = LEVEL) -> Estimate:
    """S(t, t + dt) early, until iteration 100, over that in the later half."""
    return confinement.ratio(depths(source, "speed"), level)


def cone_horizon_exponent(source: Source, level: float = LEVEL) -> Estimate:
    """d log entry time / d log horizon, from half the horizon to all of it: 0 for a time of the
    run's own, 0.5 for a power law, 1 for a time that only says where we stopped looking.
    """
    return _over_seeds(source, "entry", horizon_bounds, level)


def speed_horizon_exponent(source: Source, level: float = LEVEL) -> Estimate:
    """The same of the time at which the speed has fallen."""
    return _over_seeds(source, "speed", horizon_bounds, level)


def cone_sharpness(source: Source, level: float = LEVEL) -> Estimate:
    """Time at three quarters over time at one quarter of the way into the cone: 1 for a step, 3
    for an exponential, whose logarithm is what goes its way, more for a power law.
    """
    return on(_over_seeds(source, "entry", sharpness_bounds, level), np.exp)


def speed_sharpness(source: Source, level: float = LEVEL) -> Estimate:
    """The same of the speed's fall."""
    return on(_over_seeds(source, "speed", sharpness_bounds, level), np.exp)


def same_time_entry(source: Source, level: float = LEVEL) -> Estimate:
    """When chaos ends over when the kernel enters its later cone, seed by seed."""
    return on(_over_seeds(source, "entry", same_bounds, level), np.exp)


def same_time_speed(source: Source, level: float = LEVEL) -> Estimate:
    """When chaos ends over when the kernel's speed has fallen, seed by seed."""
    return on(_over_seeds(source, "speed", same_bounds, level), np.exp)


def cone_radius(source: Source, level: float = LEVEL) -> Estimate:
    """The kernels' spread in the last quarter of training over that of a random walk with the same
    steps.
    """
    return confinement.ratio(confinement.radius_ratios(kernel_table(source), late=True), level)


def cone_radius_contrast(source: Source, level: float = LEVEL) -> Estimate:
    """The same over that of the first quarter, of as many kernels as far apart."""
    late, early = (confinement.radius_ratios(kernel_table(source), late=x) for x in (True, False))
    return confinement.ratio(late - early, level)


def cone_exponent(source: Source, level: float = LEVEL) -> Estimate:
    """The exponent of S(t, t + dt) in dt, in the second half, less that of a random walk with the
    same steps.
    """
    return over_seeds(confinement.exponent_excess(kernel_table(source)), level=level)


def chaos_horizon_ratio(source: Source, level: float = LEVEL) -> Estimate:
    """The end of chaos for forks that are followed twice as long, over that for forks that are not:
    1 for a time of the run's own, 2 for one that grows with the time followed.

    The two are the last t1 - t0 that all forks have, and that nearest to its half; if it is not the
    half, the ratio is taken to the power that makes it one for a doubling.
    """
    alike = readings.waits(source)
    half = phases.half_way(alike, "forks are not followed alike for a time and for half of it")
    last = alike[-1]
    bounds = []
    for wait in (half, last):
        found = times.chaos_times(phases.barriers_over_t0(readings.at_wait(source, wait)))
        bounds.append(phases.logs(found).to_numpy())
    doubling = np.log(2) / np.log(last / half)
    return on(shift(*bounds, level=level), lambda moved: np.exp(moved * doubling))


def late_share(source: Source, after: int, level: float = LEVEL) -> Estimate:
    """The share of the last forks that end behind a barrier.

    They must have been followed at least as long as the first forks took to show one.
    """
    late = readings.late_ends(source, after)
    readings.long_enough(source)
    late = late[late["t0"] == late["t0"].max()]
    return exact_share(late.groupby("seed")["above"].mean(), level)


def _over_seeds(
    source: Source, reading: str, bounds: Callable[[Source, str], Bounds], level: float
) -> Estimate:
    phases.falls(depths(source, reading))
    return over_intervals(*bounds(source, reading), level)
