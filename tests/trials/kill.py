"""Kill a small study again and again, and compare what it ends in with an undisturbed run.

    python tests/trials/kill.py --kills 25

At random moments every process of the run gets SIGKILL; then the same command is given again, as
README says. States are kept after every step, so that runs resume between their checkpoints.
Afterwards all tables, kernels and checkpoints must have the bytes of a run that nobody disturbed.
`make test` runs the same with three kills.
"""

import argparse
import atexit
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TARGET = "figures/small/all"
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
}


# Runs Snakemake; its jobs are started with the `python` that lies beside the first argument.
SNAKEMAKE = """
import runpy, sys

sys.executable = sys.argv.pop(1)
runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
"""


def snakemake(
    folder: Path, *arguments: str, python: str = sys.executable, **streams: int
) -> subprocess.Popen:
    """Start Snakemake in a session of its own, and its jobs with `python`. What it says as errors
    can be read, unless `streams` say otherwise.
    """
    return subprocess.Popen(
        [sys.executable, "-c", SNAKEMAKE, python, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | streams,
        text=True,
        start_new_session=True,
    )


def members(session: int) -> list[int]:
    """The processes of a session: those of Snakemake and of all its jobs."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # pid (name) state parent group session ...; a name may hold spaces and brackets.
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def kill(run: subprocess.Popen) -> None:
    """SIGKILL to all processes of the run, until none is left."""
    while alive := members(run.pid):
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    run.communicate()


def killed_until_done(
    folder: Path, kills: int, rng: random.Random, python: str = sys.executable
) -> int:
    """Run the study in `folder`, killing it `kills` times; returns how often it was killed.

    Raises `RuntimeError` if a run ends badly by itself.
    """
    config, killed = folder / "workflow" / "config" / "config.yaml", 0
    config.write_text(config.read_text().replace("keep_minutes: 5", "keep_minutes: 0"))
    while True:
        run = snakemake(folder, "--cores", "2", "--rerun-incomplete", TARGET, python=python)
        try:
            # The study takes half a minute: spread over it, or the last stages would never be hit.
            patience = rng.uniform(2, 12) if killed < kills else None
            _, errors = run.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            kill(run)
            killed += 1
            unlock = [python, "-m", "snakemake", "--unlock"]
            subprocess.run(unlock, cwd=folder, env=ENVIRONMENT, capture_output=True)
            continue
        if run.returncode:
            raise RuntimeError(f"after {killed} kills the study failed:\n{errors}")
        if killed == kills:
            return killed
        # Done before all kills are spent: something must be left to kill. Of a run whose tables
        # are gone all is made again that is not there.
        run_folder = rng.choice(sorted((folder / "results" / "small").glob("*/seed*")))
        for table in run_folder.glob("*.parquet"):
            table.unlink()
        kept = sorted(path for path in run_folder.glob("*-*") if path.is_dir())
        for parts in rng.sample(kept, min(3, len(kept))):
            shutil.rmtree(parts)


def contents(folder: Path) -> dict[str, bytes]:
    """All results in a folder, by their paths; neither logs nor timings."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in (folder / "results").rglob("*")
        if path.suffix in (".parquet", ".safetensors")
    }


def differences(folder: Path, undisturbed: Path) -> list[str]:
    """Results that only one of two folders has, or that differ between them."""
    ours, theirs = contents(folder), contents(undisturbed)
    return sorted(
        name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
    )


COMPILED = shutil.ignore_patterns("__pycache__")
# Bytecode that is valid by the text it was made from, whatever its date; and what the package
# remembers of texts that it has read.
PREPARE = """
import compileall, py_compile
from pathlib import Path

from twophase.store import texts

by_content = py_compile.PycInvalidationMode.CHECKED_HASH
compileall.compile_dir("src", quiet=1, invalidation_mode=by_content)
for file in Path("src/twophase").rglob("*.py"):
    texts.read(file)
texts.remember()
"""


@cache
def source() -> Path:
    """A copy of src/ as it is after a first command: what a copy of it runs need not be compiled
    and read each time, a third of what a command takes that starts half-way.
    """
    holder = tempfile.TemporaryDirectory()
    atexit.register(holder.cleanup)
    folder = Path(holder.name)
    shutil.copytree(ROOT / "src", folder / "src", ignore=COMPILED)
    environment = ENVIRONMENT | {"PYTHONPATH": "src"}
    subprocess.run([sys.executable, "-c", PREPARE], cwd=folder, env=environment, check=True)
    return folder / "src"


def checkout(folder: Path) -> Path:
    """Copy what a clone holds, without results, to `folder`."""
    shutil.copytree(source(), folder / "src")
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=COMPILED)
    return folder


def with_small_study(folder: Path) -> Path:
    """A checkout with a study `small`: of the smoke study one model, with what stops and resumes or
    keeps parts, in few forks; and of the other, one fork that it does not wait for.
    """
    config = checkout(folder) / "workflow" / "config"
    raw = yaml.safe_load((config / "smoke.yaml").read_text())
    for section in ("sizes", "curvature", "growth", "trajectory", "matching"):
        del raw[section]
    raw["chaos"] |= {"forks": [4], "control": [], "directions": 2}
    raw["linearized"]["switches"] = [6]
    raw["models"]["resnet"] |= {"chaos": {"directions": 1}, "kernel": False, "linearized": False}
    (config / "small.yaml").write_text(yaml.safe_dump(raw))
    return folder


def main() -> int:
    """Run the trial; status 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed, disturbed = (with_small_study(Path(scratch) / name) for name in "ab")
        run = snakemake(undisturbed, "--cores", "2", TARGET)
        _, errors = run.communicate()
        if run.returncode:
            sys.exit(errors)
        killed = killed_until_done(disturbed, arguments.kills, random.Random(arguments.seed))
        different = differences(disturbed, undisturbed)
        total = len(list((undisturbed / "results").rglob("*.parquet")))
        total += len(list((undisturbed / "results").rglob("*.safetensors")))
    print(f"{killed} kills; {total} results, {len(different)} of them different or lost")
    print("\n".join(different), end="")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
