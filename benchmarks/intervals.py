"""How often intervals hold the truth, for `operating.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from made_up import END, chaos_bounds, kernels, source

from twophase.estimators import changepoint, confinement, transition
from twophase.estimators.censored import over_intervals, shift
from twophase.estimators.seeds import CannotSay, Estimate, Scale, exact_share, over_seeds, wilson
from twophase.writeup import transitions

SEEDS = (3, 5, 8, 16)
RUNS = 150  # from which experiments draw their seeds, where runs take long to make


def coverage(trials: int) -> list[list[str]]:
    """How often an interval of 95 % holds the truth, in percent."""
    rows = []
    for name, data, truth, draw, say in _covered():
        cells = []
        for seeds in SEEDS:
            rng, held = np.random.default_rng([seeds, len(rows)]), 0
            for _ in range(trials):
                try:
                    low, high = say(draw(rng, seeds))[1:3]
                except CannotSay:
                    low, high = -np.inf, np.inf  # which says nothing that is false
                held += low <= truth <= high
            cells.append(f"{100 * held / trials:.0f}")
        rows.append([name, data, *cells])
    return rows


def _covered() -> Iterable[tuple[str, str, float, Callable, Callable]]:
    """Of each estimator and kind of data: the truth, how to draw seeds, and the estimate."""

    def half_zero(rng: np.random.Generator, n: int) -> np.ndarray:
        return (rng.random(n) < 0.5) * (1.6 + 0.3 * rng.normal(size=n))

    mean = float(np.exp(0.6**2 / 2))
    yield "mean", "normal", 2.0, lambda rng, n: rng.normal(2, 1, n), over_seeds
    yield "mean", "log-normal", mean, lambda rng, n: rng.lognormal(0, 0.6, n), over_seeds
    yield "mean", "half the runs at 0", 0.8, half_zero, over_seeds
    yield "ratio", "log-normal", 1.0, lambda rng, n: 0.6 * rng.normal(size=n), confinement.ratio
    for share in (0.1, 0.5):
        data = f"{share:.0%} of the runs"
        draw = lambda rng, n, share=share: (rng.random(n) < share).astype(float)  # noqa: E731
        yield "share, exact", data, share, draw, exact_share
        yield "share, Wilson", data, share, draw, _wilson

    def cells(middle: float, spread: float, moved: float = 0.0, skewed: bool = False) -> Callable:
        def draw(rng: np.random.Generator, n: int) -> list[np.ndarray]:
            z = rng.lognormal(0, 0.6, n) - mean if skewed else rng.normal(size=n)
            return chaos_bounds(rng, np.log(middle) + spread * z, moved=moved)

        return draw

    def time(bounds: list[np.ndarray]) -> Estimate:
        return over_intervals(*bounds[0].T)

    end = np.log(END)
    yield "chaos time", "normal logarithms", end, cells(END, 0.6), time
    yield "chaos time", "skewed logarithms", end, cells(END, 0.6, skewed=True), time
    yield "chaos time", "all in one cell", end, cells(END, 0.1), time
    yield "chaos time", "a third before the grid", np.log(5), cells(5, 0.6), time
    for power in (0, 1):
        truth = power * np.log(2)
        data = f"growing as the horizon to the {power}"
        yield "chaos time's change", data, truth, cells(END, 0.6, truth), lambda b: shift(*b)
    yield from _along_training()


def _wilson(shares: np.ndarray) -> Estimate:
    return Estimate(shares.mean(), *wilson(shares.mean(), len(shares)), len(shares))


def _along_training() -> Iterable[tuple[str, str, float, Callable, Callable]]:
    for truth in ("sigmoid", "decay"):
        made = source(kernel_distance=kernels(truth, RUNS, kept=0.5))
        for reading in ("entry", "speed"):
            found = np.log(transitions.kernel_times(made, reading).to_numpy().clip(1))
            found = found[np.isfinite(found).all(1)]
            middle = float(found.mean())
            draw = lambda rng, n, found=found: found[rng.choice(len(found), n)]  # noqa: E731
            yield f"{reading} time", f"{truth}, AR(1)", middle, draw, lambda b: over_intervals(*b.T)
    grid = np.arange(0, 600, 20)
    scale = Scale(grid)
    for width in (0.0, 0.3):
        yield (
            "change point", f"{'smooth ' if width else ''}step, AR(1)", float(scale.times(2.5)),
            lambda rng, n, width=width: _course(rng, n, grid, scale, width),
            lambda table: changepoint.fall_time(changepoint.change_points(table), scale),
        )  # fmt: skip
    yield (
        "half fall", "over t0, normal", float(scale.times(1.8)),
        lambda rng, n: _course(rng, n, np.array([0, 10, 25, 50, 100, 300]), scale, 0.15, 0.02),
        lambda table: transition.fall_transition(table.rename(columns={"t": "t0"}), scale),
    )  # fmt: skip


def _course(
    rng: np.random.Generator, n: int, grid: np.ndarray, scale: Scale, width: float,
    noise: float = 0.25,
) -> pd.DataFrame:  # fmt: skip
    """A measure that falls by 1 with AR(1) noise (0.5 between neighbours), in each seed at a time
    of its own.
    """
    middle = 2.5 if noise > 0.1 else 1.8
    own = middle + 0.25 * rng.normal(size=n)
    away = scale.x(grid) - own[:, None]
    level = 1 / (1 + np.exp(-away / width)) if width else (away >= 0).astype(float)
    rough = rng.normal(size=away.shape)
    for i in range(1, len(grid)):
        rough[:, i] = 0.5 * rough[:, i - 1] + 0.75**0.5 * rough[:, i]
    index = pd.MultiIndex.from_product([range(n), grid], names=["seed", "t"])
    values = {"value": (-level + noise * rough).ravel()}
    return pd.DataFrame(values, index=index).reset_index()
