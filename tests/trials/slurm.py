"""Disturb a small study on a SLURM cluster of one node, and say what comes of it.

    PYTHONPATH=tests python -m trials.slurm [--accounting]

A job takes more memory than it asked for, is cancelled, takes longer than it asked for; the node's
daemon is restarted while jobs run, and the node fails. Each time: what Snakemake says, and whether
the same command, given again, ends in the bytes of an undisturbed run without SLURM. Takes some
ten minutes; `make test` runs it without the time limit and the failure of the node.

With --accounting (slurmdbd, mariadb-server) jobs are followed by `sacct` and not by `squeue`, and
none is cancelled: Snakemake would wait for it for ever.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials import cluster, kill

PROFILE = "workflow/profiles/slurm"
# Of the study `small` of kill.py: each stage of it has a job, but not each table and figure.
TARGETS = [f"figures/small/{figure}.pdf" for figure in ("fig3", "fig5", "fig6")]
# A test has no hundreds of jobs to spare SLURM from questions about.
IMPATIENT = [
    "--slurm-init-seconds-before-status-checks=2",
    "--max-status-checks-per-second=1",
    "--latency-wait=5",
]


class Trial:
    """A checkout whose studies run on a cluster."""

    def __init__(self, folder: Path, where: Path, options: tuple[str, ...] = ()) -> None:
        self.folder, self.where, self.options = folder, where, options
        self.python = sys.executable
        self.environment = cluster.environment(where)
        python = str(Path(sys.executable).parent)
        self.environment["PATH"] = f"{where / 'bin'}:{python}:{self.environment['PATH']}"

    def start(self, *options: str, targets: list[str] = TARGETS) -> subprocess.Popen:
        """Give the command that docs/cluster.md gives."""
        command = [self.python, "-m", "snakemake", "--profile", PROFILE, *IMPATIENT]
        return subprocess.Popen(
            [*command, *self.options, *options, "--", *targets],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *options: str, targets: list[str] = TARGETS) -> tuple[int, str]:
        """Run it to its end: status and output."""
        return ended(self.start(*options, targets=targets))

    def slurm(self, *command: str) -> str:
        """Output of one of SLURM's commands."""
        run = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return run.stdout.strip()

    def job(self, comment: str, state: str = "RUNNING") -> str:
        """Wait for a job whose comment, which names its rule, matches; its id."""

        def found() -> str:
            queue = self.slurm("squeue", "--noheader", f"--states={state}", "--format=%i %k")
            jobs = [line.partition(" ")[::2] for line in queue.splitlines()]
            return next((job for job, its_comment in jobs if re.match(comment, its_comment)), "")

        return until(found)

    def stopped(self, name: str, model: str) -> None:
        """Wait until a stage computes for a model, and stop it there."""

        def found() -> int:
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    command = (folder / "cmdline").read_bytes().split(b"\0")
                    here = (folder / "cwd").resolve() == self.folder.resolve()
                except OSError:
                    continue
                if (
                    here
                    and [b"twophase", name.encode()] == command[2:4]
                    and model.encode() in command
                ):
                    return int(folder.name)
            return 0

        os.kill(until(found), signal.SIGSTOP)


def until(found: Callable[[], Any], seconds: float = 600) -> Any:
    """Ask until there is an answer, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:.0f} s in vain")
        time.sleep(0.1)
    return answer


def ended(run: subprocess.Popen) -> tuple[int, str]:
    """Wait for the end of a run, half an hour at most: status and output."""
    try:
        output, _ = run.communicate(timeout=1800)
    except subprocess.TimeoutExpired:
        run.kill()
        output, _ = run.communicate()
        raise RuntimeError(f"Snakemake does not end:\n{output}") from None
    return run.returncode, output


def complaints(output: str) -> list[dict[str, str]]:
    """What Snakemake says of each failed job, and what SLURM says in the log that it names."""
    found = []
    for block in re.split(r"^Error in rule ", output, flags=re.M)[1:]:
        said = dict(re.findall(r"^    (message|log): (.*)$", block, re.M))
        log = Path(re.search(r"(/\S*/logs/slurm/\S*\.log)", said["log"]).group())
        why = [line for line in log.read_text().splitlines() if line.startswith("slurmstepd")]
        found.append({"rule": block.split(":")[0], **said, "in it": " | ".join(why)})
    return found


def too_much_memory(trial: Trial) -> tuple[int, str]:
    """The data set's job asks for 20 MB and takes ten times that."""
    return trial.run("--set-resources", "data:mem_mb=20")


def cancelled(trial: Trial) -> tuple[int, str]:
    """Somebody cancels the base run of the VGG while it trains."""
    run = trial.start()
    job = trial.job("rule_base_wildcards_small_vgg")
    trial.stopped("base", "vgg")
    trial.slurm("scancel", job)
    return ended(run)


def too_long(trial: Trial) -> tuple[int, str]:
    """A comparison hangs, and its minute is soon over."""
    run = trial.start("--set-resources", "chaos:runtime=1")
    trial.stopped("chaos", "vgg")
    return ended(run)


def daemon_restarted(trial: Trial) -> tuple[int, str]:
    """The node's daemon ends and starts while a job runs: the job does not notice."""
    run = trial.start()
    trial.job("rule_")
    cluster.end(trial.where, "slurmd")
    time.sleep(3)
    cluster.start_slurmd(trial.where)
    return ended(run)


def node_failed(trial: Trial) -> tuple[int, str]:
    """The node goes down under a running job and comes back: SLURM queues the job again."""
    run = trial.start()
    job = trial.job("rule_")
    node = trial.slurm("squeue", "--noheader", "--jobs", job, "--format=%N")
    trial.slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=trial")
    time.sleep(3)
    trial.slurm("scontrol", "update", f"nodename={node}", "state=resume")
    return ended(run)


def main() -> int:
    """Run the trial; status 1 if a result differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--accounting", action="store_true")
    accounting = parser.parse_args().accounting
    if missing := cluster.missing(accounting=accounting):
        sys.exit(f"not installed: {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed, folder = (kill.with_small_study(Path(scratch) / name) for name in "ab")
        _, errors = (run := kill.snakemake(undisturbed, "--cores", "2", *TARGETS)).communicate()
        if run.returncode:
            sys.exit(errors)
        where = Path(scratch) / "cluster"
        cluster.start(where, accounting=accounting)
        try:
            trial = Trial(folder, where, ("--slurm-status-command=sacct",) if accounting else ())
            for disturb in (too_much_memory, cancelled, too_long, node_failed, daemon_restarted):
                if disturb == cancelled and accounting:
                    continue
                if disturb == daemon_restarted:  # all is done by now
                    shutil.rmtree(folder / "results")
                    shutil.rmtree(folder / "figures")
                status, output = disturb(trial)
                print(f"\n{disturb.__doc__}\n  Snakemake ends with status {status}")
                for complaint in complaints(output):
                    print("".join(f"    {key}: {value}\n" for key, value in complaint.items()))
            status, output = trial.run()
            print(f"\nThe same command once more: status {status}")
        finally:
            cluster.stop(where)
        different = kill.differences(folder, undisturbed)
    print(f"{len(different)} results different or lost", *different, sep="\n")
    return 1 if status or different else 0


if __name__ == "__main__":
    sys.exit(main())
