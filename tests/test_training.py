import pytest
import torch
import torch.nn.functional as F

from twophase.errors import ArtifactError, RunError
from twophase.measures import distance
from twophase.stages.base import base
from twophase.stages.data import data
from twophase.stages.fork import fork
from twophase.study import stages
from twophase.study.chaos import compare_points
from twophase.study.run import Run, runs
from twophase.study.studyfile import load
from twophase.training.batches import batch, load_data
from twophase.training.loop import advance, initial_state, load_state, save_state
from twophase.training.machine import prepare
from twophase.training.tensors import bits


def _read_data(study):
    return load_data(stages.data_file(study), study.data.images, prepare(study.compute))


@pytest.fixture
def adamw(raw, write_study):
    """The smoke study with the other optimizer."""
    del raw["training"]["momentum"]
    raw["training"] |= {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01}
    return load(write_study(raw))


def test_initialisation_depends_on_the_seed_alone_and_leaves_the_global_generator(
    smoke, in_trained
):
    model, read = smoke.models["resnet"], _read_data(smoke)

    def weights(seed):
        torch.randn(seed + 3)  # the global generator does not count
        return initial_state(model, read, seed).model.state_dict()

    before = torch.random.get_rng_state()
    initial_state(model, read, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    one, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["conv.weight"], other["conv.weight"])


def test_training_moves_the_statistics_of_batch_norm(smoke, in_trained):
    run, read = Run(smoke, "resnet", 0), _read_data(smoke)
    state = initial_state(run.model, read, 0)
    state.model.eval()  # whoever looked at the network before
    advance(state, run, read, 3)
    norms = [m for m in state.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert all(norm.num_batches_tracked == 3 and norm.running_mean.any() for norm in norms)


OTHERS = {
    "nesterov": {"nesterov": True, "drop_last": False, "batch_size": 700},
    "adam": {
        "optimizer": "adam",
        "lr_drops": [],
        "schedule": {"kind": "cosine", "warmup": 4},
    },
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_run_that_resumes_has_the_same_bits(kind, raw, write_study, in_tmp):
    if "optimizer" in OTHERS[kind]:
        del raw["training"]["momentum"]
    raw["training"] |= OTHERS[kind]
    study = load(write_study(raw))
    data(study)
    run, read = Run(study, "resnet", 0), _read_data(study)
    whole, first, then = (initial_state(run.model, read, seed) for seed in (0, 0, 1))
    advance(whole, run, read, 9)
    advance(first, run, read, 5)
    file = stages.base_state(run, 5)
    save_state(file, first)
    load_state(file, then, 5)
    advance(then, run, read, 9)
    for name, tensor in whole.tensors().items():
        assert torch.equal(bits(tensor), bits(then.tensors()[name])), name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_is_torchs_with_a_stepwise_rate(optimizer, smoke, adamw, in_tmp):
    study = smoke if optimizer == "sgd" else adamw
    data(study)
    run, read = Run(study, "resnet", 0), _read_data(study)
    ours = initial_state(run.model, read, 0)
    advance(ours, run, read, 12)
    theirs = initial_state(run.model, read, 0).model.train()
    if optimizer == "sgd":
        steps = torch.optim.SGD(theirs.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    else:
        steps = torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.MultiStepLR(steps, [8], gamma=0.1)
    for step in range(12):
        images, labels = batch(read, study.data.augmentation, 0, step, 32)
        steps.zero_grad()
        F.cross_entropy(theirs(images), labels).backward()
        steps.step()
        schedule.step()
    for a, b in zip(ours.model.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-5, atol=1e-6)


def test_a_new_grid_point_trains_only_what_is_new(raw, write_study, in_tmp):
    study = load(write_study(raw))
    data(study)
    base(Run(study, "vgg", 0))
    kept = stages.base_state(Run(study, "vgg", 0), 8).path
    before = kept.stat().st_mtime_ns
    raw["linearized"]["switches"] = [0, 5, 6]
    run = Run(load(write_study(raw)), "vgg", 0)
    base(run)
    new = stages.base_state(run, 5).path
    assert new.parent == kept.parent
    assert new.exists()
    assert kept.stat().st_mtime_ns == before


def _assert_controls_are_the_base_run(study):
    """Bit for bit, with the optimizer's state; and perturbed forks are not."""
    read = _read_data(study)
    for run in runs(study):
        for t0 in run.model.chaos.control:
            for t1 in compare_points(run, t0):
                own, control, perturbed = (initial_state(run.model, read, 0) for _ in range(3))
                load_state(stages.base_state(run, t1), own, t1)
                load_state(stages.fork_state(run, t0, "control", t1), control, t1)
                load_state(stages.fork_state(run, t0, "1", t1), perturbed, t1)
                assert distance.identical(own.model, control.model)
                assert own.optimizer.keys() == control.optimizer.keys()
                for name, tensors in own.optimizer.items():
                    assert any(t.any() for t in tensors), name
                    pairs = zip(tensors, control.optimizer[name], strict=True)
                    assert all(torch.equal(a, b) for a, b in pairs)
                assert not distance.identical(own.model, perturbed.model)


def test_a_fork_without_perturbation_is_the_base_run_bit_for_bit(smoke, in_trained):
    _assert_controls_are_the_base_run(smoke)


def test_the_same_holds_of_another_optimizer(adamw, in_tmp):
    data(adamw)
    for run in runs(adamw):
        base(run)
        fork(run)
    _assert_controls_are_the_base_run(adamw)
    state = initial_state(run.model, _read_data(adamw), 0)
    assert set(state.optimizer) == {"mean", "square"}


def test_a_checkpoint_of_another_iteration_is_refused(smoke, in_trained):
    run = Run(smoke, "vgg", 0)
    stages.base_state(run, 8).path.replace(stages.base_state(run, 4).path)
    stages.perturbation(run, 4, "1").path.unlink()
    with pytest.raises(ArtifactError, match="t 8 instead of 4"):
        fork(run)


def test_a_last_batch_that_a_network_fails_on_is_told_before_training(raw, write_study, in_tmp):
    # 1,597 = 19 * 84 + 1
    raw["training"] |= {"drop_last": False, "batch_size": 84, "iterations": 19, "lr_drops": []}
    raw["models"]["vgg"]["network"] = {"file": "flat.py", "builder": "flat"}
    file = write_study(raw)
    file.with_name("flat.py").write_text(
        "from torch import nn\n\n\ndef flat(classes):\n    return nn.Sequential("
        "nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, classes))\n"
    )
    study = load(file)
    data(study)
    base(Run(study, "resnet", 0))  # its batch norm has several pixels of the one image
    said = r"vgg, seed 0: training\.drop_last = False: .* has 1 of 1597 .*more than 1 value"
    base(Run(study, "vgg", 0))  # which ends before it
    raw["training"]["iterations"] = 20
    with pytest.raises(RunError, match=said):
        base(Run(load(write_study(raw)), "vgg", 0))


def test_a_run_that_diverges_says_so(raw, write_study, in_tmp):
    raw["training"]["lr"] = 1e6
    study = load(write_study(raw))
    data(study)
    with pytest.raises(RunError, match=r"vgg, seed 0: training diverged.*training\.lr"):
        base(Run(study, "vgg", 0))
