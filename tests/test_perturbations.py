"""The family of perturbations: known answers, and several in one study over one base run."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twophase import figures, jobs
from twophase.errors import RunError, StudyError
from twophase.figures import pictures
from twophase.measures.distance import identical
from twophase.perturbations.order import examples_of
from twophase.stages.base import base
from twophase.stages.chaos import chaos
from twophase.stages.data import data
from twophase.stages.fork import fork
from twophase.stages.matching import matching
from twophase.stages.sizes import sizes
from twophase.stages.summary import summaries
from twophase.store.artifacts import read_table
from twophase.study import stages, studyfile
from twophase.study.chaos import alone, forks, named
from twophase.study.perturbations import (
    KINDS,
    Gradient,
    Hessian,
    OneWeight,
    Order,
    OwnKick,
    Perturbation,
    Ulp,
)
from twophase.study.run import Run
from twophase.training.batches import batch_indices, load_data
from twophase.training.loop import advance, initial_state
from twophase.training.machine import prepare
from twophase.training.perturbation import At, other_noise, perturb
from twophase.training.tensors import trained
from twophase.writeup.readings import of_main

SEVERAL = {
    "order": {"kind": "order"},
    "start": {"kind": "initial", "size": 1e-3, "only": ["*weight"]},
    "uphill": {"kind": "gradient", "size": 1e-3},
}


@pytest.fixture
def run(smoke, in_tmp):
    """The smoke study's VGG with its data, of which nothing is trained."""
    data(smoke)
    return Run(smoke, "vgg", 0)


@pytest.fixture
def images(run):
    """Its images."""
    return load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))


def differences(run, images, kind, direction="1", step=0):
    """What a perturbation changes in each parameter, and what it says of that."""
    state = initial_state(run.model, images, run.seed)
    before = {name: p.detach().clone() for name, p in trained(state.model).items()}
    said = perturb(state.model, kind, run.seed, direction, run, images, step)
    after = trained(state.model)
    return {name: after[name].detach().double() - before[name].double() for name in before}, said


def _flat(tensors):
    return torch.cat([t.flatten() for t in tensors.values()])


def test_only_what_matches_gets_noise_and_it_is_the_same_noise(run, images):
    every, _ = differences(run, images, Perturbation(kind="std", size=1e-3))
    some, (l2, unchanged) = differences(
        run, images, Perturbation(kind="std", size=1e-3, only=["*.bias"])
    )
    chosen = [name for name in every if name.endswith(".bias")]
    assert 0 < len(chosen) < len(every)
    for name, difference in some.items():
        assert torch.equal(difference, every[name]) if name in chosen else not difference.any()
    assert l2 == pytest.approx(float(_flat(some).norm()), rel=1e-12)
    assert unchanged == float((_flat(some) == 0).double().mean())
    # A norm is of what gets noise.
    one, (l2, _) = differences(run, images, Perturbation(kind="l2", size=1e-2, only=["*.bias"]))
    assert l2 == pytest.approx(1e-2, rel=1e-5)
    with pytest.raises(RunError, match=r"only = 'head': matches no parameter; there are layers\.0"):
        differences(run, images, Perturbation(kind="std", size=1.0, only=["head"]))


def test_a_size_of_one_is_the_deviation_at_initialisation(run, images):
    start = trained(initial_state(run.model, images, run.seed).model)
    found, _ = differences(run, images, Perturbation(kind="initial", size=1.0))
    for name, p in start.items():
        if float(p.detach().std()) == 0:
            assert not found[name].any()  # biases begin as zeros
        elif p.numel() > 1000:
            assert float(found[name].std() / p.detach().std()) == pytest.approx(1, rel=0.1), name


@pytest.mark.parametrize("relative", [False, True])
def test_the_gradient_is_that_of_a_batch_by_itself(run, images, relative):
    kind = Gradient(kind="gradient", size=1e-2, relative=relative)
    found, (l2, _) = differences(run, images, kind)
    state = initial_state(run.model, images, run.seed)
    picture, labels = At(state.model, run.seed, 1, run, images).batch()
    state.model.train()
    loss = F.cross_entropy(state.model(picture), labels)
    gradient = torch.autograd.grad(loss, list(trained(state.model).values()))
    gradient = torch.cat([g.flatten() for g in gradient]).double()
    assert float(F.cosine_similarity(_flat(found), gradient, dim=0)) == pytest.approx(1, abs=1e-6)
    norm = float(torch.cat([p.flatten() for p in trained(state.model).values()]).norm())
    assert l2 == pytest.approx(1e-2 * (norm if relative else 1), rel=1e-4)
    # No step of training sees that batch, and another direction has its own.
    size = run.model.training.batch_size
    other = At(state.model, run.seed, 2, run, images).batch()[0]
    assert not torch.equal(picture, other)
    assert len(labels) == size


def test_the_gradient_of_a_linear_model_is_the_formula(run, images):
    # Cross-entropy of W x: (softmax - one hot) x^T, in the mean over the batch.
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)).double()
    at = At(model, 0, 1, run, images)
    before = model[1].weight.detach().clone()
    picture, labels = at.batch()
    l2, _ = perturb(model, Gradient(kind="gradient", size=1.0), 0, "1", run, images)
    x = picture.flatten(1)
    p = (x @ before.T).softmax(1) - F.one_hot(labels, 10)
    expected = p.T @ x / len(x)
    step = (model[1].weight - before).detach()
    torch.testing.assert_close(step, expected / expected.norm())
    assert l2 == pytest.approx(1.0)


def test_the_hessian_s_direction_is_the_eigenvector(run, images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)).double()
    kind = Hessian(kind="hessian", size=0.1, examples=40)
    before = model[1].weight.detach().clone()
    pictures, labels = At(model, 0, 1, run, images).examples(40)
    assert len(labels) == 40
    perturb(model, kind, 0, "1", run, images)
    step = (model[1].weight.detach() - before).flatten()

    def loss(flat):
        return F.cross_entropy(pictures.flatten(1) @ flat.view(10, 64).T, labels)

    matrix = torch.autograd.functional.hessian(loss, before.flatten())
    _, vectors = torch.linalg.eigh(matrix)
    assert float(step.norm()) == pytest.approx(0.1)
    assert abs(float(step @ vectors[:, -1])) == pytest.approx(0.1, rel=1e-4)
    uphill = torch.autograd.functional.jacobian(loss, before.flatten())
    assert float(step @ uphill) > 0


def test_batch_norm_keeps_its_statistics(smoke, in_tmp):
    data(smoke)
    run = Run(smoke, "resnet", 0)
    file = stages.data_file(smoke)
    images = load_data(file, smoke.data.images, prepare(smoke.compute))
    for kind in (
        Gradient(kind="gradient", size=1e-3),
        Hessian(kind="hessian", size=1e-3, examples=16),
    ):
        one, other = (initial_state(run.model, images, 0) for _ in range(2))
        perturb(one.model, kind, 0, "1", run, images)
        buffers = dict(other.model.named_buffers())
        assert buffers
        for name, ours in one.model.named_buffers():
            assert torch.equal(ours, buffers[name]), name


def test_one_weight_is_one_entry(run, images):
    places = set()
    for direction in ("1", "2", "3"):
        kind = OneWeight(kind="weight", size=0.5, only=["*.weight"])
        found, (l2, _) = differences(run, images, kind, direction)
        flat = _flat(found)
        assert int((flat != 0).sum()) == 1
        assert l2 == pytest.approx(0.5, rel=1e-5)
        assert not any(d.any() for name, d in found.items() if name.endswith("bias"))
        places.add(int(flat.nonzero()))
    assert len(places) == 3


def test_one_ulp_is_the_next_number(run, images):
    state = initial_state(run.model, images, run.seed)
    before = _flat({n: p.detach().clone() for n, p in trained(state.model).items()})
    perturb(state.model, Ulp(kind="ulp"), run.seed, "1", run, images)
    after = _flat({n: p.detach() for n, p in trained(state.model).items()})
    (place,) = (before != after).nonzero().flatten().tolist()
    assert after[place] == torch.nextafter(before[place], torch.tensor(torch.inf))


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("t0", [0, 3, 9, 10, 14])
def test_another_order_sees_each_example_as_often(t0, drop_last):
    sizes = 103, 10, drop_last  # 10 batches an epoch, or 11
    steps = 10 if drop_last else 11

    def seen(whose, span):
        return [whose(step) for step in span]

    def ours(step):
        return batch_indices(0, step, *sizes)

    def theirs(step):
        return examples_of(0, 2**32 + 5, t0, step, *sizes)

    end = (t0 // steps + 1) * steps
    one, other = seen(ours, range(t0, end)), seen(theirs, range(t0, end))
    assert [len(b) for b in one] == [len(b) for b in other]
    assert sorted(np.concatenate(one)) == sorted(np.concatenate(other))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    for epoch in (1, 2):
        span = range(end + (epoch - 1) * steps, end + epoch * steps)
        later = np.concatenate(seen(theirs, span))
        assert len(set(later)) == len(later) == (100 if drop_last else 103)
        assert not np.array_equal(later, np.concatenate(seen(ours, span)))


def test_a_fork_of_another_order_starts_from_the_same_state(run, images):
    kind = Order(kind="order")
    ours, theirs = (initial_state(run.model, images, run.seed) for _ in range(2))
    assert perturb(theirs.model, kind, run.seed, "1", run, images, 0) == (0.0, 1.0)
    assert identical(ours.model, theirs.model)
    noise = other_noise(kind, run.seed, "1", run, 0)
    advance(ours, run, images, 1)
    advance(theirs, run, images, 1, noise=noise)
    assert not identical(ours.model, theirs.model)
    assert other_noise(kind, run.seed, "control", run, 0) is None
    assert other_noise(kind, run.seed, "2", run, 0).seed != noise.seed >= 2**32


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_s_control_changes_no_bit_and_its_words_are_its_own(kind, run, images):
    record = KINDS[kind]
    options = {"size": 0.5} if "size" in record.model_fields else {}
    options |= {"function": "math:prod"} if record is OwnKick else {}
    asked = record(kind=kind, **options)
    ours, theirs = (initial_state(run.model, images, run.seed) for _ in range(2))
    assert perturb(theirs.model, asked, run.seed, "control", run, images) == (0.0, 1.0)
    assert identical(ours.model, theirs.model)
    assert asked.words()


@pytest.fixture
def several(raw, write_study, in_tmp):
    """The run of a study with three perturbations over one base run, trained."""
    del raw["chaos"]["perturbation"], raw["models"]["resnet"]
    raw["chaos"] |= {"perturbations": SEVERAL, "directions": 1}
    raw["sizes"] = {"values": [1e-4, 1e-2], "forks": [4]}
    run = Run(studyfile.load(write_study(raw)), "vgg", 0)
    data(run.study)
    base(run)
    fork(run)
    chaos(run)
    return run


def test_a_study_of_several_names_each_everywhere(several):
    run, study = several, several.study
    assert forks(run)[:4] == [(0, "order-1"), (0, "start-1"), (0, "uphill-1"), (0, "control")]
    table = read_table(stages.run_table(run, "chaos"))
    assert set(table["direction"]) == {"order-1", "start-1", "uphill-1", "control"}
    assert table.query("direction == 'control'")["identical"].all()
    assert not table.query("direction != 'control'")["identical"].any()
    l2 = table.groupby("direction")["perturbation_l2"].first()
    assert l2["order-1"] == l2["control"] == 0
    assert l2["uphill-1"] == pytest.approx(1e-3, rel=1e-4)
    path = read_table(stages.run_table(run, "barrier_path"))
    assert set(path["direction"]) == set(table["direction"])
    sizes(run)
    found = read_table(stages.run_table(run, "sizes"))
    assert set(found["direction"]) == {"start-1"}  # the first that has a size
    norms = found.set_index("size")["perturbation_l2"]
    assert list(norms.index) == [1e-4, 1e-3, 1e-2]
    assert norms[1e-2] == pytest.approx(10 * norms[1e-3], rel=1e-3)
    matching(run)
    matched = read_table(stages.run_table(run, "matching"))
    assert set(matched["direction"]) == {"order-1", "start-1", "uphill-1"}
    for stage in stages.missing(run):
        stages.imported(stage)(run)
    summaries(study)
    summary = read_table(stages.summary_table(study, "chaos"))
    assert set(summary["direction"]) == {"order", "start", "uphill", "control"}
    page = figures.load("fig3").draw(study, figures.tables(study, "fig3"))
    assert [row[0].title.rpartition(": ")[2] for row in page.rows] == ["order", "start", "uphill"]
    for said in (
        "order, another order of batches from then on",
        "start, Gaussian noise of 0.001 times each tensor's deviation at initialisation (only: "
        "*weight); after rounding its L2 norm was",
        "uphill, a step of length 0.001 up the gradient of another batch; after rounding its L2 "
        "norm was 0.001",
        "saw the same batches, unless these are what differs",
    ):
        assert said in page.caption
    caption = figures.load("s2").draw(study, figures.tables(study, "s2")).caption
    assert "the size of all other figures, start (Gaussian noise of 0.001 times each" in caption
    for figure in ("fig1", "fig3", "s2", "s6", "findings"):
        pictures.tried(study, figure)


def test_what_several_leave_is_what_studies_of_one_leave(several, raw, write_study):
    run = several
    del raw["sizes"]  # another order has none
    for name, options in SEVERAL.items():
        raw["chaos"].pop("perturbations", None)
        raw["chaos"]["perturbation"] = options
        one = Run(studyfile.load(write_study(raw)), "vgg", 0)
        for t0, direction in forks(one):
            if direction != "control":
                ours = stages.fork_state(run, t0, f"{name}-{direction}", 12)
                theirs = stages.fork_state(one, t0, direction, 12)
                assert (ours.path, ours.identity) == (theirs.path, theirs.identity)
                assert ours.path.exists()
                ours = stages.comparison(run, t0, f"{name}-{direction}", 12)
                assert ours.path == stages.comparison(one, t0, direction, 12).path
        assert alone(run, f"{name}-1")[0].model.chaos.perturbation == one.model.chaos.perturbation
    # And so one more, or another name, makes nothing again but tables.
    raw["chaos"].pop("perturbation")
    others = {"order": SEVERAL["order"], "renamed": SEVERAL["uphill"], "ulp": {"kind": "ulp"}}
    raw["chaos"]["perturbations"] = others
    more = Run(studyfile.load(write_study(raw)), "vgg", 0)
    new = [stages.fork_state(more, t0, "ulp-1", t1) for t0 in (0, 4) for t1 in (6, 12)]
    new += [stages.perturbation(more, t0, "ulp-1") for t0 in (0, 4)]
    missing = stages.lacking("fork", more)
    assert {part.path for part in missing} == {part.path for part in new}
    shares = jobs.shares(more, len(forks(more)), missing)
    assert len(shares) == 2  # of those that hold what is missing
    assert all((t0, "ulp-1") in share for t0, (_, share) in zip((0, 4), shares, strict=True))


def test_names_of_directions():
    assert [named(d) for d in ("1", "12", "control", "noise-1", "a_b2-10")] == [
        "perturbed",
        "perturbed",
        "control",
        "noise",
        "a_b2",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"perturbation": SEVERAL["order"], "perturbations": SEVERAL}, "leave one of the two out"),
        ({"perturbations": {"control": SEVERAL["order"]}}, "perturbations.control: is no name"),
        ({"perturbations": {"x-1": SEVERAL["order"]}}, "chaos.perturbations.x-1: must match"),
        ({"perturbations": {"a": {"kind": "gradient"}}}, "chaos.perturbations.a.size: is missing"),
        (
            {"perturbations": {"a": {"kind": "order", "size": 1.0}}},
            "chaos.perturbations.a.size: no such key; allowed here: kind",
        ),
        (
            {"perturbations": {"a": {"file": "no.py", "function": "kick"}}},
            "chaos.perturbations.a.file = 'no.py': no such file",
        ),
        ({"perturbation": {"size": 1.0}}, "kind: is missing; or give `file` and `function`"),
    ],
)
def test_mistakes_are_told_in_a_line(change, expected, raw, write_study):
    del raw["chaos"]["perturbation"], raw["sizes"]
    raw["chaos"] |= change
    with pytest.raises(StudyError) as caught:
        studyfile.load(write_study(raw))
    assert any(expected in line for line in str(caught.value).splitlines()), str(caught.value)


def test_a_model_s_own_takes_the_place_of_the_shared(raw, write_study):
    raw["models"]["resnet"]["chaos"] |= {"perturbation": {"kind": "gradient", "size": 1.0}}
    kinds = studyfile.load(write_study(raw)).models["resnet"].chaos.kinds()
    assert kinds == {"": Gradient(kind="gradient", size=1.0)}
    raw["models"]["resnet"]["chaos"] = {"forks": [0], "control": [0], "perturbations": SEVERAL}
    study = studyfile.load(write_study(raw))
    assert list(study.models["resnet"].chaos.kinds()) == list(SEVERAL)
    assert list(study.models["vgg"].chaos.kinds()) == [""]


def test_growth_takes_perturbations_of_the_study_by_name(raw, write_study):
    raw["chaos"].pop("perturbation")
    raw["chaos"]["perturbations"] = {"noise": SEVERAL["order"], "uphill": SEVERAL["uphill"]}
    for names, said in (
        (["uphill", "ulp"], None),
        (
            ["nope"],
            "= 'nope': must be ulp, noise, control, a number, or one of chaos.perturbations, noise",
        ),
        (["noise"], "= 'noise': is growth's own; call that of chaos.perturbations otherwise"),
    ):
        raw["growth"]["perturbations"] = names
        if said is None:
            run = Run(studyfile.load(write_study(raw)), "vgg", 0)
            options = stages.STAGES["growth"].options(run)
            assert options["named"] == {"uphill": {"kind": "gradient", "size": 1e-3}}
        else:
            with pytest.raises(StudyError, match=said):
                studyfile.load(write_study(raw))


def test_verdicts_are_of_the_first_perturbation():
    directions = ["gauss-1", "gauss-2", "order-1", "control"]
    table = pd.DataFrame({"direction": directions, "t0": 0})
    assert of_main(table)["direction"].tolist() == ["gauss-1", "gauss-2"]
    only = pd.DataFrame({"direction": ["1", "2", "control"], "t0": 0})
    assert of_main(only)["direction"].tolist() == ["1", "2"]
    assert of_main(only[2:]).empty
