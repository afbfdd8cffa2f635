"""Command `publish`: the tables of a finished study, small enough to be committed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from twophase import stages
from twophase.errors import RunError
from twophase.figures import published_name
from twophase.store.artifacts import read_header, sha256, whole_file
from twophase.store.paths import RESULTS
from twophase.study import Study

MEASUREMENTS = Path("paper/measurements")
# The last line of a stage's log.
SPENT = re.compile(r"^(\w+): processor time (\S+) s to start, (\S+) s at work$", re.M)


def publish(study: Study, file: Path) -> None:
    """Copy the study's `file` and tables to `paper/measurements/<study>/`, and write there
    `provenance.json`: the digest of each table and what made it, the commit, and the processor
    time of each stage in seconds.

    Raises `RunError` if the study is not finished, `ArtifactError` if a table is damaged.
    """
    tables = {f"{t}_summary": stages.summary_table(study, t).path for t in stages.tables_of(study)}
    for table, stage in stages.STAGE_OF.items():
        for run in stages.runs_of(study, stage):
            tables[published_name(run, table)] = stages.run_table(run, table).path
    if missing := [path for path in tables.values() if not path.exists()]:
        raise RunError(
            f"{missing[0]}: is missing: the study is not finished with the options and the code as "
            f"they are now; run `snakemake --cores all figures/{study.name}/all` first"
        )
    headers = {name: read_header(path) for name, path in tables.items()}

    folder = MEASUREMENTS / f".{study.name}"  # gets its name when it is whole
    shutil.rmtree(folder, ignore_errors=True)
    for name, path in tables.items():
        with whole_file(folder / f"{name}.parquet") as temporary:
            shutil.copyfile(path, temporary)
    shutil.copyfile(file, folder / f"{study.name}.yaml")
    provenance = {
        "published_at_commit": _commit(),
        "study": sha256(file),
        "processor_seconds": _processor_seconds(study),
        "tables": {
            name: {
                "made_as": path.name,
                "sha256": sha256(path),
                "maker": headers[name]["maker"],
                "origin": headers[name]["origin"],
            }
            for name, path in tables.items()
        },
    }
    with whole_file(folder / "provenance.json") as temporary:
        temporary.write_text(json.dumps(provenance, indent=2) + "\n")
    before = MEASUREMENTS / f".{study.name}-before"  # what was published stays until then
    shutil.rmtree(before, ignore_errors=True)
    if (MEASUREMENTS / study.name).exists():
        (MEASUREMENTS / study.name).rename(before)
    folder.rename(MEASUREMENTS / study.name)
    shutil.rmtree(before, ignore_errors=True)


def _commit() -> str:
    """The commit of the checkout that this code runs from, and whether files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "."],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not in a git checkout"
    return commit.stdout.strip() + (" with changes" if changed.stdout else "")


def _processor_seconds(study: Study) -> dict[str, float]:
    """Processor time of the study's jobs by stage, from the logs of those that made its results.

    Of a job that was stopped and resumed, only what it spent after that is known.
    """
    seconds: dict[str, float] = {}
    current = stages.fingerprints(study)
    for log in (RESULTS / study.name).rglob("logs/*.log"):
        if log.stem.partition("-")[2][:8] in current:
            for stage, start, work in SPENT.findall(log.read_text()):
                seconds[stage] = round(seconds.get(stage, 0) + float(start) + float(work), 1)
    return seconds
