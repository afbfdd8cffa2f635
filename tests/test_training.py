import pytest
import torch
import torch.nn.functional as F

from twophase import metrics, paths
from twophase.artifacts import ORIGIN, sha256
from twophase.base import train_base
from twophase.compute import prepare
from twophase.data import batch, load_data
from twophase.errors import ArtifactError, RunError
from twophase.fork import train_forks
from twophase.sources import prepare_data
from twophase.study import load
from twophase.train import advance, initial_state, learning_rate, load_state, sgd_step


@pytest.fixture
def smoke_data(smoke, in_tmp):
    prepare_data(smoke)
    return load_data(smoke, prepare(smoke.compute))


def _train(smoke, data, state, stop):
    plan = smoke.models["resnet"]
    advance(state, data, smoke.data.augmentation, plan.training, 0, stop)
    return state


def test_training_is_torchs_sgd_with_a_stepwise_rate(smoke, smoke_data):
    plan = smoke.models["resnet"]
    ours = _train(smoke, smoke_data, initial_state(plan, smoke_data, 0), 12)
    theirs = initial_state(plan, smoke_data, 0).model.train()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [8], gamma=0.1)
    for step in range(12):
        images, labels = batch(smoke_data, smoke.data.augmentation, 0, step, 32)
        optimizer.zero_grad()
        F.cross_entropy(theirs(images), labels).backward()
        optimizer.step()
        schedule.step()
    for a, b in zip(ours.model.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-5, atol=1e-6)


def test_a_gradient_of_another_layout_changes_the_right_parameters(smoke):
    training = smoke.models["vgg"].training
    start, gradient = torch.randn(3, 5), torch.randn(5, 3).t()
    ours, momentum = start.clone(), torch.zeros(3, 5)
    theirs = torch.nn.Parameter(start.clone())
    theirs.grad = gradient.contiguous()
    torch.optim.SGD([theirs], training.lr, weight_decay=training.weight_decay).step()
    sgd_step([ours], [gradient], [momentum], training, 0)
    assert torch.allclose(ours, theirs.detach())


def test_the_learning_rate_falls_by_ten_at_each_drop(smoke):
    training = smoke.models["vgg"].training.model_copy(update={"lr_drops": [4, 8], "lr": 1.0})
    rates = [learning_rate(training, step) for step in (0, 3, 4, 7, 8)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def _files(folder):
    return {str(p): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(smoke, in_tmp):
    prepare_data(smoke)
    results = in_tmp / "results"
    train_base(smoke, "vgg", 0)
    train_forks(smoke, "vgg", 0, 4)
    whole = _files(results)
    # As if killed after the second checkpoint, and in the middle of the second fork.
    for step in (6, 8, 12):
        paths.checkpoint(paths.base(smoke, "vgg", 0), step).unlink()
    paths.training(smoke, "vgg", 0).unlink()
    paths.checkpoint(paths.fork(smoke, "vgg", 0, 4, "2"), 12).unlink()
    paths.checkpoint(paths.fork(smoke, "vgg", 0, 4, "control"), 6).unlink()
    paths.perturbation(smoke, "vgg", 0, 4).unlink()
    train_base(smoke, "vgg", 0)
    train_forks(smoke, "vgg", 0, 4)
    assert _files(results) == whole


def test_a_new_grid_point_trains_only_what_is_new(raw, write_study, in_tmp):
    study = load(write_study(raw))
    prepare_data(study)
    train_base(study, "vgg", 0)
    kept = paths.checkpoint(paths.base(study, "vgg", 0), 8)
    before = kept.stat().st_mtime_ns
    raw["linearized"]["switches"] = [0, 5, 6]
    study = load(write_study(raw))
    train_base(study, "vgg", 0)
    new = paths.checkpoint(paths.base(study, "vgg", 0), 5)
    assert new.parent == kept.parent
    assert new.exists()
    assert kept.stat().st_mtime_ns == before


def test_a_fork_without_perturbation_is_the_base_run_bit_for_bit(smoke, in_tmp):
    prepare_data(smoke)
    data = load_data(smoke, prepare(smoke.compute))
    for model, plan in smoke.models.items():
        train_base(smoke, model, 0)
        for t0 in plan.chaos.control:
            train_forks(smoke, model, 0, t0)
            for t1 in plan.compare_points(t0):
                base, control, fork = (initial_state(plan, data, 0) for _ in range(3))
                run = {"study": "smoke", "model": model, "seed": 0}
                file = paths.checkpoint(paths.base(smoke, model, 0), t1)
                load_state(file, base, {**run, "run": "base"}, t1)
                for state, direction in ((control, "control"), (fork, "1")):
                    file = paths.checkpoint(paths.fork(smoke, model, 0, t0, direction), t1)
                    load_state(file, state, {**run, "run": f"fork {t0} {direction}"}, t1)
                assert metrics.identical(base.model, control.model)
                assert all(
                    torch.equal(base.momentum[n], control.momentum[n]) for n in base.momentum
                )
                assert not metrics.identical(base.model, fork.model)


def test_a_checkpoint_of_another_run_is_refused(smoke, in_tmp):
    prepare_data(smoke)
    train_base(smoke, "vgg", 0)
    folder = paths.base(smoke, "vgg", 0)
    paths.checkpoint(folder, 8).replace(paths.checkpoint(folder, 4))
    with pytest.raises(ArtifactError, match="step 8 instead of 4"):
        train_forks(smoke, "vgg", 0, 4)


def test_a_run_does_not_go_on_on_another_machine(smoke, in_tmp, monkeypatch):
    prepare_data(smoke)
    train_base(smoke, "vgg", 0)
    paths.training(smoke, "vgg", 0).unlink()
    monkeypatch.setitem(ORIGIN, "machine", "another")
    for go_on in (train_base, lambda *run: train_forks(*run, 4)):
        with pytest.raises(RunError, match="was made with machine None, this .* with 'another'"):
            go_on(smoke, "vgg", 0)


def test_a_run_that_diverges_says_so(raw, write_study, in_tmp):
    raw["training"]["lr"] = 1e6
    study = load(write_study(raw))
    prepare_data(study)
    with pytest.raises(RunError, match=r"vgg, seed 0: training diverged.*training\.lr"):
        train_base(study, "vgg", 0)
