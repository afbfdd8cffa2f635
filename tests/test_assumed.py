"""What a study file need not say: assumed values, the note of its images, and `twophase new`."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import CONFIG, ROOT, edit
from pictures import SIZE, plain, write

from twophase import __main__
from twophase.commands.assumptions import ASSUMED
from twophase.errors import Problem, StudyError
from twophase.study import assumed, noted, stages, studyfile
from twophase.study.model import Model
from twophase.study.optimizers import SGD
from twophase.study.run import runs

NETWORK = """
from torch import nn

def net(channels, classes, *, hidden=4):
    layers = nn.Conv2d(channels, hidden, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(hidden, classes))
"""
FOLDER = {"source": "folder", "path": "images", "image_size": SIZE}
FROZEN = yaml.safe_load((ROOT / "tests/assumed.yaml").read_text())
SECTIONS = [name for name in FROZEN if name in assumed.GRIDS]


def _minimal(**sections):
    """A study that says only what cannot be guessed, on the folder `images`."""
    return {
        "data": {"images": FOLDER},
        "models": {"mine": {"network": {"file": "net.py", "builder": "net"}}},
        "training": {"iterations": 8, "lr": 0.05},
        **sections,
    }


@pytest.fixture
def folder(in_tmp, write_study):
    """A project with six training and six test images, and a network."""
    write(in_tmp / "images", plain())
    (write_study({}).parent / "net.py").write_text(NETWORK)
    (in_tmp / "workflow/config/mine.yaml").unlink()
    return in_tmp


def _called(*words):
    __main__.run(__main__.parser().parse_args([str(word) for word in words]))


def test_no_assumed_value_has_changed():
    images = {
        "source": "function", "file": "x.py", "function": "x", "channels": 1, "image_size": 8,
        "classes": 10, "train_examples": 3000, "test_examples": 500,
    }  # fmt: skip
    network = {"architecture": "own", "file": "net.py", "builder": "net"}
    model = {"network": network, "training": {"optimizer": "sgd", "iterations": 600, "lr": 0.1}}
    model |= {name: {} for name in SECTIONS}
    merged = {"data": {"images": images}, "models": {"a": model}}
    full, said = assumed.filled(merged, {"models": {"a": {}}}, "mine", studyfile.TAGGED)
    assert {section or "": values for (_, section), values in said.items()} == {
        "": {key: FROZEN[key] for key in ("title", "seeds")} | {"compute": {}},
        **{key: value for key, value in FROZEN.items() if isinstance(value, dict)},
    }
    assert full["models"]["a"]["chaos"] == FROZEN["chaos"]
    assert "chaos" in merged["models"]["a"]
    assert not merged["models"]["a"]["chaos"]  # what was read stays as it was


def test_a_number_is_told_with_all_its_digits():
    for value in (1.23456789e-7, 1e-10, 0.1 + 0.2, 5e-324, 1e22, -3.0, 123456789.0, 7):
        assert float(assumed.plain(value)) == value
    assert assumed.plain([1e-7, 2.0, 0.9, 1e-5]) == "[1e-7, 2, 0.9, 1e-5]"


@pytest.mark.parametrize("file", sorted(CONFIG.glob("*.yaml")), ids=lambda file: file.stem)
def test_nothing_is_assumed_of_the_studies_that_there_are(file):
    if file.stem not in studyfile.RESERVED:
        assert studyfile.taken(file) == []


def test_what_is_assumed_makes_the_results_that_it_makes_when_it_is_written_out(
    folder, write_study
):
    sections = {name: {} for name in (*SECTIONS, "matching", "trajectory", "across_seeds")}
    short = studyfile.load(write_study(_minimal(**sections)))
    full = {
        name: section.model_dump(exclude_unset=True, by_alias=True)
        for name, section in short.models["mine"].sections().items()
    }
    spelled = _minimal(**full, compute=short.compute.model_dump(), seeds=short.seeds)
    spelled["title"] = short.title
    spelled["data"] |= {"augmentation": {"shift": 0, "flip": False}}
    studyfile.forget()
    long = studyfile.load(write_study(spelled))
    paths = [{each.path for each in stages.every(study)} for study in (short, long)]
    assert paths[0] == paths[1]
    assert not [line for line in studyfile.taken(Path("workflow/config/mine.yaml"))]


def test_the_reference_tells_every_key_that_is_assumed():
    told = {key for options in ASSUMED.values() for key in options}
    filled = {key for values in FROZEN.values() if isinstance(values, dict) for key in values}
    filled |= {"title", "seeds", "compute", "augmentation", "evaluation", "sha256"}
    assert told == filled


LENGTHS = [2, 3, 7, 31, 33, 64, 200, 1000, 78_200]
GIVEN = {
    "chaos": [{}, {"forks": [1]}, {"compare": [2]}, {"follow": [1]}, {"forks": [0], "follow": [2]}],
    "kernel": [{}, {"every": 1}, {"times": [0, 1, 2]}, {"examples_per_class": 1}],
}


@pytest.mark.parametrize("last", LENGTHS)
def test_assumed_grids_fit_whatever_else_is_given(last, folder, write_study):
    choices = [(name, each) for name in SECTIONS for each in GIVEN.get(name, [{}])]
    for name, given in choices:
        raw = _minimal(**({"chaos": {}} if name == "sizes" else {}), **{name: given})
        raw["training"]["iterations"] = last
        study = studyfile.load(write_study(raw))
        assert getattr(study.models["mine"], name)
        assert stages.STAGES  # all of its points are there:
        for run, stage in itertools.product(runs(study)[:1], stages.STAGES.values()):
            if stage.section == name:
                stage.grid(run), stage.parts(run)


def test_sections_are_not_assumed_nor_what_cannot_be_guessed(folder, write_study):
    study = studyfile.load(write_study(_minimal()))
    asked = {name for name, field in Model.model_fields.items() if not field.is_required()}
    assert not any(getattr(study.models["mine"], name) for name in asked)
    for section, key in (("training", "lr"), ("training", "iterations")):
        raw = _minimal()
        del raw[section][key]
        with pytest.raises(StudyError, match=rf"{section}\.{key}: is missing"):
            studyfile.load(write_study(raw))
    for optimizer, decay in (("adam", 0.0), ("adamw", 0.01)):
        raw = _minimal()
        raw["training"]["optimizer"] = optimizer
        training = studyfile.load(write_study(raw)).models["mine"].training
        assert (training.weight_decay, training.batch_size) == (decay, 6)
        assert "momentum" not in SGD.model_fields or not hasattr(training, "momentum")


def test_plan_says_what_was_assumed_once_for_all_models_or_for_one(folder, write_study):
    raw = _minimal(kernel={})
    raw["models"]["other"] = raw["models"]["mine"] | {"training": {"momentum": 0.5}}
    told = studyfile.taken(write_study(raw))
    assert "assumed: data.augmentation: shift = 0, flip = false" in told
    assert "assumed: models.other.training: batch_size = 6, weight_decay = 0.0001" in told
    assert any(
        line.startswith("assumed: models.mine.training: batch_size = 6, mom") for line in told
    )
    assert sum("kernel: every = 1, until = 8" in line for line in told) == 1


def test_the_digest_is_written_down_at_the_first_run_and_holds(folder, write_study, capsys):
    file = write_study(_minimal())
    first = studyfile.load(file)
    note = Path("results/mine/images.json")
    said = json.loads(note.read_text())
    assert said["are"] == {
        "sha256": first.data.images.sha256, "classes": 2, "train_examples": 6, "test_examples": 6,
    }  # fmt: skip
    _called("data", file)
    # As if the file said it, and found from elsewhere without the images.
    text = file.read_text()
    file.write_text(
        text.replace("source: folder", f"sha256: {said['are']['sha256']}\n    source: folder")
    )
    assert stages.data_file(studyfile.load(file)).path == stages.data_file(first).path
    file.write_text(text)
    (folder / "images").rename(folder / "aside")
    studyfile.forget()
    assert studyfile.load(file).data.images == first.data.images
    (folder / "aside").rename(folder / "images")
    # Other images are refused until the note is deleted.
    stages.data_file(first).path.unlink()
    shutil.copyfile("images/train/a/0.png", "images/train/a/1.png")
    with pytest.raises(
        Problem, match=r"digest .* \(\S*results/mine/images\.json says which .* delete"
    ):
        _called("data", file)
    note.unlink()
    studyfile.forget()
    _called("data", file)
    assert studyfile.load(file).data.images.sha256 != first.data.images.sha256
    note.write_text("{")
    studyfile.forget()
    with pytest.raises(StudyError, match=r"images\.json: is damaged; delete it"):
        studyfile.load(file)
    shutil.rmtree("images")
    note.unlink()
    with pytest.raises(StudyError, match=r"mine\.yaml: images: no such file or folder"):
        studyfile.load(file)


def test_a_published_study_takes_its_note_along(folder, write_study):
    file = write_study(_minimal())
    first = studyfile.load(file)
    published = folder / "paper/mine.yaml"
    published.parent.mkdir()
    shutil.copyfile(file, published)
    shutil.copyfile(file.with_name("net.py"), published.with_name("net.py"))
    shutil.copyfile(noted.note(file), published.with_name(noted.NAME))
    shutil.rmtree("results")
    shutil.rmtree("images")
    assert studyfile.load(published).data.images == first.data.images


def test_new_writes_a_study_of_at_most_twelve_lines_that_runs_at_once(folder, capsys):
    (folder / "net.py").write_text(NETWORK)  # anywhere; it is copied beside the study
    (folder / "workflow/config/net.py").unlink()
    _called("new", "fresh.yaml", "--network", "net.py:net", "--images", "images")
    file = Path("workflow/config/fresh.yaml")
    lines = [line for line in file.read_text().splitlines() if line.strip()[:1] != "#"]
    assert len(lines) <= 12
    assert len(file.read_text().splitlines()) > len(lines) + 3
    study = studyfile.load(file)
    images = study.data.images
    assert (images.classes, images.train_examples, images.test_examples) == (2, 6, 6)
    assert not noted.note(file).exists()
    edit(file, "iterations: 200", "iterations: 4")
    text = file.read_text()
    for key in ("forks", "compare", "every", "until"):
        (value,) = (str(getattr(s, key)) for s in _sections(study) if hasattr(s, key))
        text = text.replace(f"{key}: {value}, ", "").replace(f"{key}: {value}", "")
    file.write_text(text.replace("seeds: [0, 1, 2]", "seeds: [0]"))
    _called("data", file)
    _called("check", file)
    assert "net: base, fork, chaos, kernel, cone do their work" in capsys.readouterr().err


def _sections(study):
    model = study.models["net"]
    return model.chaos, model.kernel


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.yaml", "--network", "net.py"], "--network net.py: must be <file>.py:<builder>"),
        (["x.yaml", "--network", "net.py:no"], r"builder = 'no': is not in net\.py; .*: net"),
        (["x.yaml", "--network", "gone.py:net"], r"file = 'gone\.py': no such file in workflow"),
        (["other/x.yaml", "--network", "net.py:net"], r"must be workflow/config/<study>\.yaml"),
        (["there.yaml", "--network", "net.py:net"], r"there\.yaml: is there already"),
        (["x.yaml", "--network", "net.py:net", "--images", "no"], "no: no such file or folder"),
        (["x.yaml", "--network", "near.py:net", "--images", "no"], "no: no such file or folder"),
        (["all.yaml", "--network", "net.py:net"], "'all' names the study: it must be another"),
    ],
)
def test_what_new_cannot_use_is_told_in_one_line_and_leaves_nothing(words, said, folder):
    Path("workflow/config/there.yaml").write_text("x: 1\n")
    Path("near.py").write_text(NETWORK)
    before = sorted(folder.rglob("*"))
    with pytest.raises(Problem, match=said) as caught:
        _called("new", *words, *(["--images", "images"] if "--images" not in words else []))
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before


def test_new_asks_for_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="workflow/config: no such folder in .*checkout"):
        _called("new", "x.yaml", "--network", "net.py:net", "--images", "images")


def test_pictures_of_several_sizes_are_scaled(folder):
    from PIL import Image

    Image.new("RGB", (90, 70)).save("images/train/a/wide.png")
    _called("new", "x.yaml", "--network", "net.py:net", "--images", "images")
    images = studyfile.load(Path("workflow/config/x.yaml")).data.images
    assert (images.image_size, images.resize) == (32, True)
