"""The smoke study on a real SLURM cluster of one node, through the profiles that users copy."""

import os
import re
import shutil
import signal

import pytest
import yaml
from conftest import ROOT
from trials import cluster, kill, slurm

PROFILES = ROOT / "workflow" / "profiles"


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


def _profile(name):
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


def test_the_profiles_differ_only_in_what_jobs_ask_for():
    gpu, cpu = _profile("slurm"), _profile("slurm-cpu")
    assert set(gpu) - set(cpu) == {"resources", "set-resource-scopes"}
    asked = {"__variables__", "set-resources"}
    assert all(gpu[key] == cpu[key] for key in set(cpu) - asked)
    for profile in (gpu, cpu):
        assert set(profile["set-resources"]) == {
            "base", "fork", "chaos", "kernel", "cone", "linearized"
        }  # fmt: skip
        for asks in profile["set-resources"].values():
            assert {"runtime", "mem_mb"} <= set(asks)


def test_a_disturbed_study_on_a_cluster_ends_in_the_bytes_of_a_local_run(
    finished, node, tmp_path, copy_checkout
):
    trial = slurm.Trial(copy_checkout(tmp_path), node)

    status, output = slurm.too_much_memory(trial)
    assert status == 1
    (complaint,) = slurm.complaints(output)
    assert complaint["rule"] == "data"
    # Where memory is watched by control groups, the message itself says OUT_OF_MEMORY.
    assert re.search("FAILED|OUT_OF_MEMORY", complaint["message"])
    assert "exceeded memory limit" in complaint["in it"]
    assert "logs/data-" in complaint["log"]
    assert not list(trial.folder.rglob("*.safetensors"))

    status, output = slurm.cancelled(trial)
    assert status == 1
    (complaint,) = slurm.complaints(output)
    assert complaint["rule"] == "base"
    assert "CANCELLED" in complaint["message"]
    assert "CANCELLED" in complaint["in it"]
    # What does not need it ran on: but for forks, which share a job with its forks.
    assert list(trial.folder.glob("results/smoke/resnet/seed0/linearized-*.parquet"))
    assert not list(trial.folder.glob("results/smoke/vgg/seed0/training-*.parquet"))

    status, output = slurm.daemon_restarted(trial)
    assert status == 0, output
    assert kill.differences(trial.folder, finished) == []


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("gpu: 1", "TresPerJob=gres:gpu:1"),
        ('gpu: 0, gres: "gpu:1"', "TresPerNode=gres:gpu:1"),
    ],
    ids=["gpu", "gres"],
)
def test_gpus_are_asked_for_in_both_ways(finished, node, tmp_path, asked, shown):
    trial = slurm.Trial(shutil.copytree(finished, tmp_path / "checkout"), node)
    # What Snakemake misses: a figure, and all that lies between it and the job wanted here.
    shutil.rmtree(trial.folder / "figures/smoke")
    for table in (
        *trial.folder.glob("results/smoke/resnet/seed0/linearized-*.parquet"),
        *trial.folder.glob("results/smoke/linearized_summary-*.parquet"),
    ):
        table.unlink()
    file = trial.folder / "workflow/profiles/slurm/config.yaml"
    text = file.read_text()
    assert "gpu, gpu: 1}" in text
    file.write_text(text.replace("gpu, gpu: 1}", f"gpu, {asked}}}"))
    run = trial.start(profile="workflow/profiles/slurm")
    try:
        job = trial.running("rule_linearized")
        request = trial.slurm("scontrol", "show", "job", job)
    finally:
        run.send_signal(signal.SIGINT)
        slurm.ended(run)
    assert shown in request
    assert "Partition=gpu" in request
    # An interrupted run leaves no job behind.
    assert job not in trial.slurm("squeue", "--noheader", "--format=%i").split()
