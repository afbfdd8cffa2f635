"""What Snakemake plans to make again: what is stale by its content, whatever dates say."""

import os
import random
import shutil
import tarfile
import time
from pathlib import Path

import pytest
import yaml
from conftest import SHOWN, command, edit, planned, read_by, snakemake
from trials import kill

from twophase import figures
from twophase.study import stages, studyfile

TARGET = "figures/smoke/all"
STUDY = "workflow/config/smoke.yaml"


def _jobs(folder, *remade, also=()):
    """The jobs that make the tables of stages again, their summaries, and what shows them."""
    study = studyfile.load(folder / STUDY)
    remade = [stage for stage in remade if stages.runs_of(study, stage)]
    tables = {table for stage in remade for table in stages.STAGES[stage].tables}
    drawn = {name: 1 for name, figure in SHOWN.items() if tables & read_by(figure) or name in also}
    jobs = {stage: len(stages.runs_of(study, stage)) for stage in remade} | drawn
    if summaries := tables & set(stages.SUMMARISED):
        jobs["summary"] = len(summaries)
    return jobs | {"study_figures": 1}


def _stale_figures(folder):
    """Figures that are not those of the study and the code in a checkout."""
    study = studyfile.load(folder / STUDY)
    return {
        name
        for name in figures.asked(study)
        if not figures.current(folder / "figures/smoke", name, figures.made_by(study, name))
    }


def _dates(folder):
    return {
        path: path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if not {".snakemake", "__pycache__"}.intersection(path.parts)
    }


def _touch(date):
    def touch(folder):
        for path in sorted(folder.rglob("*")):
            seconds = date()
            os.utime(path, (seconds, seconds), follow_symlinks=False)

    return touch


def _unpack(folder):
    """As from an archive without dates."""

    def undated(info):
        info.mtime = 0
        return info

    with tarfile.open(folder / "all.tar", "w") as archive:
        for path in folder.iterdir():
            if path.name != "all.tar":
                archive.add(path, path.name, filter=undated)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    with tarfile.open(folder / "all.tar") as archive:
        # Before Python 3.11.4 there are no filters.
        archive.extraction_filter = getattr(tarfile, "tar_filter", None)
        archive.extractall(folder)


DAY, YEAR = 86_400, 31_557_600
RANDOM = random.Random(0)
DATES = {
    "of copying": lambda folder: None,
    "1970": _touch(lambda: DAY),
    "1980": _touch(lambda: 10 * YEAR),
    "now": _touch(time.time),
    "2100": _touch(lambda: 130 * YEAR),
    "in random order": _touch(lambda: RANDOM.uniform(DAY, 130 * YEAR)),
    "unpacked": _unpack,
}


def _plans(folders):
    """What dry runs in folders plan."""
    return [planned(folder, TARGET) for folder in folders]


def _restored(finished, folder):
    """A copy as in a clone into which results and figures were copied: Snakemake knows nothing."""
    ignored = shutil.ignore_patterns(".snakemake")
    return Path(shutil.copytree(finished, folder, ignore=ignored, copy_function=shutil.copyfile))


@pytest.mark.parametrize("dates", DATES)
def test_dates_decide_nothing(dates, finished, tmp_path):
    whole = Path(shutil.copytree(finished, tmp_path / "whole", copy_function=shutil.copyfile))
    folders = [whole, _restored(finished, tmp_path / "restored")]
    if dates in ("1970", "2100", "in random order"):
        folders.append(_restored(finished, tmp_path / "other"))
        edit(folders[-1] / STUDY, "barrier_threshold: 0.1", "barrier_threshold: 0.5")
    for folder in folders:
        DATES[dates](folder)
    nothing, also_nothing, *stale = _plans(folders)
    assert nothing == {}
    assert also_nothing == {}
    shown = [name for name, row in SHOWN.items() if "chaos" in row.options + row.timed]
    assert stale in ([], [_jobs(finished, also=shown)])


STAGES = [stage for stage, row in stages.STAGES.items() if row.tables]
# Changes of a file, the stages whose tables are made again, and what else is: figures that show
# an option, forks, which have no table, and the trial of networks before they train.
CHANGES = {
    "training": (STUDY, "lr: 0.02", "lr: 0.03", STAGES, {"check": 1, "fork": 4}),
    "the loop": (
        "src/twophase/training/loop.py",
        "step += 1",
        "step += 2",
        STAGES,
        {"check": 1, "fork": 4},
    ),
    "the kernel's examples": (
        STUDY,
        "examples_per_class: 1",
        "examples_per_class: 2",
        ["kernel", "cone"],
        {"fig2": 1},
    ),
    "what figures mark": (
        STUDY,
        "references: [0, 4]",
        "references: [0, 8]",
        [],
        {name: 1 for name, row in SHOWN.items() if "kernel" in row.options},
    ),
    "a figure": (
        "src/twophase/figures/fig3.py",
        "\n\ndef draw",
        "x = 1\n\n\ndef draw",
        [],
        {"fig3": 1},
    ),
}
CONFIG = "workflow/config/config.yaml"
NO_CHANGES = [
    (CONFIG, "forks_per_job: auto", "forks_per_job: 1"),
    (CONFIG, "keep_minutes: 5", "keep_minutes: 1"),
    ("src/twophase/training/loop.py", '"""', '"""Said otherwise: '),
    ("src/twophase/training/progress.py", "import", "import re\nimport"),
    ("workflow/rules/data.smk", "data set of", "images of"),
]


def test_only_what_changed_is_planned(finished, tmp_path):
    folders = [_restored(finished, tmp_path / str(index)) for index in range(1 + len(CHANGES))]
    for folder, (file, old, new, _, _) in zip(folders, CHANGES.values(), strict=False):
        edit(folder / file, old, new)
    for file, old, new in NO_CHANGES:
        edit(folders[-1] / file, old, new)
    *found, nothing = _plans(folders)
    for plan, (what, (_, _, _, remade, also)) in zip(found, CHANGES.items(), strict=True):
        assert plan == _jobs(finished, *remade) | also, what
    assert nothing == {}


def test_after_a_change_no_stale_figure_is_shown_and_back_again_none_is_computed(
    checkout, finished
):
    DATES["in random order"](checkout)
    shutil.rmtree(checkout / ".snakemake")
    before = kill.contents(checkout)
    text = (checkout / STUDY).read_text()
    edit(checkout / STUDY, "barrier_points: 5", "barrier_points: 7")
    # Figure 2 marks the grids of the section `chaos`.
    expected = _jobs(checkout, "chaos", "sizes", "matching", also=["fig2"])
    assert planned(checkout, TARGET) == expected
    assert _stale_figures(checkout) == set(SHOWN) & set(expected)
    make = ("--cores", "2", TARGET, "--config", "whole_runs=[smoke]")  # in few jobs
    run = snakemake(checkout, *make)
    assert run.returncode == 0, run.stderr
    assert _stale_figures(checkout) == set()
    assert planned(checkout, TARGET) == {}
    for file in ("fig3.png", "findings.md"):
        run = command(checkout, "provenance", f"figures/smoke/{file}")
        assert run.stdout.splitlines()[-1] == "current: yes"

    (checkout / STUDY).write_text(text)
    redrawn = {name for name in expected if name in SHOWN}
    assert planned(checkout, TARGET) == _jobs(checkout, also=redrawn)
    run = snakemake(checkout, *make)
    assert run.returncode == 0, run.stderr
    assert kill.contents(checkout).items() >= before.items()
    for file in (finished / "figures/smoke").iterdir():
        assert (checkout / "figures/smoke" / file.name).read_bytes() == file.read_bytes()


def test_reading_a_study_changes_no_date(checkout):
    def read():
        before = _dates(checkout)
        planned(checkout, TARGET)
        for file in ("figures/smoke/fig3.pdf", "figures/smoke/findings.md"):
            assert command(checkout, "provenance", file).returncode == 0
        (table,) = (checkout / "results/smoke/vgg/seed0").glob("chaos-*.parquet")
        assert command(checkout, "provenance", table.relative_to(checkout)).returncode == 0
        assert _dates(checkout) == before

    read()
    edit(checkout / STUDY, "barrier_threshold: 0.1", "barrier_threshold: 0.5")
    shutil.rmtree(checkout / ".snakemake")
    read()


def _delete(checkout, patterns):
    """Delete results of the VGG; returns how many."""
    folder = checkout / "results/smoke/vgg/seed0"
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    for path in found:
        path.unlink()
    return len(found)


CHAOS = ("chaos-*.parquet", "barrier_path-*.parquet")
CONE = tuple(f"{table}-*.parquet" for table in stages.STAGES["cone"].tables)
# What is deleted: a part, as the message of a stage that cannot use it says, and the tables that
# the stage then did not write; and the stages that run again.
DELETED = {
    "a base state that a fork reads": (
        ["base-*/t-000004.safetensors", "fork-*/t0-000004/direction-1.parquet", *CHAOS],
        ["base", "fork", "chaos"],
    ),
    "a base state that a comparison reads": (
        ["base-*/t-000006.safetensors", "chaos-*/*/*/t1-000006.parquet", *CHAOS],
        ["base", "chaos"],
    ),
    "a fork state": (
        ["fork-*/t0-000004/direction-1/t1-000012.safetensors", *CHAOS],
        ["fork", "chaos"],
    ),
    "a kernel": (["kernel-*/t-000004.safetensors", *CONE], ["kernel", "cone"]),
    "a kernel and the state that it is of": (
        ["base-*/t-000004.safetensors", "kernel-*/t-000004.safetensors", *CONE],
        ["base", "kernel", "cone"],
    ),
}


def test_what_is_deleted_is_made_again_and_no_more(finished, checkout, tmp_path):
    folders = [_restored(finished, tmp_path / str(index)) for index in range(len(DELETED))]
    for folder, (patterns, _) in zip(folders, DELETED.values(), strict=True):
        assert _delete(folder, patterns) >= len(patterns)
    # Summaries and figures are there and current; their list comes after all else.
    expected = {
        what: dict.fromkeys([*again, "study_figures"], 1) for what, (_, again) in DELETED.items()
    }
    assert dict(zip(DELETED, _plans(folders), strict=True)) == expected
    # All at once, to have the same bytes in one run.
    for patterns, _ in DELETED.values():
        _delete(checkout, patterns)
    run = snakemake(checkout, "--cores", "2", TARGET)
    assert run.returncode == 0, run.stderr
    assert kill.differences(checkout, finished) == []
    assert planned(checkout, TARGET) == {}


def test_parts_that_nothing_needs_any_more_may_be_deleted(checkout):
    for folder in (checkout / "results/smoke").glob("*/seed0/*-*"):
        if folder.is_dir():
            shutil.rmtree(folder)
    (mark,) = (checkout / "results/smoke").glob("check-*")
    mark.unlink()
    assert planned(checkout, TARGET) == {}
    # Until an option asks for more.
    edit(checkout / STUDY, "  switches: [0, 6]", "  switches: [0, 5]")
    assert {"check", "base", "linearized"} <= planned(checkout, TARGET).keys()


def test_a_study_without_some_sections_runs_to_its_end(tmp_path, copy_checkout):
    folder = copy_checkout(tmp_path)
    raw = yaml.safe_load((folder / STUDY).read_text())
    for section in {row.section for row in stages.STAGES.values()} - {None, "chaos", "linearized"}:
        raw.pop(section, None)
    raw["chaos"] |= {"forks": [4], "control": [], "directions": 1, "compare": [12]}
    raw["linearized"]["switches"] = [6]
    raw["models"]["vgg"]["linearized"] = False
    raw["models"]["resnet"]["chaos"] = False
    (folder / "workflow/config/mine.yaml").write_text(yaml.safe_dump(raw))
    run = snakemake(folder, "--cores", "2", "figures/mine/all", "--config", "whole_runs=[mine]")
    assert run.returncode == 0, run.stderr
    drawn = {path.stem for path in (folder / "figures/mine").glob("*.*")}
    assert drawn == {"fig2", "fig3", "fig6", "findings", "manifest"}
    assert {
        path.parent.parent.name for path in folder.glob("results/mine/*/*/chaos-*.parquet")
    } == {"vgg"}
    assert not list(folder.glob("results/mine/*/*/kernel*"))
    assert planned(folder, "figures/mine/all") == {}

    run = snakemake(folder, "--cores", "2", "figures/mine/fig4.pdf")
    assert run.returncode == 1
    expected = "workflow/config/mine.yaml: has no section that fig4 shows"
    assert [line for line in run.stderr.splitlines() if line.startswith("workflow")] == [expected]
    assert "Traceback" not in run.stderr
