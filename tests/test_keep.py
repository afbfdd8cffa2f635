"""`kernel.keep: false`: kernels and the states that only they ask for, gone and not missed."""

import pytest
import yaml
from conftest import command, planned, snakemake

from twophase.commands.discard import discard
from twophase.errors import StudyError
from twophase.jobs import lacking
from twophase.stages.across_seeds import across_seeds
from twophase.store.artifacts import read_table
from twophase.study import stages
from twophase.study.base import checkpoints
from twophase.study.run import Run, runs
from twophase.study.stages import missing
from twophase.study.studyfile import load

# Training ends at 12, forks start at 0 and 4 and are compared at 6 and 12.
TIMES, ONLY_KERNELS = [0, 1, 4, 7, 9, 12], {1, 7, 9}


@pytest.fixture
def mine(raw):
    """The smoke study's VGG with kernels that are not kept, as plain data."""
    del raw["models"]["resnet"]
    for section in ("sizes", "linearized", "curvature", "growth", "trajectory", "matching"):
        del raw[section]
    raw["kernel"] = {"times": TIMES, "examples_per_class": 1, "kind": "full", "keep": False}
    raw["kernel"] |= {"references": [0, 4], "intervals": [3, 5]}
    return raw


def _do(run, *names):
    """These stages, as their commands do them."""
    for name in names:
        stages.imported(name)(run)
        discard([run])


def _there(stage, run):
    return [part for part in stages.STAGES[stage].parts(run) if part.path.exists()]


def _states(run):
    return {part.identity["t"] for part in _there("base", run)}


def test_each_goes_when_what_reads_it_has_ended(mine, write_study, in_tmp):
    study = load(write_study(mine))
    run = Run(study, "vgg", 0)
    stages.imported("data")(study)
    _do(run, "base")
    assert _states(run) == set(checkpoints(run)) >= ONLY_KERNELS
    _do(run, "kernel")
    assert _states(run) == set(checkpoints(run)) - ONLY_KERNELS
    assert len(_there("kernel", run)) == len(TIMES)
    assert missing(run) == ["fork", "chaos", "cone"]
    _do(run, "cone")
    assert not _there("kernel", run)
    assert missing(run) == ["fork", "chaos"]
    _do(run, "fork", "chaos")
    assert missing(run) == []
    assert missing(run, {"cone"}) == ["base", "kernel", "cone"]  # as --forcerun says it
    assert not any(lacking(stage, run) for stage in ("base", "kernel", "cone", "chaos"))


def test_results_are_those_of_a_study_that_keeps_all(mine, write_study, in_tmp):
    tables = {}
    for keep in (True, False):
        mine["kernel"]["keep"] = keep
        run = Run(load(write_study(mine, f"keeps-{keep}")), "vgg", 0)
        stages.imported("data")(run.study)
        _do(run, "base", "kernel", "cone")
        names = ("training", "kernel", "kernel_distance", "cone", "kernel_content")
        tables[keep] = [read_table(stages.run_table(run, n)).drop(columns="study") for n in names]
        makers = [stages.table_maker(stage, run) for stage in ("base", "kernel", "cone")]
        tables[keep].append([maker.options for maker in makers])
    *kept, options = tables[True]
    *not_kept, others = tables[False]
    assert options == others  # what is kept makes no result
    assert all(a.equals(b) for a, b in zip(kept, not_kept, strict=True))


def test_what_is_gone_is_made_again_where_an_option_asks_for_it(mine, write_study, in_tmp):
    run = Run(load(write_study(mine)), "vgg", 0)
    stages.imported("data")(run.study)
    _do(run, "base", "kernel", "cone", "fork", "chaos")
    before = read_table(stages.run_table(run, "kernel_distance"))
    mine["kernel"]["intervals"] = [3, 8]  # tables of kernels only
    run = Run(load(write_study(mine)), "vgg", 0)
    assert missing(run) == ["base", "kernel", "cone"]
    assert {part.identity["t"] for part in lacking("base", run)} == ONLY_KERNELS
    _do(run, "base", "kernel", "cone")
    assert missing(run) == []
    assert not _there("kernel", run)
    assert not _states(run) & ONLY_KERNELS
    assert read_table(stages.run_table(run, "kernel_distance")).equals(before)


def test_a_map_of_all_states_needs_them_and_kernels_of_other_seeds_wait(mine, write_study, in_tmp):
    mine |= {"seeds": [0, 1], "across_seeds": {}, "trajectory": {}}
    study = load(write_study(mine))
    stages.imported("data")(study)
    first, second = runs(study)
    for run in (first, second):
        _do(run, "base", "kernel", "cone")
        assert _states(run) == set(checkpoints(run))
        _do(run, "trajectory")
        assert not _states(run) & ONLY_KERNELS
        assert len(_there("kernel", run)) == len(TIMES)
    across_seeds(study)
    discard(runs(study))
    assert not _there("kernel", first) + _there("kernel", second)
    stages.run_table(second, "across_seeds").path.unlink()  # as if it had been killed in between
    for run in (first, second):
        assert len(lacking("kernel", run)) == len(TIMES)
        assert {part.identity["t"] for part in lacking("base", run)} == ONLY_KERNELS


def test_models_of_a_sweep_keep_all(mine, write_study):
    mine["sweep"] = {"training.lr": [0.01, 0.02]}
    with pytest.raises(StudyError, match=r"kernel.keep = False: models of a sweep share states"):
        load(write_study(mine))


def test_snakemake_plan_and_status_find_nothing_to_do(mine, tmp_path, copy_checkout):
    folder = copy_checkout(tmp_path / "checkout")
    file = folder / "workflow/config/mine.yaml"
    file.write_text(yaml.safe_dump(mine))
    some = [f"figures/mine/{figure}.pdf" for figure in ("fig3", "fig5")]  # in separate jobs
    done = snakemake(folder, "--cores", "2", *some, "--config", "forks_per_job=6")
    assert done.returncode == 0, done.stderr
    whole = ("--cores", "2", "figures/mine/all", "--config", "whole_runs=[mine]")
    done = snakemake(folder, *whole)
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob("results/mine/vgg/seed0/kernel-*/*.safetensors"))
    assert planned(folder, "figures/mine/all") == {}
    assert "nothing to do" in command(folder, "plan", file).stdout
    assert "1 of 1 runs have ended" in command(folder, "status", file).stdout
    forced = planned(folder, "figures/mine/all", "--forcerun", "cone")
    assert {"base", "kernel", "cone"} <= forced.keys()
    assert not {"fork", "chaos"} & forced.keys()
    mine["kernel"]["intervals"] = [3, 8]
    file.write_text(yaml.safe_dump(mine))
    again = planned(folder, "figures/mine/all")
    assert {"base", "kernel", "cone"} <= again.keys()
    assert not {"fork", "chaos", "data"} & again.keys()
    made = snakemake(folder, *whole)
    assert made.returncode == 0, made.stderr
    assert planned(folder, "figures/mine/all") == {}
