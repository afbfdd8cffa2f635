"""What a plan says is left to do is what the stages and Snakemake then do."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import CONFIG, ROOT, planned
from staleness import with_own

from twophase import jobs
from twophase.commands import plan, publish, status
from twophase.commands.costs import Measured, Price, measure
from twophase.errors import ArtifactError
from twophase.optimizers import sgd
from twophase.store.artifacts import write_tensors
from twophase.study import stages, studyfile
from twophase.study.run import Run, runs
from twophase.study.stage import Work
from twophase.study.tables import provenance

FREE = Measured({}, {}, 0)


@pytest.fixture
def config(in_tmp):
    """A working directory with the studies of the project."""
    shutil.copytree(CONFIG, in_tmp / "workflow/config")
    return in_tmp


def _iterations(study):
    return sum(row.iterations for row in plan.rows(study, FREE, jobs.left(study, 2)))


@pytest.mark.parametrize("stage", stages.STAGES)
def test_every_stage_says_how_much_work_it_is(stage, raw, write_study, tmp_path):
    raw |= {"across_seeds": {}} | with_own(tmp_path / "workflow/config")
    study = studyfile.load(write_study(raw))
    row = stages.STAGES[stage]
    run = stages.runs_of(study, stage)[0]
    results = row.parts(run) or [stages.run_table(run, table) for table in row.tables]
    works = [row.work(run, result) for result in results]
    assert all(min(work) >= 0 and work.disk > 0 for work in works)
    assert sum(work.iterations + work.rest for work in works) + row.always(run) > 0


def test_a_finished_study_has_nothing_left(finished, smoke, monkeypatch):
    monkeypatch.chdir(finished)
    assert jobs.left(smoke, 2) == []
    assert _iterations(smoke) == 0
    told = list(plan.lines(smoke, Path("workflow/config/smoke.yaml"), 2))
    assert "nothing to do" in told[1]


def test_the_jobs_of_a_fresh_study_are_those_that_left_logs(finished, config, smoke):
    left = [job for job in jobs.jobs(smoke, {"whole_runs": ["smoke"]}, 2) if job.left]
    logs = {job.log for job in left}
    assert logs == {log.relative_to(finished) for log in finished.glob("results/**/logs/*.log")}


def test_the_jobs_of_a_half_done_study_are_those_of_a_dry_run(
    copy_checkout, trained, tmp_path, smoke, monkeypatch
):
    folder = copy_checkout(tmp_path / "checkout")
    shutil.copytree(trained / "results", folder / "results")
    monkeypatch.chdir(folder)
    run = Run(smoke, "vgg", 0)
    stages.fork_state(run, 4, "2", 12).path.unlink()
    stages.base_state(run, 8).path.unlink()
    rules = [job.rule for job in jobs.left(smoke, 2)]
    assert rules.count("base") == rules.count("fork") == 1
    assert {rule: rules.count(rule) for rule in rules} == planned(folder, "figures/smoke/all")


def test_a_deleted_part_is_planned_with_its_iterations_alone(smoke, in_trained):
    before = _iterations(smoke)
    run = Run(smoke, "vgg", 0)
    stages.fork_state(run, 4, "1", 12).path.unlink()
    assert _iterations(smoke) == before + 6  # from the state at 6
    stages.fork_state(run, 4, "1", 6).path.unlink()
    assert _iterations(smoke) == before + 8  # from the base run's at 4


def test_what_models_of_a_sweep_share_is_planned_once(raw, write_study, in_tmp):
    alone = _iterations(studyfile.load(write_study(raw)))
    raw["sweep"] = {"kernel.kind": ["full", "trace"]}
    assert _iterations(studyfile.load(write_study(raw, "swept"))) == alone


def test_iterations_that_a_stopped_run_has_kept_are_not_planned_again(smoke, in_trained):
    run = Run(smoke, "vgg", 0)
    part = stages.fork_state(run, 0, "1", 12)
    part.path.unlink()
    before = _iterations(smoke)
    write_tensors(stages.unfinished(part), {"step": torch.tensor(11)})
    assert _iterations(smoke) == before - 5  # 11 to 12, not 6 to 12
    write_tensors(stages.unfinished(part), {"step": torch.tensor(5)})  # of an earlier stretch
    assert _iterations(smoke) == before


def test_the_iterations_of_a_plan_are_the_steps_that_the_stages_make(
    smoke, trained, in_tmp, monkeypatch
):
    study = smoke.model_copy(update={"models": {"vgg": smoke.models["vgg"]}})
    (run,) = runs(study)
    shutil.copytree(trained, in_tmp, dirs_exist_ok=True)
    shutil.rmtree("results/smoke/vgg")
    steps, update = [], sgd.update
    monkeypatch.setattr(sgd, "update", lambda *given: steps.append(1) or update(*given))
    wanted = {row.stage: row.iterations for row in plan.rows(study, FREE, jobs.left(study, 2))}
    for stage in ("base", "fork", "chaos", "sizes", "growth", "linearized"):
        steps.clear()
        stages.imported(stage)(run)
        assert len(steps) == wanted.pop(stage), stage
    assert set(wanted.values()) == {0}
    assert _iterations(study) == 0


def test_a_trial_finds_prices_and_sizes_and_leaves_nothing(smoke, in_trained):
    study = smoke.model_copy(update={"models": {"vgg": smoke.models["vgg"]}})
    before = sorted(Path().rglob("*"))
    measured = measure(study)
    assert sorted(Path().rglob("*")) == before
    tried = {stage for name, stage in measured.prices if name}
    assert tried == {s for s in stages.STAGES if stages.runs_of(study, s)} - {
        "data",
        "check",
        "sizes",  # at the price of forks and comparisons
    }
    assert all(sum(price) > 0 for price in measured.prices.values())
    for stage in ("base", "fork", "linearized", "growth"):
        assert measured.prices["vgg", stage].iteration > 0
    run = Run(study, "vgg", 0)
    for part in (stages.base_state(run, 12), stages.fork_state(run, 0, "1", 12)):
        expected = 512 * part.path.stat().st_blocks
        assert measured.disk["vgg", part.identity["kind"]] == expected


@pytest.mark.parametrize(
    "swept",
    [{"training.iterations": [12, 14]}, {"chaos.directions": [1, 2], "training.lr": [0.02]}],
)
def test_models_that_differ_in_what_a_trial_leaves_out_have_prices_each(
    swept, raw, write_study, in_tmp
):
    optional = ("sizes", "kernel", "linearized", "curvature", "growth", "matching", "across_seeds")
    for section in optional:
        raw.pop(section, None)
    raw["models"] = {"resnet": raw["models"]["resnet"]}
    raw["sweep"] = swept
    study = studyfile.load(write_study(raw))
    assert len(study.models) == 2
    measured = measure(study)
    for name in study.models:
        for stage in ("base", "fork", "chaos"):
            assert sum(measured.prices[name, stage]) > 0
            assert (name, "state") in measured.disk


def test_published_times_stand_in_for_a_machine_that_is_not_there(config, monkeypatch):
    shutil.copytree(ROOT / "paper/measurements/cifar10-vgg16", "paper/measurements/cifar10-vgg16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = Measured({("vgg", "kernel"): Price(9, 9, 9), ("vgg", "linearized"): Price()}, {}, 0)
    monkeypatch.setattr(plan, "measure", lambda study: here)
    study = studyfile.load("paper/measurements/cifar10-vgg16/cifar10-vgg16.yaml")
    measured, told = plan._measured(study, ["vgg"])
    assert "published" in told
    assert "NVIDIA" in told
    assert "for linearized those of this machine's processor" in told
    seconds = {row.stage: row.seconds for row in plan.rows(study, measured, jobs.left(study, 2))}
    assert seconds["base"] == pytest.approx(65.9)
    assert seconds["kernel"] == pytest.approx(49.9)
    # Twice the iterations, twice the time.
    training = study.models["vgg"].training.model_copy(update={"iterations": 10_000})
    model = study.models["vgg"].model_copy(update={"training": training})
    longer = study.model_copy(update={"models": {"vgg": model}})
    (base,) = (
        row for row in plan.rows(longer, measured, jobs.left(longer, 2)) if row.stage == "base"
    )
    assert base.seconds == pytest.approx(2 * 65.9)


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"tables": {}}', b"\xff"])
def test_a_damaged_provenance_is_told(text, tmp_path):
    (tmp_path / "provenance.json").write_bytes(text)
    with pytest.raises(ArtifactError, match=r"provenance\.json: is damaged"):
        provenance(tmp_path)


def test_a_log_may_hold_any_bytes(smoke, in_tmp):
    log = in_tmp / f"results/smoke/logs/base-{min(stages.fingerprints(smoke))}.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"caf\xe9\nbase: processor time 1.5 s to start, 2.5 s at work\n")
    assert publish._processor_seconds(smoke) == {"base": 4.0}
    assert any(status.lines(smoke))


def test_the_price_of_work_is_that_of_its_parts():
    price = Price(start=1, iteration=0.5, rest=0.25)
    assert price.of([Work(4, 2), Work(6, 0)]) == 1 + 5 + 0.5


def test_wall_time_waits_for_what_a_job_needs(smoke):
    run, other = Run(smoke, "vgg", 0), Run(smoke, "resnet", 0)

    def job(rule, of, *after):
        ends, *waits = (Path(f"{what} of {of}") for what in (rule, *after))
        return jobs.Job(rule, (ends,), tuple(waits), run=of)

    data = jobs.Job("data", (Path("data"),))
    first = job("base", run)._replace(waits=data.ends)
    second = job("base", other)._replace(waits=data.ends)
    work = [data, first, job("fork", run, "base"), job("kernel", run, "base"), second]
    assert plan.wall_time(work, [1, 5, 2, 3, 4], 1) == 15
    assert plan.wall_time(work, [1, 5, 2, 3, 4], 2) == 1 + 5 + 3
    assert plan.wall_time(work, [1, 5, 2, 3, 9], 9) == 1 + 9
    ends = tuple(end for job in work for end in job.ends)
    summary = jobs.Job("summary", (Path("summary"),), ends)
    figure = jobs.Job("fig1", (Path("fig1"),), summary.ends)
    assert plan.wall_time([*work, summary, figure], [1, 5, 2, 3, 4, 1, 2], 9) == 9 + 3


def test_what_a_model_overrides_is_told():
    raw = {
        "training": {"iterations": 5000, "lr": 0.1},
        "kernel": {"every": 10},
        "models": {
            "vgg": {"network": {}, "training": {"iterations": 3000, "lr": 0.1}, "kernel": False},
            "resnet": {"network": {}},
        },
    }
    assert plan.overrides(raw) == [
        "note: vgg has training.iterations = 3000, where the study says 5000",
        "note: vgg does without kernel",
    ]


def test_more_cores_than_the_machine_has_are_not_believed(config, smoke, monkeypatch):
    monkeypatch.setattr(plan.pace, "cores", lambda: 2)
    file = Path("workflow/config/smoke.yaml")
    monkeypatch.setattr(plan, "_measured", lambda *_: (Measured({}, {("", "data"): 0}, 0), ""))
    monkeypatch.setattr(plan, "_seconds_of", lambda *_: 60.0)

    def told(cores):
        return next(line for line in plan.lines(smoke, file, cores) if "--cores" in line)

    minutes = {cores: int(told(cores).split()[1]) for cores in (1, 2, 8)}
    assert minutes[1] > minutes[2]
    assert minutes[2] <= minutes[8] < minutes[1]  # more cores ask for more jobs
    assert " with --cores 8 (this machine has 2), " in told(8)
    assert " with --cores 2, " in told(2)
