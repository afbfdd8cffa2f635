"""The default study answers clearly, and what README and findings say of it is in its tables."""

import copy
import re

import pandas as pd
import pytest
from conftest import CONFIG, ROOT

from twophase.figures import drawing, fig3, panels, style
from twophase.figures.findings import above
from twophase.measures import barrier
from twophase.stages.data import data
from twophase.study import stages, studyfile
from twophase.study.run import Run, runs
from twophase.training.batches import load_data
from twophase.training.evaluation import evaluation_sets
from twophase.training.loop import advance, initial_state
from twophase.training.machine import prepare
from twophase.training.perturbation import perturb

STUDY = studyfile.load(CONFIG / "digits.yaml")
PUBLISHED = ROOT / "paper/measurements/digits"


def _shares():
    """Of each model and t0, how many published runs end behind a barrier, as findings say it."""
    study = studyfile.load(PUBLISHED / "digits.yaml")
    tables = [
        pd.read_parquet(PUBLISHED / str(r.name) / f"seed{r.seed}/chaos.parquet")
        for r in runs(study)
    ]
    chaos = (
        pd.concat(tables).query("direction != 'control'").rename(columns={"test_barrier": "value"})
    )
    return {
        (model, t0): above(rows, study.models[model].chaos.barrier_threshold)
        for (model, t0), rows in chaos[chaos["t1"] == chaos["t1"].max()].groupby(["model", "t0"])
    }


def test_the_published_study_is_the_default_one():
    assert (PUBLISHED / "digits.yaml").read_bytes() == (CONFIG / "digits.yaml").read_bytes()


def test_each_early_vgg_ends_behind_a_barrier_and_no_late_one_nor_any_resnet():
    counts = {point: share.split(" [")[0] for point, share in _shares().items()}
    assert counts["vgg", 0] == "5 of 5"
    assert {counts["vgg", 300], counts["resnet", 0], counts["resnet", 300]} == {"0 of 5"}


def test_findings_and_readme_tell_the_shares_of_the_published_tables():
    section = (ROOT / "docs/findings.md").read_text().split("## The digits study")[1]
    rows = re.findall(r"^\| (\w+) \| (\d+) \| .* \| (\d+ of \d+ \[.*?\]) \|", section, re.M)
    assert {(model, int(t0)): share for model, t0, share in rows} == _shares()
    readme = " ".join((ROOT / "README.md").read_text().split())
    told = re.findall(r"\d+ of \d+ \[[\d., ]+\]", readme)
    assert told == [_shares()[point] for point in (("vgg", 0), ("vgg", 300), ("resnet", 0))]


def test_figure_3_says_within_the_page_what_it_shows():
    file = PUBLISHED / "digits.yaml"
    study = studyfile.load(file)
    with style.theme():
        page = fig3.draw(study, drawing.published_tables(study, file, "fig3"))
        figure = panels.composed(page, caption=True)
        figure.draw_without_rendering()
    assert figure._supxlabel.get_window_extent().x1 < figure.bbox.x1
    for told in ("perturbation", "same batches", "compared", "each run"):
        assert told in " ".join(figure._supxlabel.get_text().split())


@pytest.mark.parametrize("seed", [5])
def test_a_seed_that_the_study_does_not_have_answers_the_same_here(in_tmp, seed):
    # On whatever machine this runs. Some ten seconds.
    data(STUDY)
    run = Run(STUDY, "vgg", seed)
    model, last = run.model, run.model.training.iterations
    images = load_data(stages.data_file(STUDY), STUDY.data.images, prepare(STUDY.compute))
    test = {"test": evaluation_sets(images, model.evaluation)["test"]}
    base, forks = initial_state(model, images, seed), {}
    for t0 in (0, 300):
        advance(base, run, images, t0)
        forks[t0] = copy.deepcopy(base)
        perturb(forks[t0].model, model.chaos.perturbation, seed, "1")
    alphas = [i / 10 for i in range(11)]
    found = {}
    for state in (base, *forks.values()):
        advance(state, run, images, last)
    for t0, fork in forks.items():
        between = copy.deepcopy(base.model)
        losses = barrier.path_losses(between, base.model, fork.model, alphas, test)
        found[t0] = barrier.barrier(alphas, losses["test"])
    assert found[0] > model.chaos.barrier_threshold > found[300]
