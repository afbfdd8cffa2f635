"""The smoke study through Snakemake, as a user runs it."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, snakemake
from PIL import Image
from trials import kill
from trials.kill import ENVIRONMENT
from twophase.artifacts import sha256

from twophase.figures import FIGURES


def planned(folder, target, *arguments):
    """The numbers of jobs that a dry run plans, by rule."""
    dry = snakemake(folder, "--dry-run", "--cores", "2", *arguments, target)
    assert dry.returncode == 0, dry.stderr
    text = dry.stdout + dry.stderr
    if "Nothing to be done" in text:
        return {}
    table = text.split("Job stats:")[1].split("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+)\s+(\d+)\s*$", table, re.M)}


@pytest.fixture
def checkout(finished, tmp_path):
    """A copy of the finished checkout that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "checkout"))


def _edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def _results(folder):
    """Digests of all that a study leaves under results/, but for logs and timings."""
    results = folder / "results"
    kinds = {".parquet", ".safetensors"}
    return {
        str(path.relative_to(results)): sha256(path)
        for path in sorted(results.rglob("*"))
        if path.suffix in kinds
    }


def test_all_figures_are_drawn(finished):
    drawn = finished / "figures" / "smoke"
    for number in range(1, 7):
        assert (drawn / f"fig{number}.pdf").read_bytes().startswith(b"%PDF")
        assert (drawn / f"fig{number}.png").read_bytes().startswith(b"\x89PNG")
    assert "bit for bit" in (drawn / "findings.md").read_text()


def test_the_manifest_tells_the_true_digests(finished):
    manifest = json.loads((finished / "figures/smoke/manifest.json").read_text())
    assert sorted(manifest["figures"]) == [f"fig{number}" for number in range(1, 7)]
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


def test_one_core_and_two_give_the_same_bytes(finished, tmp_path, copy_checkout):
    folder = copy_checkout(tmp_path)
    run = snakemake(folder, "--cores", "1", "figures/smoke/findings.md", "figures/smoke/fig5.pdf")
    assert run.returncode == 0, run.stderr
    assert _results(folder) == _results(finished)
    for file in ("figures/smoke/findings.md", "figures/smoke/fig5.pdf", "figures/smoke/fig5.png"):
        assert sha256(folder / file) == sha256(finished / file)


@pytest.mark.parametrize("restored", [False, True], ids=["with .snakemake", "without"])
def test_only_what_changed_is_stale(checkout, restored):
    if restored:  # as in a clone into which results and figures were copied
        shutil.rmtree(checkout / ".snakemake")
    target = "figures/smoke/all"
    study, source = checkout / "workflow/config/smoke.yaml", checkout / "src/twophase"
    assert planned(checkout, target) == {}
    # The manifest holds the digest of the study file, and is made anew when that was written anew.
    nothing = [{}, {"study_figures": 1}] if restored else [{}]

    text = study.read_text()
    _edit(study, "lr: 0.02", "lr: 0.03")
    stale = planned(checkout, target)
    assert stale["base"] == 2
    assert "data" not in stale
    study.write_text(text)
    assert planned(checkout, target) in nothing

    _edit(study, "examples_per_class: 1", "examples_per_class: 2")
    stale = planned(checkout, target)
    assert stale["kernel"] == 2
    assert not {"data", "base", "fork", "chaos", "linearized"} & set(stale)
    study.write_text(text)

    train = source / "train.py"
    text = train.read_text()
    _edit(train, "nesterov=False", "nesterov=True")
    assert planned(checkout, target)["base"] == 2
    train.write_text(text)
    assert planned(checkout, target) in nothing

    # An option that only drawing reads.
    _edit(study, "references: [0, 4]", "references: [0, 8]")
    assert set(planned(checkout, target)) <= {"findings", "study_figures", *FIGURES}
    assert planned(checkout, "figures/smoke/fig5.pdf") == {"fig5": 1}
    _edit(study, "references: [0, 8]", "references: [0, 4]")
    assert planned(checkout, target) in nothing

    (checkout / "README.md").write_text("An unrelated change.\n")
    _edit(source / "progress.py", "0.2", "0.3")
    assert planned(checkout, target) in nothing
    _edit(source / "figures/fig3.py", 'title="perturbed', 'title="disturbed')
    assert planned(checkout, "figures/smoke/fig3.pdf") == {"fig3": 1}
    assert planned(checkout, "figures/smoke/fig4.pdf") == {}


def test_one_figure_needs_no_other_stage(finished):
    stages = planned(finished, "figures/smoke/fig3.pdf", "--forceall")
    assert not {"kernel", "cone", "linearized"} & set(stages)
    assert {"data", "base", "fork", "chaos", "summary", "fig3"} == set(stages)


def test_a_mistake_in_a_study_ends_snakemake_with_one_line(checkout):
    _edit(checkout / "workflow/config/smoke.yaml", "lr: 0.02", "lr: -1")
    run = snakemake(checkout, "--cores", "1", "figures/smoke/fig3.pdf")
    assert run.returncode == 1
    expected = "workflow/config/smoke.yaml: training.lr = -1: must be greater than 0"
    assert [line for line in run.stderr.splitlines() if "training.lr" in line] == [expected]
    assert "Traceback" not in run.stderr


def test_a_study_that_does_not_exist_is_named(finished):
    run = snakemake(finished, "--cores", "1", "figures/nowhere/fig3.pdf")
    assert run.returncode == 1
    assert "workflow/config/nowhere.yaml: cannot be read" in run.stderr
    assert "Traceback" not in run.stderr


def test_stages_work_without_snakemake(finished, tmp_path):
    def stage(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "twophase", *arguments],
            cwd=tmp_path,
            env=ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
        )

    study = str(ROOT / "workflow/config/smoke.yaml")
    for command in (["data", study], ["base", study, "--model", "vgg", "--seed", "0"]):
        assert stage(*command).returncode == 0
    theirs = _results(finished)
    assert all(theirs[name] == digest for name, digest in _results(tmp_path).items())

    wrong = stage("base", study, "--model", "vit", "--seed", "0")
    assert wrong.returncode == 1
    assert wrong.stderr == f"{study}: --model vit: must be one of vgg, resnet\n"
    early = stage("chaos", study, "--model", "vgg", "--seed", "0")
    assert early.returncode == 1
    assert "perturbation000000" in early.stderr
    assert "is missing" in early.stderr
    assert "Traceback" not in early.stderr
    early = stage("publish", study)
    assert early.returncode == 1
    assert "run `snakemake --cores all figures/smoke/all` first" in early.stderr
    assert "Traceback" not in early.stderr


def test_published_tables_draw_the_same_figures(checkout):
    study = "workflow/config/smoke.yaml"
    stage = [sys.executable, "-m", "twophase"]
    environment = ENVIRONMENT | {"PYTHONPATH": str(checkout / "src")}
    subprocess.run([*stage, "publish", study], cwd=checkout, env=environment, check=True)
    # As in a clone: nothing but what is committed, and a code that has gone on.
    shutil.rmtree(checkout / "results")
    _edit(checkout / "src/twophase/train.py", "nesterov=False", "nesterov=True")
    run = snakemake(checkout, "--cores", "2", "paper/figures/smoke/all")
    assert run.returncode == 0, run.stderr
    for number in range(1, 7):
        ours, theirs = (
            checkout / f"{f}/smoke/fig{number}.png" for f in ("figures", "paper/figures")
        )
        pixels = [np.asarray(Image.open(file)) for file in (ours, theirs)]
        assert np.array_equal(*pixels)
    published = checkout / "paper/measurements/smoke"
    provenance = json.loads((published / "provenance.json").read_text())
    assert provenance["processor_seconds"]["base"] > 0
    assert len(provenance["tables"]) == 4 + 2 * 6
    for name, table in provenance["tables"].items():
        assert sha256(published / f"{name}.parquet") == table["sha256"]
        assert table["origin"]["threads"] == 1

    run = snakemake(checkout, "--cores", "1", "paper/figures/digits/fig3.pdf")
    assert run.returncode == 1
    assert "paper/measurements/digits: holds no measurements; published are: smoke" in run.stderr


def test_a_result_tells_where_it_comes_from_and_whether_it_is_current(checkout):
    def told(file):
        run = subprocess.run(
            [sys.executable, "-m", "twophase", "provenance", str(file)],
            cwd=checkout,
            env=ENVIRONMENT | {"PYTHONPATH": str(checkout / "src")},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in run.stderr
        return dict(line.split(": ", 1) for line in (run.stdout or run.stderr).splitlines())

    run = checkout / "results/smoke/vgg/seed0"
    files = [
        next(run.glob("chaos-*.parquet")),
        next(run.glob("base-*/step000004.safetensors")),
        next(run.glob("kernel-*/step000004.safetensors")),
        checkout / "figures/smoke/fig3.pdf",
        checkout / "figures/smoke/fig3.png",
        checkout / "figures/smoke/findings.md",
    ]
    for file in files:
        items = told(file.relative_to(checkout))
        assert torch.__version__.startswith(items["torch"])
        assert (items["precision"], items["threads"]) == ("float32", "1")
        assert items["machine"]
        assert len(items["code"]) == 64
        assert items["current"] == "yes"
    _edit(checkout / "workflow/config/smoke.yaml", "lr: 0.02", "lr: 0.03")
    for file in files:
        assert told(file.relative_to(checkout))["current"].startswith("no")
    damaged = files[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert "cannot be used" in next(iter(told(damaged.relative_to(checkout)).values()))


def test_a_study_that_is_killed_loses_nothing(finished, tmp_path, copy_checkout):
    folder = copy_checkout(tmp_path)
    kill.killed_until_done(folder, 3, random.Random(1))
    assert kill.differences(folder, finished) == []


@pytest.fixture
def small_disk(tmp_path, copy_checkout):
    """A checkout whose results lie on a disk of their own, and a function that changes the disk."""
    folder = copy_checkout(tmp_path)
    results = folder / "results"
    results.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(results)]
        return subprocess.run(command, capture_output=True).returncode == 0

    if not mount("size=400k"):
        pytest.skip("mounting a small disk needs the rights of an administrator")
    yield folder, lambda *options: mount("remount", *options)
    subprocess.run(["umount", "-l", str(results)], check=True)


def test_a_full_or_read_only_disk_and_a_second_run_spoil_nothing(finished, small_disk):
    folder, remount = small_disk
    assert remount("ro")
    run = snakemake(folder, "--cores", "2", "figures/smoke/all")
    assert run.returncode == 1
    assert "Read-only file system: 'results/smoke'" in run.stderr

    assert remount("rw", "size=400k")
    run = snakemake(folder, "--cores", "2", "figures/smoke/all")
    assert run.returncode == 1
    logs = "".join(log.read_text() for log in folder.glob("results/smoke/*/seed0/logs/*.log"))
    assert re.search(
        r"^results/smoke/\w+/seed0/\S+: cannot be written: No space left on device$", logs, re.M
    )

    assert remount("rw", "size=100m")
    first = kill.snakemake(folder, "--cores", "2", "figures/smoke/all")
    while not list((folder / ".snakemake/locks").glob("*.lock")):
        assert first.poll() is None
        time.sleep(0.1)
    second = snakemake(folder, "--cores", "2", "figures/smoke/all")
    assert second.returncode == 1
    assert "cannot be locked" in second.stderr
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    assert kill.differences(folder, finished) == []


def test_conda_pins_are_the_locks():
    lock = dict(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "envs/requirements.txt").read_text(), re.M)
    )
    conda = yaml.safe_load((ROOT / "envs/conda.yaml").read_text())["dependencies"]
    names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
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
