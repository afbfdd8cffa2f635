"""What Snakemake plans to make again: what is stale by its content, whatever dates say."""

import os
import random
import shutil
import tarfile
import time
from multiprocessing.pool import ThreadPool

import pytest
import yaml
from conftest import command, edit, planned, snakemake
from trials import kill

from twophase import figures, stages, studyfile
from twophase.figures import FIGURES

TARGET = "figures/smoke/all"
STUDY = "workflow/config/smoke.yaml"


def _jobs(folder, *remade, also=()):
    """The jobs that make the tables of stages again, their summaries, and what shows them."""
    study = studyfile.load(folder / STUDY)
    tables = {table for stage in remade for table in stages.STAGES[stage].tables}
    drawn = {
        name: 1
        for name, figure in FIGURES.items()
        if tables & {*figure.summaries, *figure.also, *figure.first_seed} or name in also
    }
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
        if ".snakemake" not in path.parts
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
        archive.extractall(folder, filter="tar")


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


@pytest.fixture(scope="module")
def copies(finished, tmp_path_factory):
    """Copies of the finished checkout: one as it is, one without Snakemake's memory of earlier
    runs, and one such with another option that figures show. Tests change their dates alone.
    """
    whole, bare, other = (tmp_path_factory.mktemp("copies") / name for name in "abc")
    shutil.copytree(finished, whole, copy_function=shutil.copyfile)
    for folder in (bare, other):
        shutil.copytree(finished, folder, copy_function=shutil.copyfile)
        shutil.rmtree(folder / ".snakemake")
    edit(other / STUDY, "barrier_threshold: 0.1", "barrier_threshold: 0.5")
    return whole, bare, other


@pytest.mark.parametrize("dates", DATES)
def test_dates_decide_nothing(dates, copies):
    for folder in copies:
        DATES[dates](folder)
    with ThreadPool(2) as pool:
        whole, bare, other = pool.map(lambda folder: planned(folder, TARGET), copies)
    for folder in copies[1:]:
        shutil.rmtree(folder / ".snakemake")
    assert whole == {}
    assert bare == {}
    shown = [name for name, row in FIGURES.items() if "chaos" in row.options]
    assert other == _jobs(copies[2], also=shown)


@pytest.mark.parametrize("restored", [False, True], ids=["with .snakemake", "without"])
def test_only_what_changed_is_planned(checkout, restored):
    if restored:  # as in a clone into which results and figures were copied
        shutil.rmtree(checkout / ".snakemake")
    study, source = checkout / STUDY, checkout / "src/twophase"

    def with_(file, old, new):
        text = file.read_text()
        edit(file, old, new)
        jobs = planned(checkout, TARGET)
        file.write_text(text)
        return jobs

    every = [stage for stage, row in stages.STAGES.items() if row.tables]
    all_jobs = _jobs(checkout, *every)
    assert with_(study, "lr: 0.02", "lr: 0.03") == all_jobs | {"fork": 4}
    assert with_(source / "training.py", "state.step += 1", "state.step += 2") == (
        all_jobs | {"fork": 4}
    )
    assert with_(study, "examples_per_class: 1", "examples_per_class: 2") == (
        _jobs(checkout, "kernel", "cone", also=["fig2"])
    )
    # An option that only drawing reads.
    assert with_(study, "references: [0, 4]", "references: [0, 8]") == _jobs(
        checkout, also=[name for name, row in FIGURES.items() if "kernel" in row.options]
    )
    assert with_(source / "figures/fig3.py", "\n\ndef draw", "x = 1\n\n\ndef draw") == _jobs(
        checkout, also=["fig3"]
    )
    # What changes no result.
    config = checkout / "workflow/config/config.yaml"
    assert with_(config, "forks_per_job: auto", "forks_per_job: 1") == {}
    assert with_(config, "keep_minutes: 5", "keep_minutes: 1") == {}
    edit(source / "training.py", '"""', '"""Said otherwise: ')
    edit(source / "progress.py", "0.2", "0.3")
    (checkout / "README.md").write_text("An unrelated change.\n")
    assert planned(checkout, TARGET) == {}


def test_after_a_change_no_stale_figure_is_shown_and_back_again_none_is_computed(
    checkout, finished
):
    DATES["in random order"](checkout)
    shutil.rmtree(checkout / ".snakemake")
    before = kill.contents(checkout)
    text = (checkout / STUDY).read_text()
    edit(checkout / STUDY, "barrier_points: 5", "barrier_points: 7")
    # Figure 2 marks the grids of the section `chaos`.
    expected = _jobs(checkout, "chaos", also=["fig2"])
    assert planned(checkout, TARGET) == expected
    assert _stale_figures(checkout) == set(FIGURES) & set(expected)
    run = snakemake(checkout, "--cores", "2", TARGET)
    assert run.returncode == 0, run.stderr
    assert _stale_figures(checkout) == set()
    assert planned(checkout, TARGET) == {}
    for file in ("fig3.png", "findings.md"):
        run = command(checkout, "provenance", f"figures/smoke/{file}")
        assert run.stdout.splitlines()[-1] == "current: yes"

    (checkout / STUDY).write_text(text)
    redrawn = {name for name in expected if name in FIGURES}
    assert planned(checkout, TARGET) == _jobs(checkout, also=redrawn)
    run = snakemake(checkout, "--cores", "2", TARGET)
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


def _delete(*patterns):
    """Delete results of the VGG."""

    def delete(checkout):
        for pattern in patterns:
            found = list((checkout / "results/smoke/vgg/seed0").glob(pattern))
            assert found, pattern
            for path in found:
                path.unlink()

    return delete


CHAOS = ("chaos-*.parquet", "barrier_path-*.parquet")
CONE = tuple(f"{table}-*.parquet" for table in stages.STAGES["cone"].tables)
# What is deleted: a part, as the message of a stage that cannot use it says, and the tables that
# the stage then did not write; and the jobs that make them again.
DELETED = {
    "a base state that a fork reads": (
        ["base-*/t-000004.safetensors", "fork-*/t0-000004/direction-1.parquet", *CHAOS],
        {"base": 1, "fork": 1, "chaos": 1},
    ),
    "a base state that a comparison reads": (
        ["base-*/t-000006.safetensors", "chaos-*/*/*/t1-000006.parquet", *CHAOS],
        {"base": 1, "chaos": 1},
    ),
    "a fork state": (
        ["fork-*/t0-000004/direction-1/t1-000012.safetensors", *CHAOS],
        {"fork": 1, "chaos": 1},
    ),
    "a kernel": (["kernel-*/t-000004.safetensors", *CONE], {"kernel": 1, "cone": 1}),
    "a kernel and the state that it is of": (
        ["base-*/t-000004.safetensors", "kernel-*/t-000004.safetensors", *CONE],
        {"base": 1, "kernel": 1, "cone": 1},
    ),
    "a table": (["training-*.parquet"], {"base": 1}),
}


def test_what_is_deleted_is_made_again_and_no_more(checkout, finished):
    results, kept = checkout / "results", checkout / "kept"
    results.rename(kept)
    for what, (patterns, jobs) in DELETED.items():
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(kept, results)
        _delete(*patterns)(checkout)
        assert planned(checkout, TARGET) == jobs, what
    # All at once, to have the same bytes in one run.
    for patterns, _ in DELETED.values():
        for pattern in patterns:
            for path in (results / "smoke/vgg/seed0").glob(pattern):
                path.unlink()
    run = snakemake(checkout, "--cores", "2", TARGET)
    assert run.returncode == 0, run.stderr
    assert kill.differences(checkout, finished) == []
    assert planned(checkout, TARGET) == {}


def test_parts_that_nothing_needs_any_more_may_be_deleted(checkout):
    for folder in (checkout / "results/smoke").glob("*/seed0/*-*"):
        if folder.is_dir():
            shutil.rmtree(folder)
    assert planned(checkout, TARGET) == {}
    # Until an option asks for more.
    edit(checkout / STUDY, "  switches: [0, 6]", "  switches: [0, 5]")
    assert {"base", "linearized"} <= planned(checkout, TARGET).keys()


def test_a_study_without_some_sections_runs_to_its_end(tmp_path, copy_checkout):
    folder = copy_checkout(tmp_path)
    raw = yaml.safe_load((folder / STUDY).read_text())
    for section in ("kernel", "curvature", "trajectory"):
        del raw[section]
    raw["chaos"] |= {"forks": [4], "control": [], "directions": 1, "compare": [12]}
    raw["linearized"]["switches"] = [6]
    raw["models"]["vgg"]["linearized"] = False
    raw["models"]["resnet"]["chaos"] = False
    (folder / "workflow/config/mine.yaml").write_text(yaml.safe_dump(raw))
    run = snakemake(folder, "--cores", "2", "figures/mine/all")
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
    assert [line for line in run.stderr.splitlines() if "fig4" in line] == [expected]
    assert "Traceback" not in run.stderr
