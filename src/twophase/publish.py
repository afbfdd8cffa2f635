"""Stage `publish`: the tables of a finished study, small enough to be committed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd

from twophase import paths
from twophase.artifacts import read_header, sha256, whole_file
from twophase.study import Study

MEASUREMENTS = Path("paper/measurements")
PER_RUN = {**paths.RUN_TABLES, "barrier_path": paths.barrier_path}
PER_RUN["kernel_projection"] = paths.kernel_projection


def publish(study: Study, file: Path) -> None:
    """Copy the study's `file` and tables to `paper/measurements/<study>/`, and write there
    `provenance.json`: the digest of each table and what made it, the commit, and the processor
    time of each stage in seconds.

    Raises `ArtifactError` if a table is missing or damaged.
    """
    tables = {f"{table}_summary": paths.summary(study, table) for table in paths.RUN_TABLES}
    for model in study.models:
        for seed in study.seeds:
            for table, path_of in PER_RUN.items():
                tables[f"{model}/seed{seed}/{table}"] = path_of(study, model, seed)
    origins = {name: read_header(path).get("origin", {}) for name, path in tables.items()}

    folder = MEASUREMENTS / study.name
    if folder.exists():
        shutil.rmtree(folder)
    for name, path in tables.items():
        with whole_file(folder / f"{name}.parquet") as temporary:
            shutil.copyfile(path, temporary)
    shutil.copyfile(file, folder / f"{study.name}.yaml")
    provenance = {
        "commit": _commit(),
        "study": sha256(file),
        "processor_seconds": _processor_seconds(study),
        "tables": {
            name: {"made_as": path.name, "sha256": sha256(path), "origin": origins[name]}
            for name, path in tables.items()
        },
    }
    with whole_file(folder / "provenance.json") as temporary:
        temporary.write_text(json.dumps(provenance, indent=2) + "\n")


def _commit() -> str:
    """The commit of the checkout that this code runs from, and whether files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "."],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not in a git checkout"
    return commit.stdout.strip() + (" with changes" if changed.stdout else "")


def _processor_seconds(study: Study) -> dict[str, float]:
    """Processor time of the study's jobs by kind of job, from what Snakemake's benchmarks left.

    A job that was stopped and went on counts from where it went on.
    """
    seconds: dict[str, float] = {}
    for file in sorted((paths.RESULTS / study.name).rglob("benchmarks/*.tsv")):
        job = file.stem.split("-")[0].rstrip("0123456789")
        spent = pd.read_csv(file, sep="\t")["cpu_time"].iloc[-1]
        seconds[job] = round(seconds.get(job, 0) + float(spent), 1)
    return seconds
