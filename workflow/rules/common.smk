# Helpers of all rules: the study that a path names, and the paths of its results.
import sys
from functools import cache
from pathlib import Path

# Rules run the code of this checkout, whatever else is installed.
sys.path.insert(0, str(Path(workflow.basedir) / "src"))
shell.prefix(f"export PYTHONPATH='{workflow.basedir}/src'; ")

from twophase import paths, study
from twophase.errors import StudyError
from twophase.figures import FIGURES, age_stale, made_by, tables
from twophase.publish import MEASUREMENTS


wildcard_constraints:
    study="[a-z][a-z0-9_-]*",
    model="[a-z][a-z0-9_-]*",
    seed=r"\d+",
    t0=r"\d+",
    fingerprint="[0-9a-f]{8}",


def studies():
    """The studies of config.yaml, checked."""
    names = config.get("studies")
    if not isinstance(names, list) or not names:
        sys.exit(f"workflow/config/config.yaml: studies = {names!r}: must be a list of studies")
    for name in names:
        load(name)
    return names


@cache
def load(name):
    """The study called `name`; a mistake in its file ends the run with one line about it."""
    try:
        plan = study.load(Path("workflow/config") / f"{name}.yaml")
    except StudyError as error:
        sys.exit(str(error))
    age_stale(plan, Path("figures") / name)
    return plan


def path_of(function, *names):
    """Input function: `function` of paths.py for the wildcards called `names`."""

    def paths_of(wildcards):
        values = [getattr(wildcards, name) for name in names]
        numbers = {"seed", "t0"}
        values = [int(v) if n in numbers else v for n, v in zip(names, values)]
        return function(load(wildcards.study), *values)

    return paths_of


def perturbations(wildcards):
    """The tables of all forks of a base run."""
    plan, seed = load(wildcards.study), int(wildcards.seed)
    forks = plan.models[wildcards.model].chaos.forks
    return [paths.perturbation(plan, wildcards.model, seed, t0) for t0 in forks]


def threads_of(wildcards):
    """PyTorch's threads, from the study; Snakemake only plans with this number."""
    return load(wildcards.study).compute.threads


def gpus_of(wildcards):
    """GPUs that a job of the study takes."""
    return 1 if load(wildcards.study).compute.device == "cuda" else 0


def published(wildcards):
    """The study file and the tables that stand in paper/measurements/<study>."""
    folder = MEASUREMENTS / wildcards.study
    if not (folder / "provenance.json").exists():
        names = [path.parent.name for path in sorted(MEASUREMENTS.glob("*/provenance.json"))]
        sys.exit(f"{folder}: holds no measurements; published are: {', '.join(names) or 'none'}")
    return [folder / f"{wildcards.study}.yaml", *sorted(folder.rglob("*.parquet"))]
