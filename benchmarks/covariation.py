"""What the rules of `cifar10-covary` say of known truths: its power, before any of its seeds ran.

python benchmarks/covariation.py              # the tables in docs/rules.md, minutes of one core
python benchmarks/covariation.py --trials 20  # the same, less exact

Chaos times of a condition are log-normal over seeds, its forks those of the study; each fork's end
is blurred. Kernels are those of `made_up.py`, at the study's times, read by the
study's estimator: so coarse grids and times that no kernel shows count. Conditions share nothing
but their medians. Without a lever all conditions have the times of the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import made_up
import numpy as np
from operating import ROOT, shares, table, word, write

from twophase.estimators import followed, phases, times
from twophase.estimators.censored import over_intervals, shift
from twophase.estimators.seeds import Estimate, exact_share, transformed
from twophase.study import studyfile
from twophase.study.model import Study
from twophase.writeup import claims
from twophase.writeup.claims import Claims
from twophase.writeup.transitions import horizon_bounds

TRIALS, POOL = 40, 60  # experiments of each cell; runs of a condition that they draw seeds from
STUDY = ROOT / "workflow/config/cifar10-covary.yaml"
DOSES = {
    "speed-follows-chaos": ["base", "warm-250", "warm-500", "warm-1000", "warm-2000"],
    "longest-speed-follows": ["base", "warm-2000"],
}
MOVES = {
    "speed-follows-chaos": "warm-ups-move-chaos",
    "longest-speed-follows": "longest-moves-chaos",
}
FIRST = 110.0  # when chaos ends without a warm-up, by the pilot, and the kernel has slowed down
# Spread over seeds of log times of chaos, blur of a fork's end, spread of the kernel's. Chaos times
# as published studies read them differ by 0.3 to 0.9, most by 0.6: both of these together.
SPREADS = {
    "half as much": (0.22, 0.1, 0.17),
    "as published": (0.45, 0.2, 0.35),
    "half again as much": (0.67, 0.3, 0.52),
}
Bounds = list[np.ndarray]  # of each condition's runs: logarithms of low and high, (runs, 2)


def medians(count: int, factor: float) -> np.ndarray:
    """Of the conditions: the last is `factor` times the first, evenly between as logarithms."""
    return FIRST * factor ** np.linspace(0, 1, count)


def forks_of(study: Study, names: list[str]) -> list[np.ndarray]:
    """The forks of each condition."""
    return [np.array(study.models[name].chaos.forks) for name in names]


def chaos(forks: list[np.ndarray], centres: np.ndarray, spread: float, blur: float) -> Bounds:
    """Chaos times of a pool of runs of each condition."""
    rng, found = np.random.default_rng(47), []
    for own, centre in zip(forks, centres, strict=True):
        logs = np.log(centre) + spread * rng.normal(size=POOL)
        found.append(made_up.chaos_bounds(rng, logs, own, blur=blur)[0])
    return found


def kernels(study: Study, centres: np.ndarray, spread: float, reading: str) -> Bounds:
    """Kernel times of a pool of runs of each condition, as a reading finds them."""
    grid = np.array(study.models["base"].kernel.steps(), float)
    found = []
    for index, centre in enumerate(centres):
        made = made_up.kernels("sigmoid", POOL + index, t=grid, middle=centre, spread=spread)
        each = times.kernel_times(made, phases.READINGS[reading])
        found.append(phases.logs(each).to_numpy()[index:])
    return found


def draws(conditions: int, seeds: int, trials: int) -> Iterator[np.ndarray]:
    """Which runs of each condition's pool an experiment has, (conditions, seeds)."""
    rng = np.random.default_rng([conditions, seeds])
    for _ in range(trials):
        yield np.array([rng.choice(POOL, seeds, replace=False) for _ in range(conditions)])


def moves(rules: Claims, claim: str, by: Bounds, drawn: np.ndarray, level: float) -> str:
    """Whether the conditions move the end of chaos: "yes", "no" or "open"."""
    first, last = by[0][drawn[0]], by[-1][drawn[-1]]
    return said(rules, claim, transformed(shift(first, last, level), np.exp))


def follows(
    rules: Claims, claim: str, kernel: Bounds, by: Bounds, drawn: np.ndarray, level: float
) -> str:
    """Whether the kernel's time follows: what `followed.slope` says beside the claim's limit, with
    two of the means that it tries.
    """
    each = [_contrast(pool, drawn) for pool in (kernel, by)]
    limit = rules.claim(claim).parts[0].holds.above
    if not over_intervals(*each[1], level).low > 0:
        return "open"
    left = followed.unexplained(*each, limit, level)
    return "yes" if left.low > 0 else "no" if left.high < 0 else "open"


def _contrast(pool: Bounds, drawn: np.ndarray) -> followed.Bounds:
    ends = [[own[at, end] for own, at in zip(pool, drawn, strict=True)] for end in (0, 1)]
    return followed.contrast(*(np.stack(each, axis=1) for each in ends))


def said(rules: Claims, claim: str, found: Estimate) -> str:
    """What a claim's first part says of an estimate."""
    return word(rules.claim(claim).parts[:1], lambda _: found)


def dose_verdicts(rules: Claims, study: Study, trials: int) -> list[list[str]]:
    """For levers and slopes, of five conditions and of two, what is said of chaos and kernel."""
    seeds, level = _registered(rules)
    rows = []
    for spread, (of_chaos, blur, of_kernel) in SPREADS.items():
        for factor in (6.0, 4.0, 2.0, 1.0):
            slopes = (1.0, 0.5, 0.0) if factor > 1 else (0.0,)
            cells = {slope: [] for slope in slopes}
            for claim, names in DOSES.items():
                every = list(draws(len(names), seeds, trials))
                by = chaos(forks_of(study, names), medians(len(names), factor), of_chaos, blur)
                moved = [moves(rules, MOVES[claim], by, drawn, level) for drawn in every]
                for slope in slopes:
                    own = kernels(study, medians(len(names), factor**slope), of_kernel, "speed")
                    told = [follows(rules, claim, own, by, drawn, level) for drawn in every]
                    cells[slope] += [shares(moved), shares(told)]
            rows += [[f"{factor:g}", f"{s:g}", spread, *own] for s, own in cells.items()]
    return rows


def other_verdicts(rules: Claims, study: Study, trials: int) -> list[list[str]]:
    """What is said of the kernel's horizon over five conditions, and of chaos without flips."""
    seeds, level = _registered(rules)
    grid = np.array(study.models["base"].kernel.steps(), float)
    rows = []
    for truth in (*made_up.TRUTHS, "power law", "walk"):
        if truth == "no change":
            continue
        made = made_up.source(kernel_distance=made_up.kernels(truth, POOL, t=grid, middle=FIRST))
        for claim, reading in (("warm-ups-own-speed", "speed"), ("warm-ups-own-entry", "entry")):
            bounds = horizon_bounds(made, reading)
            words = (
                said(rules, claim, over_intervals(*(b[drawn] for b in bounds), level))
                for (drawn,) in draws(1, seeds, trials)
            )
            rows.append([f"kernel: {truth}", f"`{claim}`", shares(words)])
    rng = np.random.default_rng(48)
    for share in (0.0, 0.05, 0.5, 1.0):
        each = (rng.random(seeds) < share for _ in range(trials))
        words = (said(rules, "no-chaos-without-flips", exact_share(own, level)) for own in each)
        truth = f"{share:.0%} of runs without flips end behind a barrier"
        rows.append([truth, "`no-chaos-without-flips`", shares(words)])
    return rows


def _registered(rules: Claims) -> tuple[int, float]:
    own = next(each for each in rules.registered if each.study == STUDY.stem)
    return own.looks[-1], own.level


def tables(trials: int) -> dict[str, str]:
    """Each of the two tables of docs/rules.md by its name."""
    rules, study = claims.load(ROOT / "paper/claims.yaml"), studyfile.load(STUDY)
    head = ["Chaos, last over first", "Slope", "Spread"]
    for claim in DOSES:
        head += [f"`{MOVES[claim]}`", f"`{claim}`"]
    return {
        "doses": table(head, dose_verdicts(rules, study, trials)),
        "flips": table(["Truth", "Claim", "8 seeds"], other_verdicts(rules, study, trials)),
    }


def main(arguments: Iterable[str] | None = None) -> None:
    """Print both tables; with the full number of trials, write them to docs/rules.md, too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=TRIALS, help="experiments of each cell")
    trials = parser.parse_args(arguments).trials
    made = tables(trials)
    print("\n\n".join(made.values()))
    if trials == TRIALS:
        write(Path(ROOT / "docs/rules.md"), made)


if __name__ == "__main__":
    main()
