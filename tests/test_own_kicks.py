"""Perturbations of the user's own: what they are given, may change, and are refused for."""

import re
from textwrap import dedent

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from test_perturbations import differences

from twophase.errors import RunError, StudyError
from twophase.measures import distance
from twophase.stages.base import base
from twophase.stages.chaos import chaos
from twophase.stages.check import check
from twophase.stages.data import data
from twophase.stages.fork import fork
from twophase.stages.perturbation_checks import same_again
from twophase.store.artifacts import read_table
from twophase.study import stages, studyfile
from twophase.study.beginning import own_files
from twophase.study.run import Run
from twophase.training.batches import load_data
from twophase.training.loop import advance, initial_state, load_state
from twophase.training.machine import prepare
from twophase.training.perturbation import perturb

KICK = """
def kick(parameters, rng, *, size):
    last = list(parameters)[-1]
    return {last: size * rng.standard_normal(parameters[last].shape)}
"""


def _own(raw, write_study, text=KICK, **options):
    raw["chaos"].pop("perturbation", None)
    own = {"file": "mine.py", "function": "kick"}
    if "size" in text:
        own["options"] = {"size": 0.5}
    raw["chaos"]["perturbations"] = {"mine": own | options, "plain": {"kind": "std", "size": 1e-7}}
    path = write_study(raw)
    (path.parent / "mine.py").write_text(text)
    return studyfile.load(path)


def test_a_kick_of_ones_own_counts_for_what_it_makes(raw, write_study, in_tmp):
    def makers(study):
        run = Run(study, "vgg", 0)
        return {
            name: (r.maker.options, r.maker.code)
            for name, r in (
                ("base", stages.base_state(run, 0)),
                ("mine", stages.fork_state(run, 0, "mine-1", 6)),
                ("plain", stages.fork_state(run, 0, "plain-1", 6)),
                ("kernel", stages.kernel_file(run, 4)),
            )
        }

    study = _own(raw, write_study)
    before = makers(study)
    assert [path.name for path in own_files(study)] == ["mine.py"]
    studyfile.forget()
    same = _own(raw, write_study, KICK + "\n# A comment.\n")
    assert makers(same) == makers(_own(raw, write_study, KICK))
    studyfile.forget()
    edited = makers(_own(raw, write_study, KICK.replace("size *", "2 * size *")))
    assert {name for name in before if edited[name] != before[name]} == {"mine"}


def _example(heading):
    """The files of a section of docs/extending.md: indented blocks that begin with their names."""
    text = (ROOT / "docs/extending.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    _, *parts = re.split(r"^    # (workflow/config/\S+)\n", text, flags=re.M)
    blocks = [re.match(r"(?:    .*\n|\n)*", body)[0] for body in parts[1::2]]
    return dict(zip(parts[::2], map(dedent, blocks), strict=True))


def test_the_example_of_the_documentation_runs(raw, write_study, in_tmp):
    files = _example("A perturbation")
    assert list(files) == ["workflow/config/my_kick.py", "workflow/config/mine.yaml"]
    raw["chaos"] |= yaml.safe_load(files["workflow/config/mine.yaml"])["chaos"]
    raw["chaos"] |= {"forks": [4], "control": [4], "directions": 1}
    del raw["sizes"], raw["models"]["resnet"]
    path = write_study(raw)
    (path.parent / "my_kick.py").write_text(files["workflow/config/my_kick.py"])
    run = Run(studyfile.load(path), "vgg", 0)
    for stage in (data, base, fork, chaos):
        stage(run.study if stage is data else run)
    images = load_data(
        stages.data_file(run.study), run.study.data.images, prepare(run.study.compute)
    )
    start, then = (initial_state(run.model, images, 0) for _ in range(2))
    load_state(stages.base_state(run, 4), then, 4)
    way = distance.l2(*(distance.parameter_vector(s.model) for s in (start, then)))
    table = read_table(stages.run_table(run, "chaos")).query("direction == '1'")
    assert table["perturbation_l2"].iloc[0] == pytest.approx(0.1 * way, rel=1e-3)


def test_a_kick_of_ones_own_does_what_it_says(raw, write_study, in_tmp):
    run = Run(_own(raw, write_study), "vgg", 0)
    data(run.study)
    file = stages.data_file(run.study)
    images = load_data(file, run.study.data.images, prepare(run.study.compute))
    kind = run.model.chaos.perturbations["mine"]
    found, _ = differences(run, images, kind)
    again, _ = differences(run, images, kind)
    changed = [name for name, difference in found.items() if difference.any()]
    assert changed == list(found)[-1:]
    noise = np.random.default_rng((3, 0, 1)).standard_normal(10)
    np.testing.assert_allclose(found[changed[0]], 0.5 * noise, atol=1e-6)
    assert all(torch.equal(found[name], again[name]) for name in found)
    same_again(run, images)


def test_a_kick_may_pass_through_the_network_in_training_and_adds_to_buffers(
    raw, write_study, in_tmp
):
    text = """
def kick(model, batch):
    model.train()
    model(batch[0])
    return {name: 0 * b + 1 for name, b in model.named_buffers() if name.endswith("mean")}
"""
    run = Run(_own(raw, write_study, text), "resnet", 0)
    data(run.study)
    file = stages.data_file(run.study)
    images = load_data(file, run.study.data.images, prepare(run.study.compute))
    state = initial_state(run.model, images, 0)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    assert any(name.endswith("mean") for name in before)
    kind = run.model.chaos.perturbations["mine"]
    assert perturb(state.model, kind, 0, "1", run, images) == (0.0, 1.0)
    for name, tensor in state.tensors().items():
        # Means begin at 0, and the pass through the network has left nothing.
        assert torch.equal(tensor, before[name] + name.endswith("mean")), name


def test_a_kick_is_given_what_the_optimizer_keeps(raw, write_study, in_tmp):
    text = """
def kick(parameters, optimizer):
    return {name: optimizer[f"momentum.{name}"] for name in parameters}
"""
    del raw["models"]["resnet"], raw["sizes"]
    run = Run(_own(raw, write_study, text), "vgg", 0)
    data(run.study)
    base(run)
    file = stages.data_file(run.study)
    images = load_data(file, run.study.data.images, prepare(run.study.compute))
    kind, state = run.model.chaos.perturbations["mine"], initial_state(run.model, images, 0)
    load_state(stages.base_state(run, 4), state, 4)
    norm, _ = perturb(state.model, kind, 0, "1", run, images, 4, state.optimizer)
    kept = torch.cat([each.flatten() for each in state.optimizer["momentum"]])
    assert norm == pytest.approx(float(kept.double().norm()), rel=1e-5)
    assert norm > 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_kick_may_set_the_optimizer_back(optimizer, raw, write_study, in_tmp):
    text = """
def kick(optimizer):
    return {name: -tensor for name, tensor in optimizer.items()}
"""
    del raw["models"]["resnet"], raw["sizes"]
    raw["training"] = {"optimizer": optimizer, "iterations": 12, "batch_size": 32, "lr": 0.01}
    raw["chaos"] |= {"directions": 1, "compare": [6]}
    run = Run(_own(raw, write_study, text), "vgg", 0)
    for stage in (data, base, fork, chaos):
        stage(run.study if stage is data else run)
    file = stages.data_file(run.study)
    images = load_data(file, run.study.data.images, prepare(run.study.compute))

    def after(file, t):
        state = initial_state(run.model, images, 0)
        load_state(file, state, t)
        return state

    own = after(stages.base_state(run, 4), 4)
    assert all(any(t.any() for t in kept) for kept in own.optimizer.values())
    for kept in own.optimizer.values():
        for tensor in kept:
            tensor.zero_()
    advance(own, run, images, 6)
    theirs = after(stages.fork_state(run, 4, "mine-1", 6), 6).tensors()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in own.tensors().items())
    table = read_table(stages.run_table(run, "chaos"))
    table = table.set_index(["direction", "t0", "t1"]).sort_index()
    assert table.loc[("mine-1", 4, 6), "perturbation_l2"] == 0
    assert not table.loc[("mine-1", 4, 6), "identical"]
    assert table.loc[("mine-1", 0, 6), "identical"]  # there is nothing yet to set back
    assert table.loc["control", "identical"].all()


def test_a_kick_is_tried_at_each_t0_and_direction_that_the_study_asks_for(raw, write_study, in_tmp):
    text = """
def kick(parameters, optimizer, step, direction):
    assert any(kept.any() for kept in optimizer.values()) == (step > 0)
    return {n: 1e-3 * SIZE[step] * OTHER[direction] * p for n, p in parameters.items()}

"""
    del raw["models"]["resnet"], raw["sizes"]
    raw["chaos"] |= {"directions": 3, "forks": [0, 4, 8]}
    raw["growth"]["perturbations"] = ["mine", "ulp"]
    sizes, others = {0: 1.0, 4: 1.0, 6: 1.0, 8: 1.0}, {1: 1.0, 2: 2.0, 3: 3.0}
    wrong = (
        (sizes, others, None),
        ({0: 1.0, 4: 1.0}, others, r"mine\.py:5: KeyError: 8 \(at t0 = 8, direction 1\)"),
        ({0: 1.0, 4: 1.0, 8: 1.0}, others, r"KeyError: 6 \(at t0 = 6, direction 1, float32\)"),
        (sizes, {1: 1.0, 2: 2.0}, r"KeyError: 3 \(at t0 = 0, direction 3\)"),
    )
    for of_step, of_direction, said in wrong:
        studyfile.forget()
        known = f"SIZE, OTHER = {of_step}, {of_direction}\n"
        study = _own(raw, write_study, known + text)
        data(study)
        if said is None:
            check(study)
        else:
            with pytest.raises(RunError, match=said):
                check(study)


def test_a_kick_that_adds_nothing_or_the_new_values_is_noted(raw, write_study, in_tmp, capsys):
    for body, said in (
        ("{}", "adds nothing at iteration 0"),
        ("parameters", "right if that is meant; the new values are not to be returned"),
    ):
        studyfile.forget()
        raw["chaos"]["directions"] = 1
        study = _own(raw, write_study, f"def kick(parameters):\n    return {body}\n")
        data(study)
        images = load_data(stages.data_file(study), study.data.images, prepare(study.compute))
        same_again(Run(study, "vgg", 0), images)
        told = capsys.readouterr().err
        assert "vgg: chaos.perturbations.mine: adds" in told
        assert said in told
        assert "chaos.directions" not in told


def test_directions_that_are_the_same_are_noted(raw, write_study, in_tmp, capsys):
    for size, same in (("torch.randn_like(p)", False), ("p", True)):
        studyfile.forget()
        body = f"import torch\n    return {{n: 1e-3 * {size} for n, p in parameters.items()}}\n"
        study = _own(raw, write_study, f"def kick(parameters):\n    {body}")
        data(study)
        images = load_data(stages.data_file(study), study.data.images, prepare(study.compute))
        capsys.readouterr()
        run = Run(study, "vgg", 0)
        model = run.model
        chaos = model.chaos.model_copy(update={"directions": 3})
        same_again(run, images, model.model_copy(update={"chaos": chaos}))
        told = capsys.readouterr().err
        assert ("adds the same in each of chaos.directions = 3" in told) is same


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("return 3", "returns a int; must return by name"),
        ("return {'nope': parameters}", "returns 'nope', which is no parameter"),
        ("return {k: 1.0 for k in parameters}", "returns a float for"),
        ("return {k: p[:1] for k, p in parameters.items()}", "returns a tensor"),
        ("return {k: p / 0 for k, p in parameters.items()}", "that are not finite"),
        (
            "next(model.parameters()).data += 1; return {}",
            "itself; return what is to be added",
        ),
        (
            "[p.mul_(1.1) for p in parameters.values()]; return parameters",
            r"changes parameters\['.*'\] in place; return what is to be added",
        ),
        (
            "[p.add_(1) for p in optimizer.values()]; return {}",
            r"changes optimizer\['.*'\] in place; return what is to be added",
        ),
        (
            "return {k: p @ p.flatten() for k, p in parameters.items()}",
            r"function = 'kick': \S+mine\.py:2: RuntimeError: ",
        ),
        ("import random; return {k: p * random.random() for k, p in parameters.items()}",
         r"chaos\.perturbations\.mine: adds other numbers"),
    ],
)  # fmt: skip
def test_a_wrong_kick_is_told_before_training(text, said, raw, write_study, in_tmp):
    study = _own(raw, write_study, f"def kick(model, parameters, optimizer):\n    {text}\n")
    data(study)
    images = load_data(stages.data_file(study), study.data.images, prepare(study.compute))
    with pytest.raises(RunError, match=said) as caught:
        same_again(Run(study, "vgg", 0), images)
    assert re.match(r"chaos\.perturbations\.mine(\.function = 'kick')?: ", str(caught.value))


def test_a_kick_s_file_that_cannot_be_imported_is_told_with_its_line(raw, write_study, in_tmp):
    study = _own(raw, write_study, "X = {}['x']\n\n\ndef kick(parameters):\n    return {}\n")
    data(study)
    images = load_data(stages.data_file(study), study.data.images, prepare(study.compute))
    said = r"^chaos\.perturbations\.mine\.function = 'kick': \S+mine\.py:1: KeyError: "
    with pytest.raises(RunError, match=said):
        same_again(Run(study, "vgg", 0), images)


def test_a_kick_that_asks_for_what_there_is_not_is_told_what_there_is(raw, write_study, in_tmp):
    said = "options.theta: is missing; 'kick' in mine.py needs it; given by itself are parameters,"
    with pytest.raises(StudyError, match=said):
        _own(raw, write_study, "def kick(theta):\n    return {}\n")
