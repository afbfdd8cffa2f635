"""Runs of which one job does all stages."""

from conftest import planned

from twophase import jobs
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
    assert stages.missing(run) == after  # base runs and forks are there
    for part in stages.STAGES["fork"].parts(run)[:1]:
        part.path.unlink()
    assert stages.missing(run) == ["fork", *after]


def test_parts_that_nothing_reads_any_more_are_not_missed(in_trained, smoke):
    run = Run(smoke, "vgg", 0)
    for stage in _own(run):
        for name in stages.STAGES[stage].tables:
            file = stages.run_table(run, name).path
            if not file.exists():
                file.write_bytes(b"a table")
    for part in stages.STAGES["fork"].parts(run) + stages.STAGES["base"].parts(run):
        part.path.unlink()
    assert stages.missing(run) == []


def test_the_fingerprint_of_a_whole_run_is_that_of_all_its_stages(raw, write_study, smoke):
    before = stages.run_fingerprint(Run(smoke, "vgg", 0))
    assert before == stages.run_fingerprint(Run(smoke, "vgg", 0))
    assert before in stages.fingerprints(smoke)
    raw["linearized"]["switches"] = [0, 5]  # the last stage of all
    assert stages.run_fingerprint(Run(load(write_study(raw)), "vgg", 0)) != before


def test_a_study_in_whole_runs_has_few_jobs(finished, smoke, in_tmp):
    # That their tables and figures are those of separate jobs, `test_pipeline.py` sees.
    target = "figures/smoke/fig3.pdf"
    single = [j.rule for j in jobs.jobs(smoke, {"whole_runs": ["smoke"]}, 2, [target]) if j.left]
    assert single.count("chaos") == 2
    assert "run" not in single
    logs = {log.name.partition("-")[0] for log in finished.glob("results/smoke/*/seed*/logs/*.log")}
    assert logs == {"run"}
    # One job makes all summaries, one all figures.
    logs = {log.name.partition("-")[0] for log in finished.glob("results/smoke/logs/*.log")}
    assert logs == {"data", "check", "summaries", "manifest.log"}
    assert len([*finished.glob("results/**/*.parquet")]) > 50
    for words in ((), ("--config", "whole_runs=[smoke]", "--")):
        assert planned(finished, "figures/smoke/all", *words) == {}
