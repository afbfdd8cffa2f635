"""Runs of which one job does all stages."""

import re

from conftest import snakemake
from trials.kill import checkout

from twophase import jobs
from twophase.store.artifacts import sha256
from twophase.study import stages
from twophase.study.run import Run
from twophase.study.studyfile import load


def test_stages_stand_in_the_order_of_the_work():
    names = list(stages.STAGES)
    for name, row in stages.STAGES.items():
        assert all(names.index(before.name) < names.index(name) for before in row.reads), name


def _own(run):
    rows = {name: row for name, row in stages.STAGES.items() if row.scope == "run"}
    return [name for name in rows if run in stages.runs_of(run.study, name)]


def test_a_run_lacks_the_stages_whose_tables_are_not_there_and_what_these_read(in_trained, smoke):
    run = Run(smoke, "vgg", 0)
    after = [name for name in _own(run) if name not in ("base", "fork")]
    assert jobs.missing(run) == after  # base runs and forks are there
    for part in stages.STAGES["fork"].parts(run)[:1]:
        part.path.unlink()
    assert jobs.missing(run) == ["fork", *after]


def test_parts_that_nothing_reads_any_more_are_not_missed(in_trained, smoke):
    run = Run(smoke, "vgg", 0)
    for stage in _own(run):
        for name in stages.STAGES[stage].tables:
            file = stages.run_table(run, name).path
            if not file.exists():
                file.write_bytes(b"a table")
    for part in stages.STAGES["fork"].parts(run) + stages.STAGES["base"].parts(run):
        part.path.unlink()
    assert jobs.missing(run) == []


def test_the_fingerprint_of_a_whole_run_is_that_of_all_its_stages(raw, write_study, smoke):
    before = stages.run_fingerprint(Run(smoke, "vgg", 0))
    assert before == stages.run_fingerprint(Run(smoke, "vgg", 0))
    assert before in stages.fingerprints(smoke)
    raw["linearized"]["switches"] = [0, 5]  # the last stage of all
    assert stages.run_fingerprint(Run(load(write_study(raw)), "vgg", 0)) != before


def test_a_study_in_whole_runs_has_the_same_tables_and_few_jobs(finished, tmp_path):
    folder = checkout(tmp_path / "checkout")
    config = ("--config", "whole_runs=[smoke]")
    single = snakemake(folder, "-n", "--cores", "2", "figures/smoke/fig3.pdf", *config)
    assert re.search(r"^chaos +2$", single.stdout, re.M), single.stdout
    assert not re.search(r"^run ", single.stdout, re.M)
    run = snakemake(folder, "--cores", "2", "figures/smoke/all", *config)
    assert run.returncode == 0, run.stderr
    logs = {log.name.partition("-")[0] for log in folder.glob("results/smoke/*/seed*/logs/*.log")}
    assert logs == {"run"}
    # One job makes all summaries, one all figures.
    logs = {log.name.partition("-")[0] for log in folder.glob("results/smoke/logs/*.log")}
    assert logs == {"data", "check", "summaries", "manifest.log"}
    tables = [file.relative_to(folder) for file in folder.glob("results/**/*.parquet")]
    assert len(tables) > 50
    theirs = {file.relative_to(finished) for file in finished.glob("results/**/*.parquet")}
    assert set(tables) == theirs
    assert all(sha256(folder / table) == sha256(finished / table) for table in tables)
    drawn = {file.name for file in (finished / "figures/smoke").iterdir()}
    assert {file.name for file in (folder / "figures/smoke").iterdir()} == drawn
    for file in drawn:
        assert sha256(folder / "figures/smoke" / file) == sha256(finished / "figures/smoke" / file)
    again = snakemake(folder, "-n", "--cores", "2", "figures/smoke/all", *config)
    assert "Nothing to be done" in again.stdout + again.stderr
