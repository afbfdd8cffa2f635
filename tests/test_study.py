import copy
import re

import pytest

from twophase.errors import StudyError
from twophase.study.chaos import compare_points, forks
from twophase.study.run import Run
from twophase.study.studyfile import load

MISTAKES = {
    # name: (keys to the changed value, new value or `del`, what the one line must say)
    "unknown section": (["trainnig"], {}, ["trainnig", "no such key", "training"]),
    "unknown key": (["training", "lrr"], 0.1, ["training.lrr", "no such key", "lr_drops"]),
    "missing key": (["training", "lr"], "del", ["training.lr", "missing"]),
    "word for a number": (["training", "lr"], "fast", ["training.lr", "'fast'", "number"]),
    "truth for a number": (["training", "lr"], True, ["training.lr", "True", "number"]),
    "fraction for a count": (["training", "batch_size"], 1.5, ["training.batch_size", "1.5"]),
    "negative": (["training", "lr"], -0.1, ["training.lr", "-0.1", "greater than 0"]),
    "infinite": (["training", "lr"], float("inf"), ["training.lr", "inf", "finite"]),
    "value twice": (["chaos", "forks"], [0, 4, 4], ["chaos.forks", "rise, each value once"]),
    "unknown choice": (
        ["chaos", "perturbation", "kind"],
        "l0",
        ["chaos.perturbation.kind", "'l0'", "'std', 'l2', 'relative'"],
    ),
    "unknown architecture": (
        ["models", "vgg", "network", "architecture"],
        "vgg19",
        ["models.vgg.network.architecture", "'vgg19'", "'resnet20'"],
    ),
    "option of another architecture": (
        ["models", "resnet", "network", "batch_norm"],
        True,
        ["models.resnet.network.batch_norm", "no such key", "architecture"],
    ),
    "unknown data": (
        ["data", "images", "source"],
        "mnist",
        ["data.images.source = 'mnist'", "'digits'", "'folder'"],
    ),
    "no data source": (["data", "images", "source"], "del", ["data.images.source", "missing"]),
    "option of another source": (
        ["data", "images", "path"],
        "data",
        ["data.images.path", "no such key", "test_examples"],
    ),
    "digest that is none": (
        ["data", "images"],
        {"source": "folder", "sha256": "abc"},
        ["data.images.sha256", "must match"],
    ),
    "network too deep for its images": (
        ["models", "vgg", "network"],
        {"architecture": "vgg16"},
        ["models.vgg.network.architecture", "'vgg16'", "images of 32 pixels", "for any size"],
    ),
    "a size of images that the images say": (
        ["models", "vgg", "network"],
        {"architecture": "mlp", "image_size": 8},
        ["models.vgg.network.image_size = 8: the images say it; leave it out"],
    ),
    "another norm in the place of none": (
        ["models", "vgg", "network", "norm"],
        "none",
        ["models.vgg.network.norm = 'none'", "needs batch_norm: true"],
    ),
    "fork after the end": (
        ["chaos", "forks"],
        [0, 4, 12],
        ["chaos.forks", "12", "end of training"],
    ),
    "fork without a compare point": (
        ["chaos", "compare"],
        [3],
        ["chaos.forks = 4", "no compare point"],
    ),
    "compare after the end": (["chaos", "compare"], [6, 13], ["chaos.compare = 13", "12"]),
    "compare that no fork reaches": (
        ["chaos", "compare"],
        [0, 6, 12],
        ["chaos.compare = 0", "no fork reaches"],
    ),
    "control that is no fork": (["chaos", "control"], [0, 5], ["chaos.control = 5", "[0, 4]"]),
    "grid out of order": (["chaos", "compare"], [12, 6], ["chaos.compare", "must rise"]),
    "kernel after the end": (["kernel", "until"], 16, ["kernel.until", "16", "12"]),
    "reference without a kernel": (
        ["kernel", "references"],
        [0, 5],
        ["kernel.references = 5", "multiple of kernel.every = 4"],
    ),
    "interval between no kernels": (["kernel", "intervals"], [6], ["kernel.intervals = 6", "4"]),
    "switch at the end": (["linearized", "switches"], [0, 12], ["linearized.switches = 12"]),
    "more examples than there are": (
        ["evaluation", "test_examples"],
        201,
        ["evaluation.test_examples = 201", "at most 200"],
    ),
    "more inputs of a class than there are": (
        ["kernel", "examples_per_class"],
        155,
        ["kernel.examples_per_class = 155", "at most 154"],
    ),
    "the same seed twice": (["seeds"], [1, 1], ["seeds", "[1, 1]", "twice"]),
    "precision of another device": (
        ["compute", "precision"],
        "tf32",
        ["compute.precision = 'tf32'", "cuda"],
    ),
    "a mistake in one model's own section": (
        ["models", "resnet", "chaos", "forks"],
        [20],
        ["models.resnet.chaos.forks = 20", "end of training"],
    ),
    "no models": (["models"], {}, ["models", "{}"]),
    "a list for a section": (["training"], [1], ["training = [1]", "must be a section"]),
    "nothing for a section": (["chaos"], None, ["chaos = nothing", "must be a section"]),
    "truth for a section": (["chaos"], True, ["chaos = True", "must be a section"]),
    "a section for a truth": (["data", "augmentation", "flip"], {}, ["data.augmentation.flip"]),
    "unknown optimizer": (
        ["training", "optimizer"],
        "lion",
        ["training.optimizer = 'lion'", "'sgd', 'adam', 'adamw'"],
    ),
    "option of another optimizer": (
        ["training", "optimizer"],
        "adamw",
        ["training.momentum", "no such key", "betas"],
    ),
    "drop after the end": (["training", "lr_drops"], [8, 12], ["training.lr_drops = 12"]),
    "a number for a network": (["models", "vgg", "network"], 5, ["models.vgg.network = 5"]),
    "a number for a key": (["training"], {7: 1}, ["training.7", "no such key", "lr_drops"]),
}
SCHEDULES = {
    # name: (a section `schedule`, what the one line must say)
    "no kind": ({"warmup": 3}, ["training.schedule.kind", "missing"]),
    "unknown key": (
        {"kind": "cosine", "warm_up": 3},
        ["training.schedule.warm_up", "allowed here: kind, warmup, until, end_factor"],
    ),
    "nothing under it": (None, ["training.schedule = nothing", "must be a section"]),
    "drops beside it": (
        {"kind": "cosine"},
        ["training.lr_drops = [8]: clashes with training.schedule.kind = 'cosine'; must be []"],
    ),
    "an end that is none": (
        {"kind": "steps", "until": 9},
        ["training.schedule.until = 9: is of the kinds 'cosine' and 'linear'; leave it out"],
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_that_does_not_fit_gives_one_clear_line(name, raw, write_study):
    raw["training"]["schedule"], expected = SCHEDULES[name]
    with pytest.raises(StudyError) as caught:
        load(write_study(raw))
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in expected), str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schedule": {"kind": "steps"}}, "schedule.kind = 'steps': needs training.lr_drops"),
        ({"schedule": {"kind": "linear", "warmup": 12}}, "warmup = 12: lasts .* less than 12"),
        ({"schedule": {"kind": "linear", "warmup": 7, "until": 7}}, "warmup = 7: .* less than 7"),
        ({"nesterov": True, "momentum": 0}, "training.nesterov = True: needs training.momentum"),
    ],
)
def test_options_of_training_that_need_others(change, expected, raw, write_study):
    del raw["training"]["lr_drops"]
    raw["training"] |= change
    with pytest.raises(StudyError, match=expected) as caught:
        load(write_study(raw))
    assert "\n" not in str(caught.value)


def test_a_model_of_another_optimizer_drops_the_options_of_the_shared_one(raw, write_study):
    raw["training"] |= {"nesterov": True, "schedule": {"kind": "steps", "warmup": 3}}
    raw["models"]["vgg"]["training"] = {"optimizer": "adam", "eps": 1e-6}
    raw["models"]["resnet"]["training"] = {"schedule": {"kind": "linear"}, "lr_drops": []}
    models = load(write_study(raw)).models
    assert models["vgg"].training.options() == {
        "optimizer": "adam",
        "eps": 1e-6,
        **{k: raw["training"][k] for k in ("iterations", "batch_size", "lr", "lr_drops")},
        "weight_decay": 1e-4,
        "schedule": {"kind": "steps", "warmup": 3},
    }
    # The same optimizer keeps them, and a schedule is replaced as a whole.
    assert models["resnet"].training.nesterov
    assert models["resnet"].training.schedule.warmup == 0
    # What neither optimizer takes is still a mistake, as is what the model itself says amiss.
    for change in ({"betaz": [0, 0]}, {"momentum": 0.9}):
        raw["models"]["vgg"]["training"] = {"optimizer": "adam"} | change
        with pytest.raises(StudyError, match=f"training.{next(iter(change))}: no such key"):
            load(write_study(raw))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_gives_one_clear_line(mistake, raw, write_study):
    keys, value, expected = MISTAKES[mistake]
    section = raw
    for key in keys[:-1]:
        section = section[key]
    if value == "del":
        del section[keys[-1]]
    else:
        section[keys[-1]] = copy.deepcopy(value)
    path = write_study(raw)
    with pytest.raises(StudyError) as caught:
        load(path)
    lines = [line for line in str(caught.value).splitlines() if all(e in line for e in expected)]
    assert lines, str(caught.value)
    assert lines[0].startswith(f"{path}: ")
    # Nothing but lines of that form: no traceback, no type names.
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())


def test_a_section_that_says_more_of_one_that_is_not_there_is_told(raw, write_study):
    line = "needs section chaos, which is missing; give both or none"
    raw["models"]["resnet"]["chaos"] = False  # another model has it, and so may do without
    known = load(write_study(raw))
    assert known.models["resnet"].sizes is None
    raw["models"]["resnet"]["matching"] = {}
    with pytest.raises(StudyError) as caught:
        load(write_study(raw))
    assert str(caught.value).endswith(f"mine.yaml: models.resnet.matching: {line}")
    del raw["chaos"], raw["models"]["resnet"]["matching"], raw["matching"], raw["sizes"]
    del raw["models"]["resnet"]["chaos"]
    raw["measures"] = {"apart": {"file": "mine.py", "function": "apart"}}
    with pytest.raises(StudyError) as caught:
        load(write_study(raw))
    assert str(caught.value).endswith(f"mine.yaml: measures: {line}")


def test_a_mistake_in_a_shared_section_is_told_once(raw, write_study):
    raw["training"]["lr"] = -1
    with pytest.raises(StudyError) as caught:
        load(write_study(raw))
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: {lr: 1, lr: 2}", "'lr' stands twice"),
        ("training:\n  lr: 1\n\n  lr: 2", "line 4: .*'lr' stands twice"),
        ("training: {lr: 1", "not YAML"),
        ("training: {lr: " + 5000 * "9" + "}", r"line 1: not YAML: '9+\.\.\. is no number"),
        ("title: 2026-02-31", "line 1: not YAML: '2026-02-31' is no number or date"),
        ("# mine\n%YAML 1.1\n---\nseeds: [010]", "line 2: '%YAML 1.1': must be read as 1.2"),
        ("title: \x07", "not YAML: unacceptable character #x0007"),
        ("- a list", "must be a mapping"),
        ("", "must be a mapping"),
        ("name: other", "file's own name"),
    ],
)
def test_a_file_that_is_no_study(text, expected, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=expected) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml")


def test_a_name_that_cannot_stand_in_a_path(raw, write_study):
    with pytest.raises(StudyError, match="the file's name 'My Study'"):
        load(write_study(raw, name="My Study"))


def test_a_model_may_be_called_what_its_network_is(raw, write_study):
    raw["models"]["vgg16"] = {"network": {"architecture": "vgg_small", "depth": 3}}
    with pytest.raises(StudyError, match=r"models\.vgg16\.network\.depth: no such key"):
        load(write_study(raw))


def test_a_model_overrides_single_keys(smoke):
    assert smoke.models["vgg"].chaos.forks == [0, 4]
    assert smoke.models["resnet"].chaos.forks == [0]
    assert smoke.models["resnet"].chaos.compare == smoke.models["vgg"].chaos.compare


@pytest.mark.parametrize(
    ("written", "meant"),
    [("2e-2", 0.02), ("2E-2", 0.02), (".02", 0.02), ("1_000.", 1000), ("+3", 3), ("010", 10)],
)
def test_a_number_is_what_people_mean_by_it(written, meant, raw, write_study):
    # YAML 1.1 reads 2e-2 as a word, and 010 as 8.
    path = write_study(raw)
    path.write_text(path.read_text().replace("lr: 0.02", f"lr: {written}"))
    assert load(path).models["vgg"].training.lr == meant
    if written == "010":
        path.write_text(path.read_text().replace("batch_size: 32", "batch_size: 010"))
        assert load(path).models["vgg"].training.batch_size == 10


@pytest.mark.parametrize("written", ["1:30", "'2e-2'", "2001-01-31", "0,02", "2e", "1 000"])
def test_what_is_no_number_is_refused_by_its_key(written, raw, write_study):
    # YAML 1.1 reads 1:30 as 90.
    path = write_study(raw)
    path.write_text(path.read_text().replace("lr: 0.02", f"lr: {written}"))
    said = re.escape(written.strip("'"))
    with pytest.raises(StudyError, match=rf"training\.lr = '?{said}'?: must be a valid number"):
        load(path)


@pytest.mark.parametrize("word", ["yes", "on", "no"])
def test_words_are_no_truths(word, raw, write_study):
    path = write_study(raw)
    path.write_text(path.read_text().replace("flip: true", f"flip: {word}"))
    with pytest.raises(StudyError, match=f"augmentation.flip = '{word}': must be a valid boolean"):
        load(path)


def test_all_examples_that_there_are_may_be_asked_for_and_not_one_more(raw, write_study):
    for option, there in (("train_examples", 1597), ("test_examples", 200)):
        raw["evaluation"][option] = there
        assert getattr(load(write_study(raw)).models["vgg"].evaluation, option) == there
        raw["evaluation"][option] = there + 1
        with pytest.raises(StudyError, match=rf"{option} = {there + 1}: must be at most {there},"):
            load(write_study(raw))
        raw["evaluation"][option] = there


def test_every_iteration_that_a_stage_reads_is_kept(smoke):
    model = smoke.models["vgg"]
    assert model.checkpoints() == [0, 4, 6, 8, 12]
    fifths = model.model_copy(update={"curvature": model.curvature.model_copy(update={"every": 5})})
    assert fifths.checkpoints() == [0, 4, 5, 6, 8, 10, 12]
    assert smoke.models["vgg"].kernel.steps() == [0, 4, 8, 12]
    assert compare_points(Run(smoke, "vgg", 0), 6) == [12]
    every = [(t0, direction) for t0 in (0, 4) for direction in ("1", "2", "control")]
    assert forks(Run(smoke, "vgg", 0)) == every
