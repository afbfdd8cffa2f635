"""Published measurements draw figures, also those of earlier versions of this program."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT, SHOWN, command, edit, planned, snakemake
from PIL import Image

from twophase.figures import asked, drawing, pictures
from twophase.store.artifacts import read_header, read_table, sha256, write_table
from twophase.store.paths import Result
from twophase.study import studyfile

# What stands in the repository: the studies of the paper, and one of each earlier format.
PUBLISHED = sorted(
    path.parent
    for folder in ("paper/measurements", "tests/published")
    for path in (ROOT / folder).glob("*/provenance.json")
)
PAPER = {f"fig{number}" for number in range(1, 7)}
STUDY = "workflow/config/smoke.yaml"


@pytest.mark.parametrize(
    "folder", PUBLISHED, ids=lambda folder: f"{folder.parent.name}-{folder.name}"
)
def test_what_was_published_redraws_for_ever(folder, tmp_path):
    file = folder / f"{folder.name}.yaml"
    study = studyfile.load(file)
    drawn = PAPER & set(drawing.redrawable(study, file))
    if not list(folder.glob("*_summary.parquet")):  # some of its runs are not published yet
        assert not drawn
        return
    assert drawn == PAPER & set(asked(study))
    assert {"fig2", "fig3"} <= drawn  # not every study has kernels or linearised training
    # One into all of its files: that each figure can be a PDF, the smoke study shows.
    drawing.redraw(study, file, "fig3", tmp_path)
    assert np.asarray(Image.open(tmp_path / "fig3.png")).std() > 5  # something is on the page
    assert (tmp_path / "fig3.pdf").read_bytes().startswith(b"%PDF")
    for figure in drawn - {"fig3"}:
        shown = pictures.tried(study, figure, drawing.published_tables(study, file, figure))
        assert any(ax.has_data() for ax in shown.axes)


@pytest.fixture
def clone(tmp_path, copy_checkout):
    """A fresh clone that holds a study published by an earlier version."""
    folder = copy_checkout(tmp_path / "clone")
    shutil.copytree(ROOT / "tests/published/smoke", folder / "paper/measurements/smoke")
    return folder


def test_published_figures_are_redrawn_when_tables_or_drawing_change_and_not_for_dates(clone):
    target = "paper/figures/smoke/all"
    run = snakemake(clone, "--cores", "2", target)
    assert run.returncode == 0, run.stderr
    drawn = {path.stem for path in (clone / "paper/figures/smoke").glob("*.pdf")}
    assert drawn == PAPER | {"answer"}
    assert planned(clone, target) == {}

    for path in clone.rglob("*"):
        os.utime(path, (86_400, 86_400))
    assert planned(clone, target) == {}
    shutil.rmtree(clone / ".snakemake")
    for path in (clone / "paper/measurements").rglob("*"):
        os.utime(path)
    assert planned(clone, target) == {}

    text = (clone / "src/twophase/figures/fig3.py").read_text()
    edit(clone / "src/twophase/figures/fig3.py", "\n\ndef draw", "x = 1\n\n\ndef draw")
    assert planned(clone, target) == {"published_figure": 1}
    (clone / "src/twophase/figures/fig3.py").write_text(text)
    assert planned(clone, target) == {}

    # A table with one other number.
    path = clone / "paper/measurements/smoke/linearized_summary.parquet"
    table = Result(path, read_header(path)["identity"])
    content = read_table(table)
    content.loc[0, "mean"] += 1
    write_table(table, content)
    assert planned(clone, target) == {"published_figure": 1}
    assert planned(clone, "paper/figures/smoke/fig6.pdf") == {"published_figure": 1}
    # The study's title stands in every figure.
    edit(clone / "paper/measurements/smoke/smoke.yaml", "title: Smoke", "title: A smoke")
    assert planned(clone, target) == {"published_figure": 7}

    run = snakemake(clone, "--cores", "1", "paper/figures/digits/fig3.pdf")
    assert run.returncode == 1
    assert "paper/measurements/digits: holds no measurements; published are: smoke" in run.stderr


def test_published_tables_draw_the_same_figures(checkout):
    assert command(checkout, "publish", STUDY).returncode == 0
    published = checkout / "paper/measurements/smoke"
    for file in (checkout / "results/smoke").glob("*_summary-*.parquet"):
        copy = published / f"{file.stem.rpartition('-')[0]}.parquet"
        assert copy.read_bytes() == file.read_bytes()
    shutil.rmtree(checkout / "results")
    study = studyfile.load(published / "smoke.yaml")
    for figure in set(SHOWN) - {"findings"}:
        folder = checkout / "redrawn"
        drawing.redraw(study, published / "smoke.yaml", figure, folder, format="png")
        pixels = [
            np.asarray(Image.open(checkout / folder / f"{figure}.png"))
            for folder in ("figures/smoke", "redrawn")
        ]
        assert np.array_equal(*pixels)
    provenance = json.loads((published / "provenance.json").read_text())
    assert provenance["processor_seconds"]["base"] > 0
    for name, table in provenance["tables"].items():
        assert sha256(published / f"{name}.parquet") == table["sha256"]
        assert table["origin"]["threads"] == 1
    tables = {path.relative_to(published) for path in published.rglob("*.parquet")}
    assert {f"{name}.parquet" for name in provenance["tables"]} == set(map(str, tables))


def test_a_study_can_be_published_run_by_run(checkout):
    def content():
        return {file: file.read_bytes() for file in published.rglob("*.parquet")}

    published = checkout / "paper/measurements/smoke"
    assert command(checkout, "publish", STUDY).returncode == 0
    whole = content()
    # As on another machine, which has done one of the runs.
    shutil.rmtree(checkout / "results/smoke/vgg")
    assert command(checkout, "publish", STUDY).returncode == 0
    assert content() == whole
    # Not if the run would be another one now.
    edit(checkout / STUDY, "lr: 0.02", "lr: 0.03")
    run = command(checkout, "publish", STUDY)
    assert run.returncode == 1
    assert "is missing: the study is not finished" in run.stderr
    assert content() == whole


def test_runs_that_have_ended_can_be_published_without_the_others(checkout):
    published = checkout / "paper/measurements/smoke"
    other = checkout / "results-of-vgg"
    (checkout / "results/smoke/vgg").rename(other)
    run = command(checkout, "publish", STUDY)
    assert run.returncode == 1
    assert "is missing: the study is not finished" in run.stderr
    assert command(checkout, "publish", STUDY, "--partial").returncode == 0
    assert {p.parent.name for p in published.glob("*/seed0")} == {"resnet"}
    assert not list(published.glob("*_summary.parquet"))  # which would be of some runs only
    study = studyfile.load(published / "smoke.yaml")
    assert drawing.redrawable(study, published / "smoke.yaml") == []
    # The others later; then it is as if all had been published at once.
    shutil.rmtree(checkout / "results/smoke/resnet")
    other.rename(checkout / "results/smoke/vgg")
    assert command(checkout, "publish", STUDY, "--partial").returncode == 0
    assert {p.parent.name for p in published.glob("*/seed0")} == {"resnet", "vgg"}
    assert (published / "chaos_summary.parquet").exists()
    # What was published does not get lost when its options change.
    edit(checkout / STUDY, "lr: 0.02", "lr: 0.03")
    run = command(checkout, "publish", STUDY, "--partial")
    assert run.returncode == 1
    assert len(list(published.glob("*/seed0"))) == 2


def test_a_publication_says_what_its_commit_does_not_hold(checkout):
    def said():
        run = command(checkout, "publish", STUDY)
        assert run.returncode == 0, run.stderr
        file = checkout / "paper/measurements/smoke/provenance.json"
        return json.loads(file.read_text()), run.stderr

    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], cwd=checkout, check=True)
    subprocess.run([*git, "add", "src", "Snakefile"], cwd=checkout, check=True)
    subprocess.run([*git, "commit", "-qm", "no study"], cwd=checkout, check=True)
    provenance, told = said()
    assert provenance["not_in_that_commit"] == [STUDY]
    assert f"does not hold {STUDY}" in told
    subprocess.run([*git, "add", "workflow"], cwd=checkout, check=True)
    subprocess.run([*git, "commit", "-qm", "study"], cwd=checkout, check=True)
    provenance, told = said()
    assert provenance["not_in_that_commit"] == []
    assert "does not hold" not in told
    edit(checkout / "src/twophase/errors.py", '"""', '"""Some ')
    provenance, told = said()
    assert provenance["not_in_that_commit"] == ["src/twophase/errors.py"]
    assert (
        provenance["published_at_commit"]
        == subprocess.run(
            [*git, "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True
        ).stdout.strip()
    )


def test_a_run_leaves_a_record_of_its_beginning_which_is_published(finished, checkout):
    records = {
        path.parent.parent.name: json.loads(path.read_text())
        for path in finished.glob("results/smoke/*/seed0/record.*.json")
    }
    assert records.keys() == {"vgg", "resnet"}
    for record in records.values():
        assert record["study"] == sha256(finished / STUDY)
        assert record["began"].endswith("+00:00")
    assert command(checkout, "publish", STUDY).returncode == 0
    published = checkout / "paper/measurements/smoke"
    for model, record in records.items():
        assert json.loads((published / f"{model}/seed0/record.json").read_text()) == record
    # Published again from elsewhere, without the results, it stays.
    shutil.rmtree(checkout / "results/smoke/vgg")
    assert command(checkout, "publish", STUDY).returncode == 0
    assert json.loads((published / "vgg/seed0/record.json").read_text()) == records["vgg"]
    # Done again where the results are, it is not written again; where they are not, it is.
    (record,) = (checkout / "results/smoke/resnet/seed0").glob("record.*.json")
    before = record.read_bytes()
    asked = ["base", STUDY, "--model", "resnet", "--seed", "0"]
    assert command(checkout, *asked).returncode == 0
    assert record.read_bytes() == before
    record.unlink()
    assert command(checkout, *asked).returncode == 0
    assert not record.exists()
    shutil.rmtree(checkout / "results/smoke/resnet")
    assert command(checkout, *asked).returncode == 0
    assert record.exists()
