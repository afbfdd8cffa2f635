"""`chaos.follow`: forks that are compared after the same number of iterations, whatever t0."""

import pandas as pd
import pytest

from twophase.errors import StudyError
from twophase.figures import asked, drawing
from twophase.stages.chaos import chaos
from twophase.stages.fork import fork
from twophase.stages.matching import matching
from twophase.stages.sizes import sizes
from twophase.stages.summary import summary
from twophase.store.artifacts import read_table
from twophase.study import stages
from twophase.study.base import checkpoints
from twophase.study.chaos import compare_points, comparisons, forks
from twophase.study.matching import matching_points
from twophase.study.run import Run
from twophase.study.studyfile import load

FOLLOW = [2, 6]
HORIZONS = [(0, 2), (0, 6), (4, 6), (4, 10)]


@pytest.fixture
def following(raw, write_study):
    """The smoke study's VGG, whose forks are followed as long as each other."""
    del raw["models"]["resnet"], raw["chaos"]["compare"]
    raw["chaos"]["follow"] = FOLLOW
    return raw, lambda: load(write_study(raw))


def test_a_fork_ends_at_its_own_last_comparison(following):
    raw, study = following
    run = Run(study(), "vgg", 0)
    assert compare_points(run, 0) == [2, 6]
    assert compare_points(run, 4) == [6, 10]
    assert {(t0, t1) for t0, _, t1 in comparisons(run)} == set(HORIZONS)
    assert {2, 6, 10} <= set(checkpoints(run))
    assert {(t0, t1) for t0, _, t1 in matching_points(run)} == {(0, 6), (4, 10)}
    raw["chaos"]["compare"] = [8]
    run = Run(study(), "vgg", 0)
    assert compare_points(run, 0) == [2, 6, 8]
    assert compare_points(run, 4) == [6, 8, 10]


def test_work_is_that_of_the_forks_as_they_end(following):
    run = Run(following[1](), "vgg", 0)
    row = stages.STAGES["fork"]
    assert sum(row.work(run, part).iterations for part in row.parts(run)) == len(forks(run)) * 6


@pytest.mark.parametrize(
    ("chaos_options", "said"),
    [
        ({"follow": [9]}, "chaos.follow = 9: the fork from 4 would end after training; .* most 8"),
        ({"follow": [6, 2]}, "chaos.follow = .*must rise"),
        ({"follow": []}, "chaos.compare = .*or chaos.follow be given"),
        ({"follow": [0]}, "chaos.follow.0 = 0"),
    ],
)
def test_mistakes_are_one_line(following, chaos_options, said):
    raw, study = following
    raw["chaos"] |= chaos_options
    with pytest.raises(StudyError, match=said) as told:
        study()
    assert "\n" not in str(told.value)


def test_comparisons_are_those_of_the_same_points_named_one_by_one(
    following, write_study, in_trained
):
    raw, study = following
    followed = study()
    raw["chaos"] |= {"compare": [2, 6, 10], "follow": []}
    named = load(write_study(raw, "named"))
    tables = []
    for each in (followed, named):
        run = Run(each, "vgg", 0)
        for stage in ("data", "base"):
            stages.imported(stage)(each if stage == "data" else run)
        fork(run)
        chaos(run)
        tables.append(read_table(stages.run_table(run, "chaos")).drop(columns="study"))
    ours, theirs = tables
    assert set(zip(ours["t0"], ours["t1"], strict=True)) == set(HORIZONS)
    both = ours.merge(theirs[["direction", "t0", "t1"]])
    wanted = theirs.merge(ours[["direction", "t0", "t1"]])
    pd.testing.assert_frame_equal(both, wanted, check_exact=True)
    assert len(both) == len(ours)
    assert ours.loc[ours["direction"] == "control", "identical"].all()


def test_all_that_reads_comparisons_ends_where_forks_end(following, in_tmp):
    study = following[1]()
    run = Run(study, "vgg", 0)
    stages.imported("data")(study)
    stages.imported("base")(run)
    for stage in (fork, chaos, sizes, matching):
        stage(run)
    for name in ("sizes", "matching"):
        table = read_table(stages.run_table(run, name))
        asked_for = (0,) if name == "sizes" else (0, 4)
        assert set(zip(table["t0"], table["t1"], strict=True)) == {(t, t + 6) for t in asked_for}
    for name in ("training", "chaos", "sizes", "matching"):
        summary(study, name)
    for figure in ("fig3", "s2", "s6"):
        assert figure in asked(study)
        drawing.draw(study, figure, in_tmp / "figures")
    assert not {"fork", "chaos", "sizes", "matching"} & set(stages.missing(run))
