"""Which results an option makes stale."""

import pytest
import yaml
from staleness import KERNEL, cells, differing, option, with_own

from twophase.study import stages
from twophase.study.run import Run
from twophase.study.studyfile import load


def test_a_new_option_counts_where_it_is_set(unedited, edited):
    option("study/kernel.py", "Kernel")(edited / "twophase")
    assert differing(cells(edited), unedited) == set()
    raw = yaml.safe_load((edited / "mine.yaml").read_text())
    raw["kernel"]["novel"] = True
    (edited / "mine.yaml").write_text(yaml.safe_dump(raw))
    assert differing(cells(edited), unedited) == {*KERNEL, "fig2"}  # it shows the section


@pytest.fixture
def raw(raw, tmp_path):
    """The smoke study, with functions of the user's own."""
    return raw | with_own(tmp_path / "workflow/config")


def _paths(study):
    run = Run(study, "vgg", 0)
    results = {
        "data": stages.data_file(study),
        "base": stages.base_state(run, 4),
        "fork": stages.fork_state(run, 0, "1", 6),
        "perturbation": stages.perturbation(run, 0, "1"),
        "comparison": stages.comparison(run, 0, "1", 6),
        "own measure": stages.own_measure(run, 0, "1", 6),
        "kernel file": stages.kernel_file(run, 4),
        "linearized end": stages.linearized_end(run, 0),
    }
    results |= {table: stages.run_table(run, table) for table in stages.STAGE_OF}
    return {name: result.path for name, result in results.items()}


KERNELS = {"kernel file", "kernel", "across_seeds", *stages.STAGES["cone"].tables}
LINEAR = {"linearized end", "linearized"}
COMPARED = {"comparison", "chaos", "barrier_path", "sizes"}
OWN = {"own measure", "own_measures"}
RUN = {"base", "fork", "perturbation", "comparison", "kernel file", "linearized end"}
RUN |= {"own measure"} | set(stages.STAGE_OF)
# What holds a row for each checkpoint.
POINTS = {"training", "trajectory", "own_stages"}


@pytest.mark.parametrize(
    ("section", "option", "value", "stale"),
    [
        ("training", "lr", 0.03, RUN),
        ("training", "nesterov", True, RUN),
        ("training", "drop_last", False, RUN),
        ("training", "schedule", {"kind": "steps", "warmup": 2}, RUN),
        ("compute", "threads", 2, RUN),
        (
            "evaluation",
            "test_examples",
            50,
            {"training", "matching", "own_stages", *COMPARED, *LINEAR, *OWN},
        ),
        # A longer run begins with the shorter one, but its linearised runs end elsewhere.
        ("training", "iterations", 16, {*POINTS, *LINEAR}),
        (
            "chaos",
            "perturbation",
            {"kind": "l2", "size": 1e-7},
            {"fork", "perturbation", "matching", *COMPARED, *OWN},
        ),
        # More of the same: what is there is kept, and only the tables are written again.
        ("chaos", "compare", [6, 8, 12], {"chaos", "barrier_path", "own_measures"}),
        ("sizes", "values", [1e-3, 1e-2], {"sizes"}),
        (
            "chaos",
            "forks",
            [0, 4, 5],
            {*POINTS, "chaos", "barrier_path", "matching", "own_measures"},
        ),
        ("chaos", "directions", 3, {"chaos", "barrier_path", "matching", "sizes", "own_measures"}),
        ("chaos", "barrier_points", 7, {*COMPARED, "matching"}),
        ("chaos", "barrier_threshold", 0.2, set()),
        ("kernel", "examples_per_class", 2, KERNELS),
        ("kernel", "every", 2, {*POINTS, *KERNELS - {"kernel file"}}),
        ("kernel", "references", [8], set()),
        ("matching", "compare", [6], {"matching"}),
        ("linearized", "switches", [0, 5], {*POINTS, "linearized"}),
    ],
)
def test_an_option_makes_stale_what_depends_on_it_and_no_more(
    section, option, value, stale, raw, write_study
):
    before = _paths(load(write_study(raw)))
    raw[section][option] = value
    assert differing(_paths(load(write_study(raw))), before) == stale


@pytest.mark.parametrize(
    ("before", "after", "stale"),
    [
        # A learning rate that falls to its end knows the length of training, unless it is told.
        ({"kind": "cosine"}, {"kind": "cosine"}, RUN),
        ({"kind": "cosine"}, {"kind": "cosine", "until": 12}, {*POINTS, *LINEAR}),
        ({"kind": "cosine", "until": 9}, {"kind": "cosine", "until": 9}, {*POINTS, *LINEAR}),
        ({"kind": "constant"}, {"kind": "constant"}, {*POINTS, *LINEAR}),
    ],
)
def test_a_longer_run_begins_with_the_shorter_if_its_rates_do(
    before, after, stale, raw, write_study
):
    raw["training"] |= {"lr_drops": [], "schedule": before}
    paths = _paths(load(write_study(raw)))
    raw["training"] |= {"iterations": 16, "schedule": after}
    assert differing(_paths(load(write_study(raw))), paths) == stale


def test_an_option_of_the_data_makes_all_stale(raw, write_study):
    before = _paths(load(write_study(raw)))
    raw["data"]["images"]["test_examples"] = 300
    assert differing(_paths(load(write_study(raw))), before) == {"data", *RUN}


def test_another_model_is_left_alone(raw, write_study):
    def of(study):
        return {name: stages.run_table(Run(study, "resnet", 0), name) for name in stages.STAGE_OF}

    before, summaries = of(load(write_study(raw))), stages.summary_table
    whole = summaries(load(write_study(raw)), "chaos").path
    raw["models"]["vgg"]["training"] = {"lr": 0.5}
    after = load(write_study(raw))
    assert of(after) == before
    assert summaries(after, "chaos").path != whole
