"""What does a job of SLURM cost? The smoke study on a cluster of one node.

    PYTHONPATH=tests python benchmarks/cluster.py

It runs twice, with one fork in a job and with four, and one job after another, so that no job
slows another one down. Printed for both: the jobs, the seconds that SLURM held them, the seconds
that the work itself took of that (Snakemake's `benchmark:` files), the rest for each job, and the
wall time of the whole. Some ten minutes; needs slurm-wlm and munge.
"""

import re
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import pandas as pd
from trials import cluster, kill, slurm


def held(jobs: str) -> list[float]:
    """Seconds from start to end of each job that slurmctld says is complete."""
    times = re.findall(r" StartTime=(\S+) EndTime=(\S+) ", jobs)
    return [
        (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
        for start, end in times
    ]


def main() -> None:
    """Run the study both ways and print the table."""
    print("| forks in a job | jobs | held s | at work s | beyond it, each job s | wall s |")
    print("|---|--:|--:|--:|--:|--:|")
    for forks in (1, 4):
        with tempfile.TemporaryDirectory() as scratch:
            folder, where = kill.checkout(Path(scratch) / "study"), Path(scratch) / "cluster"
            cluster.start(where)
            try:
                started = time.monotonic()
                trial = slurm.Trial(folder, where)
                options = ("--jobs=1", "--config", f"forks_per_job={forks}")
                status, output = trial.run(*options, targets=["figures/smoke/all"])
                wall = time.monotonic() - started
            finally:
                cluster.stop(where)
            if status:
                sys.exit(output)
            jobs = held((where / "jobs").read_text())
            work = [pd.read_csv(f, sep="\t")["s"].item() for f in folder.rglob("benchmarks/*.tsv")]
        each = (sum(jobs) - sum(work)) / len(jobs)
        print(f"| {forks} | {len(jobs)} | {sum(jobs):.0f} | {sum(work):.0f} ", end="")
        print(f"| {each:.1f} | {wall:.0f} |", flush=True)


if __name__ == "__main__":
    main()
