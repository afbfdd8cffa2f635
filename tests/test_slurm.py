"""A small study on a real SLURM of one node with two cores, through the profile users copy."""

import os
import re
import signal
import subprocess

import forked
import pytest
import yaml
import yte
from conftest import ROOT, edit
from trials import cluster, kill, slurm

PROFILE = ROOT / "workflow/profiles/slurm/config.yaml"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A running cluster. Without SLURM the tests are skipped, but not where it must be there."""
    if missing := cluster.missing():
        message = f"SLURM is not installed: no {', '.join(missing)}"
        if os.environ.get("TWOPHASE_NEEDS_SLURM"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("cluster")
    cluster.start(folder)
    yield folder
    cluster.stop(folder)


@pytest.fixture
def commands(tmp_path):
    """Write commands of SLURM as shell scripts; returns the folder."""

    def write(**scripts):
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        return tmp_path

    return write


def test_a_disturbed_study_on_a_cluster_ends_in_the_bytes_of_a_local_run(small, node, tmp_path):
    trial = slurm.Trial(kill.with_small_study(tmp_path), node)

    status, output = slurm.too_much_memory(trial)
    assert status == 1
    (complaint,) = slurm.complaints(output)
    assert complaint["rule"] == "data"
    # Where memory is watched by control groups, the message itself says OUT_OF_MEMORY.
    assert re.search("FAILED|OUT_OF_MEMORY", complaint["message"])
    assert "exceeded memory limit" in complaint["in it"]
    assert "logs/data-" in complaint["log"]
    assert not list(trial.folder.rglob("*.safetensors"))

    # From here on no process of a job is disturbed but those of one: for others forks do.
    trial.python, trial.environment["FROM_NOTHING"] = forked.python(), "model=vgg"
    status, output = slurm.cancelled(trial)
    assert status == 1
    (complaint,) = slurm.complaints(output)
    assert complaint["rule"] == "base"
    assert "CANCELLED" in complaint["message"]
    assert "CANCELLED" in complaint["in it"]
    # What does not need it went on.
    assert list(trial.folder.glob("results/small/resnet/seed0/chaos-*.parquet"))
    assert not list(trial.folder.glob("results/small/vgg/seed0/training-*.parquet"))

    del trial.environment["FROM_NOTHING"]
    status, output = slurm.daemon_restarted(trial)
    assert status == 0, output
    ours, theirs = kill.contents(trial.folder), kill.contents(small)
    assert ours.keys() >= {name for name in theirs if "/seed0/" in name}
    assert {name for name in ours if ours[name] != theirs[name]} == set()
    for target in slurm.TARGETS:
        assert (trial.folder / target).read_bytes() == (small / target).read_bytes()

    # Each job asked for one core, the study's threads, for no GPU, and for the partition without.
    jobs = (node / "jobs").read_text().splitlines()
    asked = [re.search(r" Partition=(\S+) .* Tres=(\S+) ", job).groups() for job in jobs]
    assert len(asked) > 15
    assert {partition for partition, _ in asked} == {"main"}
    assert {re.sub(r"mem=\w+", "mem", tres) for _, tres in asked} == {"cpu=1,mem,node=1,billing=1"}


@pytest.mark.parametrize(
    ("asked", "shown"),
    [("gpu: 1", "TresPerJob=gres:gpu:1"), ('gres: "gpu:1"', "TresPerNode=gres:gpu:1")],
    ids=["gpus", "gres"],
)
def test_only_jobs_on_cuda_ask_for_a_gpu(node, raw, tmp_path, copy_checkout, asked, shown):
    trial = slurm.Trial(copy_checkout(tmp_path), node)
    trial.python = forked.python()
    raw["compute"] |= {"device": "cuda", "threads": 2}
    del raw["models"]["vgg"]
    (trial.folder / "workflow/config/mine.yaml").write_text(yaml.safe_dump(raw))
    file = trial.folder / PROFILE.relative_to(ROOT)
    text = file.read_text()
    assert "gpu, gpu: 1," in text
    file.write_text(text.replace("gpu, gpu: 1,", f"gpu, {asked},"))

    # While its partition is down, a job waits and can be looked at.
    trial.slurm("scontrol", "update", "partitionname=gpu", "state=down")
    run = trial.start(targets=["figures/mine/fig2.pdf"])
    job = trial.job("rule_check_wildcards_mine", "PENDING")
    request = trial.slurm("scontrol", "show", "job", job)
    assert "MinMemoryNode=16000M" in request
    assert {shown, "Partition=gpu", "CPUs/Task=2", "TimeLimit=08:00:00"} <= set(request.split())
    data = trial.slurm(
        "scontrol", "show", "job", trial.job("rule_data_wildcards_mine", "COMPLETED")
    )
    assert {"Partition=main", "CPUs/Task=1"} <= set(data.split())
    assert "gpu" not in data

    # It gets what it asked for: the stage starts, and looks for a GPU that is more than a name.
    trial.slurm("scontrol", "update", "partitionname=gpu", "state=up")
    logs = trial.folder / "results/mine/logs"
    said = re.compile("compute.device = 'cuda'|processor time")
    slurm.until(lambda: any(said.search(log.read_text()) for log in logs.glob("check-*.log")))
    run.send_signal(signal.SIGINT)
    slurm.ended(run)


def test_an_interrupted_run_leaves_no_job_behind(node, tmp_path):
    trial = slurm.Trial(kill.with_small_study(tmp_path), node)
    trial.python = forked.python()
    run = trial.start()
    job = trial.job("rule_data")
    run.send_signal(signal.SIGINT)
    slurm.ended(run)
    assert job not in trial.slurm("squeue", "--noheader", "--format=%i").split()


HANGS, FAILS, ANSWERS = "exec /bin/sleep 1000", "exit 1", "exit 0"
FORGETS = "echo 'MinJobAge               = {} sec'"


@pytest.mark.parametrize(
    ("scripts", "command", "why"),
    [
        ({"scontrol": FORGETS.format(300), "sacct": HANGS}, "squeue", None),
        ({"scontrol": FORGETS.format(0), "sacct": ANSWERS}, "squeue", None),
        ({"scontrol": FORGETS.format(60), "sacct": ANSWERS}, "sacct", None),
        ({"scontrol": FORGETS.format(60), "sacct": FAILS}, "squeue", "'sacct'.* exit status 1"),
        ({"scontrol": FORGETS.format(60)}, "squeue", "No such file or directory: 'sacct'"),
        ({}, "squeue", "No such file or directory: 'scontrol'"),
    ],
    ids=["remembers", "never forgets", "forgets", "sacct fails", "no sacct", "no SLURM"],
)
def test_jobs_are_followed_with_what_answers(commands, monkeypatch, capsys, scripts, command, why):
    monkeypatch.setenv("PATH", str(commands(**scripts)))
    with PROFILE.open() as file:
        profile = yte.process_yaml(file, require_use_yte=True)
    assert profile["slurm-status-command"] == command
    said = f"jobs are followed with squeue: .*{why}\\.?\n" if why else ""
    assert re.fullmatch(said, capsys.readouterr().err)


def test_a_sacct_that_hangs_does_not_stop_the_profile(commands, tmp_path, copy_checkout):
    folder = commands(scontrol=FORGETS.format(60), sacct=HANGS)
    checkout = copy_checkout(tmp_path / "checkout")
    profile = checkout / PROFILE.relative_to(ROOT)
    edit(profile, '"timeout": 10', '"timeout": 2')
    words = ["--profile", profile.parent, "--dry-run", "figures/smoke/fig3.pdf"]
    run = subprocess.run(
        [forked.python(), "-m", "snakemake", *words],
        cwd=checkout,
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,  # sacct sleeps longer
    )
    assert run.returncode == 0, run.stderr
    (said,) = [line for line in run.stderr.splitlines() if "squeue" in line]
    assert "'sacct', '--noheader']' timed out after 2 seconds" in said
