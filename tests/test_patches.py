"""Where we reach into Snakemake: each trial fails when a version of it changes there."""

import os
import sys
from pathlib import Path

import pytest
from conftest import ROOT, snakemake

from twophase.commands import patches

CODE = f"code={ROOT / 'src'}"
SNAKEFILE = """
import logging
import sys
from pathlib import Path
sys.path.insert(0, config["code"])
from twophase.commands import patches

class Handler(logging.StreamHandler):
    def emit(self, record):
        Path("said").write_text("something")

def inputs(wildcards):
    Path("again").write_text(" ".join(patches.asked_again(workflow)))
    patches.forget_dates(workflow)
    patches.make_again(workflow, [Path("forced")])
    return ["future"]

rule all:
    input: "kept", "forced", "late.txt"

rule kept:
    input: ancient("future")
    output: "kept"
    params: config["option"]
    shell: "echo {params} > {output}"

rule forced:
    output: "forced"
    shell: "echo now > {output}"

rule late:
    input: inputs
    output: "late.txt"
    shell: "echo now > {output}"

if config["option"] == 2:
    patches.say_through(lambda own: Handler())
"""


@pytest.fixture
def small(tmp_path):
    """A workflow of three rules, one of which reads a file of the year 2100."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    future = tmp_path / "future"
    future.touch()
    os.utime(future, (4_102_444_800,) * 2)
    return tmp_path


def test_dates_and_what_snakemake_remembers_do_not_count_but_what_we_say(small):
    run = snakemake(small, "--cores", "1", "--config", CODE, "option=1")
    # Not "output files older than input files".
    assert run.returncode == 0, run.stderr
    assert "Finished" in run.stderr
    for name in ("kept", "forced"):
        (small / name).write_text("before")
    words = ["--config", CODE, "option=2", "--force", "--", "all", "late.txt"]
    run = snakemake(small, "--cores", "1", *words)
    assert run.returncode == 0, run.stderr
    # A parameter is another one, and that is no reason.
    assert (small / "kept").read_text() == "before"
    assert (small / "forced").read_text() == "now\n"
    assert set((small / "again").read_text().split()) == {"late.txt", "all"}
    assert (small / "said").exists()
    assert "Finished" not in run.stderr


def test_targets_are_named_as_rules_name_them(monkeypatch):
    file = str(Path("figures/smoke/all").absolute())
    words = ["--cores", "2", "--config", "whole_runs=[smoke]", "-n", "--", "figures/all", file]
    monkeypatch.setattr(sys, "argv", ["snakemake", *words])
    assert patches.targets() == ["figures/all", "figures/smoke/all"]
