"""What does SLURM cost? The smoke study on a cluster of one node, ungrouped and grouped.

    PYTHONPATH=tests python benchmarks/cluster.py

Both times one job runs after another, and the members of a group one after another, so that no
job slows another one down. Printed for both: SLURM's jobs and the steps in them, the seconds that
SLURM held the jobs, the seconds that the steps' own processes took of that (Snakemake's
`benchmark:` files), the rest for each step, and the wall time of the whole. Some ten minutes;
needs slurm-wlm and munge.
"""

import re
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import pandas as pd
import yaml
from trials import cluster, kill, slurm

ONE_BY_ONE = ["--jobs=1", "--cores=1"]


def held(jobs: str) -> list[float]:
    """Seconds from start to end of each job that slurmctld says is complete."""
    times = re.findall(r" StartTime=(\S+) EndTime=(\S+) ", jobs)
    return [
        (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
        for start, end in times
    ]


def main() -> None:
    """Run the study both ways and print the table."""
    print("| | jobs | steps | held s | at work s | beyond it, each step s | wall s |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in ("ungrouped", "grouped"):
        with tempfile.TemporaryDirectory() as scratch:
            folder, where = kill.checkout(Path(scratch) / "study"), Path(scratch) / "cluster"
            if name == "ungrouped":
                file = folder / slurm.PROFILE / "config.yaml"
                profile = yaml.safe_load(file.read_text())
                del profile["groups"], profile["group-components"]
                file.write_text(yaml.safe_dump(profile))
            cluster.start(where)
            try:
                started = time.monotonic()
                status, output = slurm.Trial(folder, where).run(*ONE_BY_ONE)
                wall = time.monotonic() - started
            finally:
                cluster.stop(where)
            if status:
                sys.exit(output)
            jobs = held((where / "jobs").read_text())
            steps = [pd.read_csv(f, sep="\t")["s"].item() for f in folder.rglob("benchmarks/*.tsv")]
        each = (sum(jobs) - sum(steps)) / len(steps)
        counts = f"{len(jobs)} | {len(steps)} | {sum(jobs):.0f} | {sum(steps):.0f}"
        print(f"| {name} | {counts} | {each:.1f} | {wall:.0f} |", flush=True)


if __name__ == "__main__":
    main()
