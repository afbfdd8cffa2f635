"""The smoke study through Snakemake, as a user runs it."""

import json
import random
import re
import subprocess
import time

import forked
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SHOWN, command, edit, planned, snakemake
from trials import kill

from twophase import jobs
from twophase.store.artifacts import sha256
from twophase.study import studyfile
from twophase.writeup import page


def test_all_figures_are_drawn(finished):
    drawn = finished / "figures" / "smoke"
    for number in range(1, 7):
        assert (drawn / f"fig{number}.pdf").read_bytes().startswith(b"%PDF")
        assert (drawn / f"fig{number}.png").read_bytes().startswith(b"\x89PNG")
    findings = (drawn / "findings.md").read_text()
    assert "bit for bit" in findings
    link = re.search(r"\]\((.*?)\)", findings)[1]
    assert (drawn / link).resolve() == (finished / page.PAGE).resolve()


def test_the_manifest_tells_the_true_digests(finished):
    manifest = json.loads((finished / "figures/smoke/manifest.json").read_text())
    assert list(manifest["figures"]) == list(SHOWN)
    digests = dict(manifest["study"])
    for figure in manifest["figures"].values():
        digests |= figure["files"] | figure["tables"]
        assert len(figure["code"]) == 64
    for path, digest in digests.items():
        assert sha256(finished / path) == digest


def test_every_control_equals_its_base_run(finished):
    tables = [pd.read_parquet(p) for p in finished.glob("results/smoke/*/seed0/chaos-*.parquet")]
    chaos = pd.concat(tables)
    control = chaos[chaos["direction"] == "control"]
    assert len(control) == 6
    assert control["identical"].all()
    zero = ["perturbation_l2", "dissimilarity", "l2", "train_barrier", "test_barrier"]
    assert (control[[*zero, "disagreement"]] == 0).all(axis=None)
    perturbed = chaos[chaos["direction"] != "control"]
    assert not perturbed["identical"].any()
    assert (perturbed["perturbation_l2"] > 0).all()


def test_cores_and_forks_per_job_change_no_byte(finished, tmp_path, copy_checkout, monkeypatch):
    # Here each stage has a job of its own, one after another, and the forks some: of two forks, and
    # of one that is left over. What they are compared with, two cores made in whole runs.
    folder, cores, forks = copy_checkout(tmp_path / "checkout"), 1, 2
    config = folder / "workflow/config/config.yaml"
    edit(config, "forks_per_job: auto", f"forks_per_job: {forks}")
    run = snakemake(folder, "--cores", cores, "figures/smoke/all")
    assert run.returncode == 0, run.stderr
    assert kill.differences(folder, finished) == []
    drawn = {file.name for file in (finished / "figures/smoke").iterdir()} - {"all"}
    assert {file.name for file in (folder / "figures/smoke").iterdir()} - {"all"} == drawn
    for name in drawn:
        assert sha256(folder / "figures/smoke" / name) == sha256(finished / "figures/smoke" / name)

    study = studyfile.load(folder / "workflow/config/smoke.yaml")
    monkeypatch.chdir(copy_checkout(tmp_path / "fresh"))
    expected = {job.log for job in jobs.jobs(study, {"forks_per_job": forks}, cores) if job.left}
    assert {log.relative_to(folder) for log in folder.glob("results/**/logs/*.log")} == expected


def test_one_figure_needs_no_other_stage(tmp_path, copy_checkout):
    needed = planned(copy_checkout(tmp_path), "figures/smoke/fig3.pdf")
    first = {"data": 1, "check": 1, "base": 2}
    assert needed == first | {"fork": 4, "chaos": 2, "summary": 1, "fig3": 1}


def test_a_mistake_in_a_study_ends_snakemake_with_one_line(checkout):
    edit(checkout / "workflow/config/smoke.yaml", "lr: 0.02", "lr: -1")
    run = snakemake(checkout, "--cores", "1", "figures/smoke/fig3.pdf")
    assert run.returncode == 1
    expected = "workflow/config/smoke.yaml: training.lr = -1: must be greater than 0"
    assert [line for line in run.stderr.splitlines() if "training.lr" in line] == [expected]
    assert "Traceback" not in run.stderr


def test_code_that_cannot_be_followed_ends_snakemake_with_one_line(tmp_path, copy_checkout):
    folder = copy_checkout(tmp_path)
    file = folder / "src/twophase/networks/resnet.py"
    file.write_text(f"{file.read_text()}exec('x = 1')\n")
    run = snakemake(folder, "--cores", "1", "figures/smoke/fig3.pdf")
    assert run.returncode == 1
    expected = f"{file}:{len(file.read_text().splitlines())}: exec runs code that"
    (line,) = [line for line in run.stderr.splitlines() if "exec" in line]
    assert line.startswith(expected)
    assert "Traceback" not in run.stderr


def test_a_study_that_does_not_exist_is_named(finished):
    run = snakemake(finished, "--cores", "1", "figures/nowhere/fig3.pdf")
    assert run.returncode == 1
    assert "workflow/config/nowhere.yaml: cannot be read" in run.stderr
    assert "Traceback" not in run.stderr


def test_stages_work_without_snakemake(finished, tmp_path, copy_checkout):
    folder, study = copy_checkout(tmp_path), "workflow/config/smoke.yaml"
    for stage in (["data", study], ["base", study, "--model", "vgg", "--seed", "0"]):
        assert command(folder, *stage).returncode == 0
    ours, theirs = kill.contents(folder), kill.contents(finished)
    assert len(ours) == 1 + 5 + 1
    assert {name for name in ours if ours[name] != theirs[name]} == set()

    def refused(*arguments):
        run = command(folder, *arguments)
        assert run.returncode == 1
        *bars, message = run.stderr.splitlines()
        assert all(not bar or bar.startswith("kernels of resnet") for bar in bars), run.stderr
        return message

    wrong = refused("base", study, "--model", "vit", "--seed", "0")
    assert wrong == f"{study}: --model vit: must be one of vgg, resnet"
    early = refused("kernel", study, "--model", "resnet", "--seed", "0")
    assert "base-" in early
    assert "is missing" in early
    early = refused("publish", study)
    assert "run `snakemake --cores all figures/smoke/all` first" in early


def test_a_result_tells_where_it_comes_from_and_whether_it_is_current(checkout):
    def told(file):
        run = command(checkout, "provenance", file)
        assert "Traceback" not in run.stderr
        return dict(line.split(": ", 1) for line in (run.stdout or run.stderr).splitlines())

    run = checkout / "results/smoke/vgg/seed0"
    files = [
        next(run.glob("chaos-*.parquet")),
        next(run.glob("base-*/t-000004.safetensors")),
        next(run.glob("kernel-*/t-000004.safetensors")),
        checkout / "figures/smoke/fig3.pdf",
        checkout / "figures/smoke/fig3.png",
        checkout / "figures/smoke/findings.md",
    ]
    for file in files:
        items = told(file.relative_to(checkout))
        assert torch.__version__.startswith(items["torch"])
        assert (items["precision"], items["threads"]) == ("float32", "1")
        assert items["machine"]
        if file.is_relative_to(run):
            assert len(items["code"]) == 64
        else:
            assert re.fullmatch("[0-9a-f]{8}", items["made by"])
        assert items["current"] == "yes"
    edit(checkout / "workflow/config/smoke.yaml", "lr: 0.02", "lr: 0.03")
    for file in files:
        assert told(file.relative_to(checkout))["current"].startswith("no")
    damaged = files[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert "cannot be used" in next(iter(told(damaged.relative_to(checkout)).values()))


def test_a_study_that_is_killed_loses_nothing(small, tmp_path):
    folder = kill.with_small_study(tmp_path)
    # A job whose `python` is killed is killed itself, though it is a fork of another process.
    kill.killed_until_done(folder, 3, random.Random(1), forked.python())
    assert kill.differences(folder, small) == []


@pytest.fixture
def small_disk(tmp_path):
    """A checkout whose results lie on a disk of their own, and a function that changes the disk."""
    folder = kill.with_small_study(tmp_path)
    results = folder / "results"
    results.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(results)]
        return subprocess.run(command, capture_output=True).returncode == 0

    if not mount("size=400k"):
        pytest.skip("mounting a small disk needs the rights of an administrator")
    yield folder, lambda *options: mount("remount", *options)
    subprocess.run(["umount", "-l", str(results)], check=True)


def test_a_full_or_read_only_disk_and_a_second_run_spoil_nothing(small, small_disk):
    folder, remount = small_disk
    words = ("--cores", "2", "figures/small/all", "--config", "whole_runs=[small]")
    assert remount("ro")
    run = snakemake(folder, *words)
    assert run.returncode == 1
    assert "Read-only file system: 'results/small'" in run.stderr

    assert remount("rw", "size=400k")
    run = snakemake(folder, *words)
    assert run.returncode == 1
    logs = "".join(log.read_text() for log in folder.glob("results/small/*/seed0/logs/*.log"))
    assert re.search(
        r"^results/small/\w+/seed0/\S+: cannot be written: No space left on device$", logs, re.M
    )

    assert remount("rw", "size=100m")
    first = kill.snakemake(folder, *words, python=forked.python())
    while not list((folder / ".snakemake/locks").glob("*.lock")):
        assert first.poll() is None
        time.sleep(0.1)
    second = snakemake(folder, *words)
    assert second.returncode == 1
    # It looks for outputs at work before it looks at the lock.
    assert re.search("cannot be locked|files below seem to be incomplete", second.stderr)
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    assert kill.differences(folder, small) == []


def test_conda_pins_are_the_locks():
    lock = dict(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "envs/requirements.txt").read_text(), re.M)
    )
    conda = yaml.safe_load((ROOT / "envs/conda.yaml").read_text())["dependencies"]
    names = {"pytorch": "torch", "matplotlib-base": "matplotlib", "typst-py": "typst"}
    names["ruamel.yaml"] = "ruamel-yaml"
    pins = dict(dependency.split("=") for dependency in conda)
    assert pins.pop("python") == "3.11"
    assert {names.get(name, name): pin for name, pin in pins.items()} == {
        names.get(name, name): lock[names.get(name, name)] for name in pins
    }


def test_every_pin_has_a_hash_and_names_no_host():
    lock = (ROOT / "envs/requirements.txt").read_text()
    pins = re.findall(r"^[a-z0-9.-]+(?:\[\w+\])?==.*(?:\n    --hash=.*)+", lock, re.M)
    assert len(pins) == len(
        re.findall(r"==", "\n".join(pin.split("\n")[0].split(";")[0] for pin in pins))
    )
    assert len(pins) == len(re.findall(r"^[a-z]", lock, re.M))
    assert "://" not in lock


def test_pytorch_from_an_index_of_ones_own_comes_without_cuda():
    make = ["make", "-C", str(ROOT), "--dry-run", "--always-make", ".venv/ready"]
    asked = subprocess.run([*make, "TORCH_INDEX=file:///there"], capture_output=True, text=True)
    pins = re.compile(r"^([a-z0-9.-]+)(?:\[\w+\])?==", re.M)
    lock = (ROOT / "envs/requirements.txt").read_text()
    torch = re.search(r"^torch==\S+", lock, re.M)[0]
    assert f"--index-url 'file:///there' {torch} torchvision==" in asked.stdout
    filtered = re.search(r"^(grep .*) > \S+$", asked.stdout, re.M)[1]
    kept = subprocess.run(filtered, shell=True, cwd=ROOT, capture_output=True, text=True).stdout
    left_out = set(pins.findall(lock)) - set(pins.findall(kept))
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-toolkit"} <= left_out
    assert all(re.match("torch|triton|nvidia-|cuda-", name) for name in left_out)
    assert not re.search("nvidia|cuda|^torch", kept, re.M)
    # Without it, all of the lock.
    plain = subprocess.run(make, capture_output=True, text=True).stdout
    assert "awk" not in plain
    assert "--index-url" not in plain
