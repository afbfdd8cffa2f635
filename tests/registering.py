"""A registered study in a checkout of a test's own, and runs of it that are made up."""

import json
import shutil
import subprocess

from twophase.store.artifacts import sha256, write_table
from twophase.store.paths import Result
from twophase.study import stages, studyfile
from twophase.study.run import Run
from twophase.writeup import claims, frozen, simulated

FILE = "workflow/config/made-up.yaml"
PUBLISHED = "paper/measurements/made-up"


def git(folder, *arguments):
    who = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder, what="all"):
    git(folder, "add", ".")
    git(folder, "commit", "-qm", what, "--allow-empty")
    return git(folder, "rev-parse", "HEAD")


def register():
    return frozen.register("made-up", claims.load())


def registered_in(folder, study, rules):
    """Make an empty folder a checkout in which the study was registered, all of it committed."""
    for file, content in ((FILE, study), ("paper/claims.yaml", rules)):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)
    git(folder, "init", "-q")
    commit(folder, "before")
    register()
    commit(folder, "registered")
    return folder


def publish(folder, model, seeds, truth, **record):
    """Publish made-up tables of these seeds of a model, with records of having begun now."""
    study = studyfile.load(folder / FILE)
    place = folder / PUBLISHED
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / FILE, place)
    provenance = {"published_at_commit": "?", "processor_seconds": {}, "tables": {}}
    (place / "provenance.json").write_text(json.dumps(provenance))
    for seed in seeds:
        run = Run(study, model, seed)
        for name, table in simulated.tables(study, model, truth, [seed]).items():
            path = place / f"{model}/seed{seed}/{name}.parquet"
            result = Result(path, stages.run_table(run, name).identity)
            write_table(result, table.assign(study=study.name, model=model))
        said = {
            "commit": git(folder, "rev-parse", "HEAD"),
            "changed": [],
            "study": sha256(folder / FILE),
            "began": "2026-01-03T00:00:00+00:00",
        }
        (place / f"{model}/seed{seed}/record.json").write_text(json.dumps(said | record))
