"""What the rules say of known truths, and how often intervals hold what they should.

python benchmarks/operating.py              # the tables in docs/rules.md, minutes of one core
python benchmarks/operating.py --trials 20  # the same, less exact

All is deterministic. A pool of runs is simulated once (`made_up.py`); an experiment draws its seeds
from it. Each quantity of each run is computed once, by the code that computes it for a study.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import intervals
import numpy as np
import pandas as pd
from made_up import END, END_SPREAD, SPREAD, TRUTHS, chaos_bounds, kernels, source

from twophase.estimators import confinement, phases
from twophase.estimators.censored import over_intervals, shift
from twophase.estimators.seeds import CannotSay, Estimate, exact_share, transformed
from twophase.writeup import claims, transitions, verdicts
from twophase.writeup.sources import Source

ROOT = Path(__file__).parents[1]
TRIALS, POOL = 200, 150  # experiments of each cell; runs that they draw their seeds from
LEVELS = {3: 0.95, 8: 0.9706, 16: 0.9706}  # of intervals, by the number of seeds: two looks
Each = tuple[np.ndarray, np.ndarray, Callable, str]  # of each run: bounds; then over seeds; reading


def each_run(made: Source) -> dict[str, Each]:
    """What each quantity is of each run, before the mean over seeds."""
    table = made.table("kernel_distance")
    late, early = (confinement.radius_ratios(table, late=late) for late in (True, False))
    values = {
        "cone_depth": (transitions.depths(made, "entry"), np.exp),
        "speed_depth": (transitions.depths(made, "speed"), np.exp),
        "cone_radius": (late, np.exp),
        "cone_radius_contrast": (late - early, np.exp),
        "cone_exponent": (confinement.exponent_excess(table), float),
    }
    found = {name: (v.to_numpy(), v.to_numpy(), back, "") for name, (v, back) in values.items()}
    for name, reading in (("cone", "entry"), ("speed", "speed")):
        bounds = transitions.horizon_bounds(made, reading)
        found[f"{name}_horizon_exponent"] = (*bounds, float, reading)
        bounds = transitions.sharpness_bounds(made, reading)
        found[f"{name}_sharpness"] = (*bounds, np.exp, reading)
    return found


def estimate(each: dict[str, Each], part: claims.Part, drawn: np.ndarray, level: float) -> Estimate:
    """A part's quantity of some of the runs."""
    low, high, back, reading = each[part.quantity]
    if reading:
        depth = each["cone_depth" if reading == "entry" else "speed_depth"][0]
        phases.falls(pd.Series(depth[drawn]))
    return transformed(over_intervals(low[drawn], high[drawn], level), back)


def word(rules: Iterable[claims.Part], say: Callable[[claims.Part], Estimate]) -> str:
    """The verdict of a claim's parts, as `twophase.writeup.verdicts` finds it."""
    held = set()
    for part in rules:
        try:
            held.add(verdicts.holds(part, say(part), 1.0))
        except CannotSay:
            held.add(None)
    if held >= {True, False}:
        return "partly"
    return "open" if None in held else "yes" if held == {True} else "no"


def draws(count: int, seeds: int, trials: int) -> Iterable[np.ndarray]:
    """Which runs of a pool of `count` each experiment has, none twice."""
    rng = np.random.default_rng([count, seeds])
    return (rng.choice(count, seeds, replace=False) for _ in range(trials))


def shares(words: Iterable[str]) -> str:
    """Of the verdicts "yes", "no" and, if there are any, "partly" in percent; the rest is open."""
    found = Counter(words)
    percent = {name: f"{100 * found[name] / found.total():.0f}" for name in ("yes", "no", "partly")}
    partly = f" ({percent['partly']} partly)" if found["partly"] else ""
    return f"{percent['yes']} / {percent['no']}{partly}"


KERNEL_CLAIMS = (
    "cone-entered", "cone-time-of-its-own", "sharp", "cone", "cone-later-not-earlier",
    "kernel-slows", "speed-time-of-its-own", "speed-sharp",
)  # fmt: skip


def kernel_verdicts(rules: claims.Claims, trials: int) -> list[list[str]]:
    """For each truth and claim on the kernel what is said with 3, 8 and 16 seeds."""
    parts = {claim.id: claim.parts for claim in rules.claims}
    rows = []
    for truth in [*TRUTHS, "power law", "walk"]:
        each = each_run(source(kernel_distance=kernels(truth, min(POOL, 16 + trials))))
        count = len(each["cone_depth"][0])
        for claim in KERNEL_CLAIMS:
            cells = [
                shares(
                    word(parts[claim], lambda p, d=drawn, v=level, e=each: estimate(e, p, d, v))
                    for drawn in draws(count, seeds, trials)
                )
                for seeds, level in LEVELS.items()
            ]
            rows.append([truth, f"`{claim}`", *cells])
    return rows


def chaos_verdicts(rules: claims.Claims, trials: int) -> list[list[str]]:
    """What is said of chaos times, of the two times, and of late forks."""
    parts = {claim.id: claim.parts for claim in rules.claims}
    count, rng = 4 * POOL, np.random.default_rng(46)
    logs = np.log(END) + END_SPREAD * _standard(rng, count)
    rows = []

    def add(truth: str, claim: str, say: Callable[[np.ndarray, float], Estimate]) -> None:
        cells = [
            shares(
                word(parts[claim], lambda _, d=drawn, v=level: say(d, v))
                for drawn in draws(count, seeds, trials)
            )
            for seeds, level in LEVELS.items()
        ]
        rows.append([truth, f"`{claim}`", *cells])

    for power in (0, 0.5, 1, 1.5):
        half, last = chaos_bounds(rng, logs, moved=power * np.log(2))
        add(
            f"chaos time grows as the time followed to the {power:g}",
            "chaos-time-of-its-own",
            lambda d, v, a=half, b=last: transformed(shift(a[d], b[d], v), np.exp),
        )
    for ratio in (1, 0.7, 0.5, 0.25, 0.1):
        (bounds, _), kernel = chaos_bounds(rng, logs), logs - np.log(ratio)
        kernel = kernel + SPREAD * _standard(rng, count)
        add(
            f"chaos ends at {ratio:g} of the kernel's time",
            "same-point",
            lambda d, v, b=bounds, k=kernel: transformed(
                over_intervals(b[d, 0] - k[d], b[d, 1] - k[d], v), np.exp
            ),
        )
    coarse, _ = chaos_bounds(rng, logs, np.array([0, 500, 1000]))
    kernel = np.log(450) + 0 * logs
    add(
        "chaos ends at 25, forks from 0, 500 and 1,000 only, kernel's time 450",
        "same-point",
        lambda d, v: transformed(
            over_intervals(coarse[d, 0] - kernel[d], coarse[d, 1] - kernel[d], v), np.exp
        ),
    )
    for share in (0, 0.05, 0.25, 0.5):
        behind = np.arange(count) < share * count
        add(
            f"{share:.0%} of late forks end behind a barrier",
            "late-stable",
            lambda d, v, y=behind: exact_share(y[d], v),
        )
    return rows


def _standard(rng: np.random.Generator, count: int) -> np.ndarray:
    """Normal numbers of mean 0 and spread 1, exactly: the pool has the truth, not a draw of it."""
    z = rng.normal(size=count)
    return (z - z.mean()) / z.std()


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; columns after the second are numbers."""
    lines = [head, ["---", "---", *["--:"] * (len(head) - 2)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(trials: int) -> dict[str, str]:
    """Each table of docs/rules.md by its name."""
    rules = claims.load(ROOT / "paper/claims.yaml")
    said = [f"{seeds} seeds" for seeds in LEVELS]
    covered = [f"{seeds} seeds" for seeds in intervals.SEEDS]
    return {
        "kernel": table(["Truth", "Claim", *said], kernel_verdicts(rules, trials)),
        "chaos": table(["Truth", "Claim", *said], chaos_verdicts(rules, trials)),
        "coverage": table(["Interval of", "Data", *covered], intervals.coverage(trials)),
    }


def write(page: Path, made: dict[str, str]) -> None:
    """Put each table between its two marks on a page."""
    text = page.read_text(encoding="utf-8")
    for name, new in made.items():
        start, stop = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(stop)
        if not found:
            raise SystemExit(f"{page}: must have {start}, and {stop} after it")
        text = f"{before}{start}\n\n{new}\n\n{stop}{after}"
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Print all tables; with the full number of trials, write them to docs/rules.md, too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=TRIALS, help="experiments of each cell")
    trials = parser.parse_args().trials
    made = tables(trials)
    print("\n\n".join(made.values()))
    if trials == TRIALS:
        write(ROOT / "docs/rules.md", made)


if __name__ == "__main__":
    main()
