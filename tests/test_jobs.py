"""The one list of jobs, and what reads it: on studies whose results are made up, empty files."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CONFIG, ROOT, planned, snakemake

from twophase import figures, jobs
from twophase.commands import plan, status
from twophase.commands.costs import Measured
from twophase.errors import StudyError
from twophase.figures import manifest
from twophase.study import stages, studyfile
from twophase.study.run import Run, runs

STUDIES = [path.stem for path in sorted(CONFIG.glob("*.yaml")) if path.stem != "config"]
# Studies of each kind: in whole runs, not so, a sweep, seeds compared with each other.
KINDS = ["digits", "smoke", "digits-lr", "cifar10-lite"]


@pytest.fixture
def there(in_tmp):
    """A function that loads a study of the project and makes up all that it leaves."""
    shutil.copytree(CONFIG, in_tmp / "workflow/config")

    def make(name):
        file, folder = Path(f"workflow/config/{name}.yaml"), Path(f"figures/{name}")
        study = studyfile.load(file)
        for result in stages.every(study):
            result.path.parent.mkdir(parents=True, exist_ok=True)
            result.path.touch()
        folder.mkdir(parents=True)
        for figure in figures.asked(study):
            maker = figures.made_by(study, figure).encode()
            for each in figures.files(figure):
                (folder / each).write_bytes(maker + figures.ENDS[Path(each).suffix])
        made_by = {"made_by": manifest.made_by(study, file)}
        (folder / "manifest.json").write_text(json.dumps(made_by))
        (folder / "all").touch()
        return study

    return make


def _left(study, *targets):
    """The jobs that are left for some targets."""
    found = jobs.jobs(study, jobs.config(), 2, targets)
    return [job for job in found if job.left]


def _rules(found):
    rules = [job.rule for job in found]
    return {rule: rules.count(rule) for rule in rules}


def _delete(*results):
    for result in results:
        result.path.unlink()


def _tables(run, stage):
    return [stages.run_table(run, table) for table in stages.STAGES[stage].tables]


@pytest.mark.parametrize("name", STUDIES)
def test_each_job_waits_for_files_that_jobs_before_it_make(name, in_tmp):
    shutil.copytree(CONFIG, in_tmp / "workflow/config")
    study, made = studyfile.load(f"workflow/config/{name}.yaml"), set()
    found = _left(study)
    for job in found:
        assert made >= {*job.waits}, job
        assert made.isdisjoint(job.ends), job
        made.update(job.ends)
    # Each stage of each run is done once, in the order of the work.
    for run in runs(study):
        does = [stage for job in found if job.run == run for stage in job.stages]
        assert list(dict.fromkeys(does)) == jobs.own_stages(run)
        assert all(does.count(stage) == 1 for stage in does if stage != "fork")
        if "fork" in does:
            forks = [fork for job in found if job.run == run for fork in job.forks]
            assert not forks or forks == jobs.forks(run)
    makes = [name for job in found for name in job.makes]
    assert makes == stages.tables_of(study) + figures.asked(study)


@pytest.mark.parametrize("name", KINDS)
def test_a_finished_study_has_nothing_left_whatever_is_asked_for(name, there):
    study = there(name)
    shown = [f"figures/{name}/{figures.files(figure)[0]}" for figure in figures.asked(study)]
    for targets in ([], ["figures/all"], [f"figures/{name}/all"], shown):
        assert _left(study, *targets) == []


def test_what_nothing_needs_any_more_may_be_deleted(there):
    study = there("digits")
    _delete(stages.data_file(study), stages.check_mark(study))
    _delete(
        *(
            part
            for run in runs(study)
            for s in jobs.own_stages(run)
            for part in stages.STAGES[s].parts(run)
        )
    )
    assert _left(study) == []
    # Of what is then made again, all that it needs is, and only of its run.
    run = Run(study, "vgg", 3)
    _delete(*_tables(run, "chaos"))
    left = _left(study)
    assert _rules(left) == {"data": 1, "check": 1, "run": 1, "study_figures": 1}
    assert [job.stages for job in left if job.run] == [("base", "fork", "chaos")]
    # Nor does a figure that is current need it.
    assert _left(study, "figures/digits/fig5.pdf") == []


@pytest.fixture
def without_a_cone(there):
    """A finished study without one kernel and the tables of its run's cone."""
    study = there("digits")
    run = Run(study, "vgg", 3)
    kernel, *_ = stages.STAGES["kernel"].parts(run)
    _delete(kernel, *_tables(run, "cone"))
    return study, run


def test_all_say_the_same_of_deleted_tables_whose_figures_are_current(without_a_cone):
    study, run = without_a_cone
    does, last = _left(study)
    assert (does.run, does.stages) == (run, ("kernel", "cone"))
    assert (last.rule, last.makes) == ("study_figures", ())
    assert does.ends[0] in last.waits
    one = _left(study, "figures/digits/fig5.pdf")
    assert [(job.rule, job.run) for job in one] == [("kernel", run), ("cone", run), ("fig5", None)]
    assert set(one[1].ends) & set(one[2].waits)

    rows = {
        (row.model, row.stage): row.to_do for row in plan.rows(study, Measured({}, {}, 0), [does])
    }
    assert rows.pop(("vgg", "kernel")) == 1
    assert rows.pop(("vgg", "cone")) == 1
    assert set(rows.values()) == {0}
    said = list(status.lines(study))
    assert said[0].startswith("digits: 9 of 10 runs have ended")
    waits = [line.split()[:4] for line in said if line.endswith("waits")]
    assert waits == [["kernel", "9", "of", "10"], ["cone", "9", "of", "10"]]


def test_snakemake_plans_that_list(without_a_cone, copy_checkout):
    shutil.rmtree("workflow")
    copy_checkout(Path())
    assert planned(Path(), "figures/digits/all") == {"run": 1, "study_figures": 1}
    assert planned(Path(), "figures/digits/fig5.pdf") == {"kernel": 1, "cone": 1, "fig5": 1}


def test_a_short_study_has_one_job_for_all_summaries_and_one_for_all_figures(there):
    study = there("digits")
    _delete(*(stages.summary_table(study, name) for name in stages.tables_of(study)))
    for figure in ("fig3", "s4"):
        Path(f"figures/digits/{figure}.pdf").write_bytes(b"of other options")
    summaries, drawn = _left(study)
    assert summaries.makes == tuple(stages.tables_of(study))
    assert drawn.makes == ("fig3", "s4")
    assert set(summaries.ends) < set(drawn.waits)
    # One figure is made by itself, from its own tables.
    assert _rules(_left(study, "figures/digits/fig3.png")) == {"summary": 1, "fig3": 1}


def test_kernels_of_all_seeds_are_made_again_for_what_compares_them(raw, write_study, there):
    raw["across_seeds"], raw["seeds"] = {}, [0, 1]
    write_study(raw)
    study = there("mine")
    one, other = Run(study, "vgg", 0), Run(study, "vgg", 1)
    _delete(*_tables(one, "across_seeds"), stages.STAGES["kernel"].parts(other)[0])
    left = [(job.rule, job.run) for job in _left(study)]
    assert left == [("kernel", other), ("across_seeds", None), ("study_figures", None)]


def test_tables_that_are_asked_for_again_get_their_parts_again(there):
    study = there("smoke")
    run = Run(study, "vgg", 0)
    _delete(stages.STAGES["fork"].parts(run)[0])
    table = str(_tables(run, "chaos")[0].path)
    assert _left(study, table) == []
    again = jobs.jobs(study, {}, 2, [table], again=[table])
    assert _rules(job for job in again if job.left) == {"fork": 1, "chaos": 1}


def test_jobs_are_said_in_words(there):
    study = there("digits")
    run = Run(study, "vgg", 3)
    _delete(*_tables(run, "cone"), stages.summary_table(study, "cone"))
    Path("figures/digits/fig3.pdf").unlink()
    said = [jobs.said(job) for job in _left(study)]
    assert said == ["cone of vgg, seed 3", "summaries of cone", "fig3, list of figures"]
    shutil.rmtree("results")
    said = [jobs.said(job) for job in _left(study)]
    assert said[:3] == ["data", "check", "vgg, seed 0"]
    said = [jobs.said(job) for job in _left(study, "figures/digits/fig3.pdf")]
    assert "chaos of vgg, seed 0" in said
    assert "fork from 0, 100, 200, 300 of vgg, seed 0" in said


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"forks_per_job": 0}, "forks_per_job = 0: must be a number of forks, or auto"),
        ({}, "forks_per_job = auto: give --cores, or --config forks_per_job=<number>"),
        ({"whole_runs": "smoke"}, "whole_runs = 'smoke': must be a list of studies"),
    ],
)
def test_a_mistake_in_how_work_is_shared_out_is_told(said, wrong, smoke, in_tmp):
    with pytest.raises(StudyError, match=f"^{re.escape(wrong)}$"):
        jobs.jobs(smoke, said, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"whole_runs: [a", "not YAML: while parsing"),
        (b"whole_runs: [\xe4]", "not YAML: 'utf-8' codec"),
        (b"whole_runs: 2026-02-31", "not YAML: day "),
        (b"- a", "must be keys with values, is"),
    ],
)
def test_a_damaged_config_is_told_in_one_line(text, said, in_tmp):
    file = in_tmp / "workflow/config/config.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(text)
    with pytest.raises(StudyError, match=f"config.yaml: {said}") as caught:
        jobs.config()
    assert "\n" not in str(caught.value)


def test_each_stage_has_its_rule_in_the_order_of_the_work():
    text = "".join((ROOT / f"workflow/rules/{name}.smk").read_text() for name in ("data", "runs"))
    rules = re.findall(r"^(?:use rule \w+ as|rule) (\w+)\b", text, re.M)
    assert rules == [*stages.STAGES, "run"]


def test_the_rules_are_drawn_as_snakemake_knows_them(copy_checkout, tmp_path):
    words = ["--cores", "2", "--rulegraph", "mermaid-js", "figures/smoke/all"]
    run = snakemake(copy_checkout(tmp_path), *words)
    hook = [sys.executable, ROOT / "docs/hooks/rules.py"]
    drawn = subprocess.run(hook, input=run.stdout, capture_output=True, text=True, check=True)
    assert drawn.stdout.count("-->") > 15
    assert f"```mermaid\n{drawn.stdout}```" in (ROOT / "docs/jobs.md").read_text()
