"""What does not fit a task is refused before training, in one line."""

import pytest
from small_tasks import MLP, OWN_TASK

from twophase.errors import RunError, StudyError
from twophase.stages.check import check
from twophase.stages.data import data


def _network(**network):
    return lambda raw: raw["models"]["net"].update(network=network)


def _own_task(**roles):
    return lambda raw: raw["data"]["images"].update(task=OWN_TASK | roles)


REFUSED = {
    "augmentation of vectors": (
        "regression",
        lambda raw: raw["data"].update(augmentation={"shift": 1, "flip": False}),
        r"mine.yaml: data.augmentation = .*shift.*: is of images, not of vectors; leave it out",
    ),
    "statistics of tokens": (
        "tokens",
        lambda raw: raw["data"].update(statistics={"mean": [0.5], "std": [0.5]}),
        r"data.statistics = .*: is of images, not of tokens; leave it out",
    ),
    "classes of regression": (
        "regression",
        lambda raw: raw["kernel"].update(examples_per_class=2),
        r"kernel.examples_per_class = 2: is of tasks with classes; must be examples",
    ),
    "examples of classes": (
        "vectors",
        lambda raw: raw["kernel"].update(examples=2),
        r"kernel.examples = 2: is of tasks without classes; must be examples_per_class",
    ),
    "convolutions of vectors": (
        "regression",
        _network(architecture="vgg_small"),
        r"network.architecture = 'vgg_small': takes images, data.images.source 'vectors' has "
        r"vectors; must be 'mlp', or your own",
    ),
    "a language model of vectors": (
        "regression",
        _network(architecture="gpt"),
        r"network.architecture = 'gpt': takes tokens, .*must be 'mlp', or your own",
    ),
    "pixels of tokens": (
        "next token",
        _network(**MLP),
        r"network.architecture = 'mlp': takes images or vectors, .* must be 'gpt', or your own",
    ),
    "a language model that classifies": (
        "tokens",
        _network(architecture="gpt"),
        r"network.architecture = 'gpt': predicts the next token, the task is 'classification'",
    ),
    "heads that do not fit": (
        "next token",
        _network(architecture="gpt", width=9, heads=2),
        r"network.width = 9: must be a multiple of heads = 2",
    ),
    "an unknown task": (
        "regression",
        lambda raw: raw["data"]["images"].update(task="ranking"),
        r"data.images.task = 'ranking': must be 'classification', 'regression', or a section",
    ),
    "a task of next tokens of vectors": (
        "next token",
        lambda raw: raw["data"]["images"].update(task="regression"),
        r"data.images.task: no such key",
    ),
    "a task without a loss": (
        "own",
        lambda raw: raw["data"]["images"].update(task={"file": "mine_task.py"}),
        r"data.images.task = .*: of its key loss: field required",
    ),
    "a loss that is not there": (
        "own",
        lambda raw: raw["data"]["images"].update(task={"file": "mine_task.py", "loss": "huber"}),
        r"data.images.task.loss = 'huber': is not in mine_task.py; functions there: absolute",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(small_task, what):
    name, change, said = REFUSED[what]
    small_task(name)
    with pytest.raises(StudyError, match=said) as refused:
        small_task(name, change)
    assert len(str(refused.value).splitlines()) == 1


BEFORE = {
    "a loss that is one number": (
        "own",
        _own_task(loss="total"),
        check,
        r"data.images.task.loss = 'total': returns one number; must return a tensor",
    ),
    "a loss that draws random numbers": (
        "own",
        _own_task(loss="noisy"),
        check,
        r"data.images.task.loss = 'noisy': returns other numbers for the same outputs",
    ),
    "a loss that has no derivative": (
        "own",
        _own_task(loss="apart"),
        check,
        r"data.images.task.loss = 'apart': does not depend on what the network gives",
    ),
    "a loss that fails": (
        "own",
        _own_task(loss="product"),
        check,
        r"stage base: data.images.task: \S+mine_task\.py:\d+: RuntimeError",
    ),
    "a prediction that is a list": (
        "own",
        _own_task(prediction="words"),
        check,
        r"data.images.task.prediction = 'words': returns a list; must return a tensor",
    ),
    "labels of classes that are real": (
        "vectors",
        lambda raw: raw["data"]["images"].update(function="lines"),
        data,
        r"train_labels is float64 of shape \(60,\); must be whole numbers .* one for each vector",
    ),
    "vectors of another length": (
        "regression",
        lambda raw: raw["data"]["images"].update(features=5),
        data,
        r"train_vectors is float64 of shape \(60, 4\).*\(examples, features\) = \(n, 5\)",
    ),
    "a token beyond the vocabulary": (
        "tokens",
        lambda raw: raw["data"]["images"].update(vocabulary=4),
        data,
        r"train_tokens is int64 .*from 0 to 4; must be whole numbers from 0 to vocabulary - 1",
    ),
    "another text": (
        "next token",
        lambda raw: raw["data"]["images"].update(sha256=64 * "0"),
        data,
        r"data.images.path = 'mine.txt': the file has the digest .*another text",
    ),
    "a text that is not there": (
        "next token",
        lambda raw: raw["data"]["images"].update(path="none.txt"),
        data,
        r"data.images.path = 'none.txt': No such file",
    ),
    "a text that is too short": (
        "next token",
        lambda raw: raw["data"]["images"].update(length=5000),
        data,
        r"its train part has [\d,]+ tokens; one example has data.images.length = 5000",
    ),
    "more inputs than examples": (
        "regression",
        lambda raw: raw["kernel"].update(examples=61),
        data,
        r"kernel.examples = 61: must be at most 60, all training examples",
    ),
    "outputs of another number": (
        "several outputs",
        _network(file="mine_networks.py", builder="line", options={"outputs": 2}),
        check,
        r"Linear itself: the output of 16 images is \(16, 2\), not \(16, 3\)",
    ),
}


@pytest.mark.parametrize("what", BEFORE)
def test_what_does_not_fit_is_refused_before_training(small_task, what):
    name, change, stage, said = BEFORE[what]
    study = small_task(name, change)
    if stage is check:
        data(study)
    with pytest.raises((RunError, StudyError), match=said):
        stage(study)
