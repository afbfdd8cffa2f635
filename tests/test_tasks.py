"""Tasks: classification, regression, the next token, one's own; and data that are no images."""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from small_tasks import OWN, STUDIES, TEXT
from torch import nn

from twophase import figures
from twophase.entk import entk
from twophase.errors import RunError
from twophase.figures import pictures
from twophase.measures import barrier, distance
from twophase.measures.curvature import sharpness
from twophase.measures.kernel import alignment_with
from twophase.networks.gpt import gpt
from twophase.stages.check import check
from twophase.stages.data import data
from twophase.stages.summary import summary
from twophase.store.artifacts import read_table
from twophase.study import stages, studyfile
from twophase.study.beginning import own_files
from twophase.study.run import runs
from twophase.study.tasks import words
from twophase.training import tasks
from twophase.training.batches import batch, load_data
from twophase.training.loop import initial_state
from twophase.training.perturbation import perturb


def read(study):
    """The data of a study, written and read."""
    data(study)
    return load_data(stages.data_file(study), study.data.images, torch.device("cpu"))


@pytest.mark.parametrize("name", STUDIES)
def test_all_stages_and_figures_do_their_work(small_task, name):
    study = small_task(name)
    data(study)
    (run,) = runs(study)
    for stage, row in stages.STAGES.items():
        if row.scope == "run" and (row.section is None or getattr(run.model, row.section)):
            stages.imported(stage)(run)
    for table in stages.tables_of(study):
        summary(study, table)
    for figure in figures.asked(study):
        pictures.tried(study, figure)
    chaos = read_table(stages.run_table(run, "chaos"))
    control = chaos[chaos["direction"] == "control"]
    assert len(control) == 2
    assert control["identical"].all()
    assert (control[["test_barrier", "disagreement", "l2"]] == 0).all(axis=None)
    scored = name in ("vectors", "tokens", "next token")
    for table in ("training", "chaos", "linearized"):
        columns = list(read_table(stages.run_table(run, table)))
        assert any("test_loss" in column for column in columns)
        assert any("accuracy" in column for column in columns) == scored, table
    content = read_table(stages.run_table(run, "kernel_content"))
    assert content["alignment"].isna().all() == (name == "own")


@pytest.mark.parametrize("name", ["own", "next token"])
def test_all_stages_are_tried_before_training(small_task, name):
    study = small_task(name)
    data(study)
    check(study)
    tried = set(read_table(stages.check_mark(study))["stage"])
    assert tried >= {"base", "chaos", "kernel", "linearized", "curvature", "growth", "matching"}


def test_squared_error_of_a_linear_model():
    x, y = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[4.0], [1.0]])
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 1.0]])
    scores = tasks.REGRESSION.scores(model(x).detach(), y, "test")
    assert scores == {"test_loss": (1 + 4) / 2}  # 3 for 4, -1 for 1; and no accuracy
    # Of the mean squared error, the Hessian is 2 X^T X / n.
    found = sharpness(model, (x, y), 2, tasks.REGRESSION.loss)
    assert found == pytest.approx(float(torch.linalg.eigvalsh(x.T @ x)[-1]), rel=1e-5)


def test_labels_of_several_outputs_are_not_broadcast():
    out, labels = torch.zeros(3, 2), torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    assert tasks.REGRESSION.losses(out, labels).shape == (3, 2)
    assert float(tasks.REGRESSION.loss(out, labels)) == pytest.approx(14 / 6)


def test_a_convex_loss_has_no_barrier():
    torch.manual_seed(0)
    one, other, between = (nn.Linear(3, 2) for _ in range(3))
    examples = {"test": (torch.randn(20, 3), torch.randn(20, 2))}
    losses = tasks.REGRESSION.losses
    alphas, found = barrier.path(between, one, other, 11, examples, losses=losses)["test"]
    assert barrier.barrier(alphas, found) == 0
    # A quadratic: half-way the gap is that of the outputs' distance.
    x, _ = examples["test"]
    apart = float((one(x) - other(x)).square().mean())
    middle = found[5] - (found[0] + found[-1]) / 2
    assert middle == pytest.approx(-apart / 4, rel=1e-4)


def test_the_kernel_of_a_linear_model_for_regression():
    x = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    network = tasks.of_outputs(nn.Linear(2, 1), tasks.REGRESSION, 1)
    assert torch.equal(entk(network, x), x @ x.T + 1)
    y = tasks.wanted(torch.tensor([[1.0], [3.0]]), tasks.REGRESSION, 1, None)
    assert y.tolist() == [[-1.0], [1.0]]
    assert alignment_with(y @ y.T, y) == pytest.approx(1)


@pytest.fixture
def language():
    """A small language model in float64, and sequences of 5 tokens out of 7."""
    torch.manual_seed(0)
    options = {"depth": 2, "heads": 2, "expansion": 2, "activation": "gelu", "dropout": 0.0}
    model = gpt(7, 7, image_size=5, width=8, **options).double()
    return model, torch.randint(7, (3, 6))


def test_the_loss_of_the_next_token_is_that_of_shifted_tokens(language):
    model, text = language
    out = model(text[:, :-1])
    by_hand = [
        -F.log_softmax(out[i, t], 0)[text[i, t + 1]].item() for i in range(3) for t in range(5)
    ]
    assert float(tasks.NEXT_TOKEN.loss(out, text[:, 1:])) == pytest.approx(sum(by_hand) / 15)
    assert tasks.NEXT_TOKEN.losses(out, text[:, 1:]).tolist() == pytest.approx(by_hand)
    right = out.argmax(2) == text[:, 1:]
    scores = tasks.NEXT_TOKEN.scores(out.detach(), text[:, 1:], "test")
    assert scores["test_accuracy"] == pytest.approx(float(right.double().mean()))


def test_no_token_is_seen_before_its_time(language):
    model, text = language
    out = model(text[:, :-1])
    for t in range(4):
        later = text[:, :-1].clone()
        later[:, t + 1 :] = (later[:, t + 1 :] + 1) % 7
        other = model(later)
        assert torch.allclose(out[:, : t + 1], other[:, : t + 1], atol=1e-12)
        assert not torch.allclose(out[:, t + 1], other[:, t + 1])


@pytest.mark.filterwarnings("ignore:torch.func computes")
def test_the_kernel_of_a_language_model_is_of_the_logits_at_the_last_position(language):
    model, text = language
    model.eval()
    inputs, rows = text[:, :-1], []
    for out in model(inputs)[:, -1].flatten():
        gradients = torch.autograd.grad(out, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    jacobian = torch.stack(rows)
    whole = jacobian @ jacobian.T
    found = entk(tasks.of_outputs(model, tasks.NEXT_TOKEN, 7), inputs)
    assert torch.allclose(found, whole, rtol=1e-9)
    across = torch.block_diag(*[tasks.projection(7, 2)] * 3)
    found = entk(tasks.of_outputs(model, tasks.NEXT_TOKEN, 7, directions=2), inputs)
    assert torch.allclose(found, across.T @ whole @ across, rtol=1e-9)


def test_a_projection_keeps_the_trace_on_average():
    drawn = tasks.projection(65, 4000)
    assert torch.equal(drawn, tasks.projection(65, 4000))
    assert torch.allclose(drawn @ drawn.T, torch.eye(65).double(), atol=0.1)


def test_disagreement_of_each_task(language):
    model, text = language
    out = model(text[:, :-1]).detach()
    other = out.clone()
    other[0, 2] = other[0, 2].roll(1)  # another token at one place of 15
    of_tokens = tasks.NEXT_TOKEN.prediction
    assert distance.disagreement(out, other, of_tokens) == pytest.approx(1 / 15)
    one, two = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [4.0]])
    of_numbers = tasks.REGRESSION.prediction
    assert distance.disagreement(one, two, of_numbers) == pytest.approx(2**0.5)
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    of_classes = tasks.CLASSIFICATION.prediction
    assert distance.disagreement(logits, logits.flip(1), of_classes) == 1.0


def test_pieces_of_a_text(small_task):
    study = small_task("next token")
    found = read(study)
    characters = sorted(set(TEXT))
    assert found.classes == found.vocabulary == len(characters)
    border = round(len(TEXT) * 0.7)
    seen = set()
    for split, part in ((found.train, TEXT[:border]), (found.test, TEXT[border:])):
        assert torch.equal(split.images[:, 1:].long(), split.labels[:, :-1])
        said = {"".join(characters[i] for i in row) for row in split.images.tolist()}
        assert said == {part[i : i + 8] for i in range(0, len(split.labels) * 8, 8)}
        assert len(split.labels) == (len(part) - 1) // 8
        seen |= {len(split.labels)}
    assert len(seen) == 2
    tokens, labels = batch(found, study.data.augmentation, 0, 3, 4)
    assert tokens.dtype == labels.dtype == torch.int64
    assert tokens.shape == labels.shape == (4, 8)


def test_bytes_of_any_file(small_task, in_tmp):
    def of_bytes(raw):
        (in_tmp / "odd.bin").write_bytes(bytes([255, 0, 7, 254] * 40))
        digest = hashlib.sha256((in_tmp / "odd.bin").read_bytes()).hexdigest()
        raw["data"]["images"] |= {"path": "odd.bin", "sha256": digest, "tokens": "bytes"}

    change = {"evaluation": {"train_examples": 10, "test_examples": 5}}
    study = small_task(
        "next token",
        lambda raw: (of_bytes(raw), raw.update(change), raw.update(curvature=False, growth=False)),
    )
    found = read(study)
    assert found.vocabulary == 256
    assert found.train.images[0].tolist() == [255, 0, 7, 254] * 2

    def of_characters(raw):
        of_bytes(raw)
        raw["data"]["images"]["tokens"] = "characters"

    with pytest.raises(RunError, match=r"data.images.path = 'odd.bin'.*tokens = 'bytes' takes any"):
        data(small_task("next token", of_characters))


def test_features_are_brought_to_mean_0_and_deviation_1(small_task):
    found = read(
        small_task("regression", lambda raw: raw["data"]["images"].update(options={"scale": 9}))
    )
    x = found.normalised(found.train.images)
    assert x.shape == (60, 4)
    assert torch.allclose(x.mean(0), torch.zeros(4), atol=1e-6)
    assert torch.allclose(x.std(0), torch.ones(4), atol=1e-6)
    assert found.train.labels.shape == (60, 1)
    assert found.classes == 1


def test_an_edit_of_ones_own_task_makes_its_results_again(small_task, in_tmp):
    def state(study):
        return stages.base_state(runs(study)[0], 6).path

    before = state(small_task("own"))
    file = in_tmp / "workflow/config/mine_task.py"
    file.write_text(OWN.replace("def absolute", "# a comment\ndef absolute"))
    studyfile.forget()
    assert state(studyfile.load(in_tmp / "workflow/config/mine.yaml")) == before
    unit = small_task("own", lambda raw: raw["data"]["images"]["task"].update(unit="m"))
    assert state(unit) == before
    file.write_text(OWN.replace("labels).abs()", "labels).square()"))
    studyfile.forget()
    assert state(studyfile.load(in_tmp / "workflow/config/mine.yaml")) != before


def test_a_task_of_ones_own_is_published_and_told_without_the_place_of_its_file(small_task):
    study = small_task("own")
    assert {file.name for file in own_files(study)} == {"mine_data.py", "mine_task.py"}
    assert words(study.data.images.task).loss == "absolute of mine_task.py"


@pytest.mark.parametrize("kind", ["gradient", "hessian"])
def test_a_language_model_takes_a_step(small_task, kind):
    study = small_task(
        "next token",
        lambda raw: raw["chaos"].update(perturbation={"kind": kind, "size": 0.1}),
    )
    (run,), examples = runs(study), read(study)
    state = initial_state(run.model, examples, run.seed)
    said = perturb(state.model, run.model.chaos.perturbation, run.seed, "1", run, examples, 0)
    assert said[0] == pytest.approx(0.1, rel=1e-4)
