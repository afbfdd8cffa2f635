"""Perturbations of several sizes over one base run."""

import pytest

from twophase.errors import StudyError
from twophase.stages.chaos import chaos
from twophase.stages.fork import fork
from twophase.stages.sizes import sizes
from twophase.store.artifacts import read_table
from twophase.study import stages, studyfile
from twophase.study.run import Run
from twophase.study.sizes import Sizes


def _run(smoke, **sections):
    model = smoke.models["vgg"].model_copy(update=sections)
    return Run(smoke.model_copy(update={"models": {"vgg": model}}), "vgg", 0)


def test_each_size_is_what_a_study_of_that_size_shows(smoke, in_trained):
    run = _run(smoke, sizes=Sizes(values=[1e-5, 1e-7, 1e-3]))
    chaos(run)
    forks = {part.path: part.path.stat() for part in stages.STAGES["fork"].parts(run)}
    sizes(run)
    found = read_table(stages.run_table(run, "sizes"))
    assert found["size"].drop_duplicates().tolist() == [1e-7, 1e-5, 1e-3]
    assert {path: path.stat() for path in forks} == forks
    # All sizes are of one noise, and those of float32's coarseness or more keep it.
    l2 = found.groupby("size")["perturbation_l2"].first()
    assert l2[1e-3] == pytest.approx(100 * l2[1e-5], rel=1e-3)

    # Only one table `chaos` is left, and it is the run's own.
    own = stages.run_table(run, "chaos").path
    assert list(own.parent.glob("chaos-*.parquet")) == [own]
    for size in (1e-7, 1e-3):
        perturbation = run.model.chaos.perturbation.model_copy(update={"size": size})
        plain = _run(smoke, chaos=run.model.chaos.model_copy(update={"perturbation": perturbation}))
        fork(plain)
        chaos(plain)
        theirs = read_table(stages.run_table(plain, "chaos"))
        theirs = theirs.query("t1 == 12 and direction != 'control'").reset_index(drop=True)
        ours = found[found["size"] == size].drop(columns="size").reset_index(drop=True)
        assert ours.equals(theirs)


def test_a_study_that_lists_sizes_keeps_all_other_results(smoke):
    def paths(run):
        every = {result.path for result in stages.every(run.study)}
        return {path for path in every if not path.name.startswith(("check", "sizes"))}

    before = paths(_run(smoke, sizes=None))
    after = paths(_run(smoke, sizes=Sizes(values=[1e-5, 1e-7, 1e-3], forks=[4])))
    # Two sizes, two directions: two states, perturbation and comparison at the last t1.
    assert before < after
    assert len(after - before) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sizes": {"values": [1e-3, 1e-5]}}, "sizes.values = [0.001, 1e-05]: must rise"),
        ({"sizes": {"values": [1e-3], "forks": [5]}}, "sizes.forks = 5: is not a fork"),
        ({"sizes": {"values": [0.0]}}, "sizes.values.0 = 0.0: must be greater than 0"),
    ],
)
def test_sizes_that_cannot_be_are_told(change, expected, raw, write_study):
    raw |= change
    for model in raw["models"].values():
        model.pop("chaos", None)
    with pytest.raises(StudyError) as caught:
        studyfile.load(write_study(raw))
    assert expected in str(caught.value)


def test_a_model_without_forks_has_none_of_other_sizes(raw, write_study):
    raw["models"]["resnet"]["chaos"] = False
    study = studyfile.load(write_study(raw))
    assert study.models["resnet"].sizes is None
    assert {run.name for run in stages.runs_of(study, "sizes")} == {"vgg"}
