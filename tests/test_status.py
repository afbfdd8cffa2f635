"""How far a study is, as its results and logs say."""

import os
import subprocess
import sys
import time

import pytest

from twophase.commands.logs import last_words
from twophase.commands.status import SILENT, lines
from twophase.store.paths import run_folder
from twophase.study import stages
from twophase.study.run import Run

BAR = "comparisons of vgg, seed 0:  40%|####      | 4/10 [00:20<00:30,  2.0s/pair]"


@pytest.fixture
def log(in_trained, smoke):
    """Write the log of a stage of the VGG, so many seconds ago."""

    def write(stage, text, age=0, name=None):
        run = Run(smoke, "vgg", 0)
        file = run_folder(run.identity) / "logs" / (name or stage)
        file = file.with_name(f"{file.name}-{stages.job_fingerprint(stage, run)}.log")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        os.utime(file, (time.time() - age,) * 2)
        return file

    return write


def _rows(study):
    """The words of each line of the table, by stage; and all that follows it."""
    table, _, rest = "\n".join(lines(study)).partition("\n\n")[2].partition("\n\n")
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in table.splitlines()}, rest


def test_of_a_half_done_study_it_says_what_has_ended_and_what_waits(in_trained, smoke):
    table, rest = _rows(smoke)
    assert table["base"].startswith("2 of 2")
    assert table["fork"].startswith("2 of 2")
    assert table["chaos"].startswith("0 of 2")
    waiting = {stage for stage, said in table.items() if said.endswith("waits")}
    had = {"stage", "data", "base", "fork"}
    assert waiting == set(table) - had
    assert {"kernel", "linearized", "figure", "summary"} < waiting
    assert rest == ""


def test_parts_are_counted(in_trained, smoke):
    stages.fork_state(Run(smoke, "vgg", 0), 0, "1", 12).path.unlink()
    table, _ = _rows(smoke)
    parts = sum(len(stages.STAGES["fork"].parts(run)) for run in stages.runs_of(smoke, "fork"))
    assert table["fork"].split(maxsplit=3)[:3] == ["1", "of", "2"]
    assert f"{parts - 1} of {parts}" in table["fork"]


def test_of_a_finished_study_nothing_waits(finished, smoke, monkeypatch):
    monkeypatch.chdir(finished)
    table, rest = _rows(smoke)
    assert not [stage for stage, said in table.items() if "waits" in said]
    assert rest == ""


def test_a_running_job_is_shown_with_its_bar(log, smoke):
    log("chaos", f"comparisons of vgg, seed 0:   0%|   | 0/10 [00:00<?, ?pair/s]\r{BAR}", age=3)
    table, rest = _rows(smoke)
    assert table["chaos"].endswith("1 at work")
    assert "vgg, seed 0: chaos" in rest
    assert "40 % (4/10), 00:30 left; written 3 s ago" in rest


def test_a_job_that_ended_or_is_of_older_code_does_not_run(log, smoke):
    log("chaos", f"{BAR}\nchaos: processor time 2.1 s to start, 9.0 s at work\n")
    old = log("kernel", "kernels of vgg, seed 0:  10%|#  | 1/10 [00:01<00:09,  1.0s/it]")
    old.rename(old.with_name("kernel-00000000.log"))
    log("base", "base run of vgg:  10%|#  | 1/10 [00:01<00:09,  1.0s/it]")  # whose work is there
    table, rest = _rows(smoke)
    assert table["chaos"].endswith("waits")
    assert rest == ""


def test_a_job_that_has_said_nothing_for_long_is_named_with_its_log(log, smoke):
    file = log("chaos", BAR, age=SILENT + 600)
    table, rest = _rows(smoke)
    assert table["chaos"].endswith("waits")
    assert "silent" in rest
    assert "written 20 min ago" in rest
    assert str(file) in rest


def test_a_job_of_several_stages_is_at_the_first_that_has_not_ended(log, smoke):
    run = Run(smoke, "vgg", 0)
    file = log(
        "chaos",
        f"stages: chaos, kernel, cone\n{BAR}\nchaos: processor time 2 s to start, "
        "1 s at work\nkernels of vgg, seed 0:  50%|##  | 2/4 [00:02<00:02,  1.0s/it]",
    )
    file.rename(file.with_name(f"run-{stages.run_fingerprint(run)}.log"))
    table, rest = _rows(smoke)
    assert table["kernel"].endswith("1 at work")
    assert table["chaos"].endswith("waits")
    assert "vgg, seed 0: kernel: kernels of vgg, seed 0: 50 % (2/4), 00:02 left" in rest


def test_the_last_words_of_a_log_are_a_bar_or_a_line():
    assert last_words("") == ""
    assert last_words("a line\nforks: resumes at iteration 7\n") == "forks: resumes at iteration 7"
    assert (
        last_words("x:  50%|##  | 2/4 [00:02<00:02,  1.0s/it]\nout of memory\n") == "out of memory"
    )


def test_it_imports_neither_pytorch_nor_pandas():
    code = "import sys, twophase.commands.status; print({'torch', 'pandas'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
