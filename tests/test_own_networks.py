"""Networks that are no part of the package: a file beside the study, torchvision's, a package's."""

import json
import shutil

import pytest
import torch
from torch import nn

from twophase.errors import StudyError
from twophase.store.code import imported_files
from twophase.study import networks, stages, studyfile
from twophase.study import stage as rows
from twophase.study.beginning import own_files
from twophase.study.run import runs
from twophase.training.loop import build

NET = """
import helpers
from torch import nn


def net(channels, classes, *, hidden=8, depth=1):
    first = helpers.layer(channels * 64, hidden)
    return nn.Sequential(nn.Flatten(), first, nn.Linear(hidden, classes))


class Wide(nn.Module):
    def __init__(self, image_size, classes, factor):
        super().__init__()
        self.linear = nn.Linear(image_size**2, factor)
        self.head = nn.Linear(factor, classes)

    def forward(self, x):
        return self.head(self.linear(x.flatten(1)).relu())
"""
HELPERS = """
from torch import nn
from rooms import attic


def layer(one, other):
    return nn.Sequential(nn.Linear(one, other), nn.ReLU())
"""


@pytest.fixture
def beside(tmp_path):
    """The folder of the study file, with a network in it and what that imports."""
    folder = tmp_path / "workflow" / "config"
    (folder / "rooms").mkdir(parents=True)
    (folder / "net.py").write_text(NET)
    (folder / "helpers.py").write_text(HELPERS)
    (folder / "rooms" / "attic.py").write_text("x = 1\n")
    (folder / "unused.py").write_text("x = 1\n")
    return folder


def _makers(study):
    """The fingerprints of each model's stages; those of a study are of all models."""
    rows._part_maker.cache_clear()
    own = [stage for stage, row in stages.STAGES.items() if row.scope == "run"]
    return {
        run.name: [stages.job_fingerprint(s, run) for s in own if run in stages.runs_of(study, s)]
        for run in runs(study)
    }


def _network(raw, **network):
    raw["models"]["resnet"]["network"] = network
    return raw


MINE = {"file": "net.py", "builder": "net", "options": {"hidden": 5}}


def test_a_builder_gets_what_it_names_and_the_options(raw, write_study, beside):
    study = studyfile.load(write_study(_network(raw, **MINE)))
    network = build(study.models["resnet"].network, 1, 10)
    assert [tuple(p.shape) for p in network.parameters()] == [(5, 64), (5,), (10, 5), (10,)]
    wide = {"file": "net.py", "builder": "Wide", "options": {"factor": 3}}
    study = studyfile.load(write_study(_network(raw, **wide)))
    assert build(study.models["resnet"].network, 1, 10)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


EDITS = {
    # file: (what is appended, whether results are stale)
    "net.py": ("y = 2\n", True),
    "helpers.py": ("y = 2\n", True),
    "rooms/attic.py": ("y = 2\n", True),
    "unused.py": ("y = 2\n", False),
    "rooms/__init__.py": ("y = 2\n", True),
}


@pytest.mark.parametrize("file", EDITS)
def test_an_edit_makes_stale_what_the_network_made_and_nothing_else(file, raw, write_study, beside):
    study = studyfile.load(write_study(_network(raw, **MINE)))
    before = _makers(study)
    text, stale = EDITS[file]
    (beside / "net.py").open("a").write("# A comment makes nothing stale.\n")
    assert _makers(study) == before
    (beside / file).open("a").write(text)
    after = _makers(study)
    assert after["vgg"] == before["vgg"]
    assert all((a != b) == stale for a, b in zip(after["resnet"], before["resnet"], strict=True))


def test_another_place_and_another_network_make_nothing_stale(raw, write_study, beside):
    before = _makers(studyfile.load(write_study(_network(raw, **MINE))))
    moved = beside / "deeper"
    moved.mkdir()
    for name in ("net.py", "helpers.py", "rooms"):
        (beside / name).rename(moved / name)
    raw["models"]["resnet"]["network"]["file"] = "deeper/net.py"
    raw["models"]["vit"] = {"network": {"architecture": "vit"}}
    after = _makers(studyfile.load(write_study(raw)))
    del after["vit"]
    assert after == before


@pytest.mark.parametrize("real", ["net.py", "deeper/dec.py", "../dec.py"])
def test_a_study_can_be_published_with_its_networks(real, raw, write_study, beside, tmp_path):
    if real != "net.py":  # which is then a link
        (beside / real).parent.mkdir(exist_ok=True)
        (beside / "net.py").rename(beside / real)
        (beside / "net.py").symlink_to(real)
    path = write_study(_network(raw, **MINE))
    study = studyfile.load(path)
    published = tmp_path / "published"
    for file in [path, *own_files(study)]:
        copy = published / file.relative_to(path.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    assert not (published / "unused.py").exists()
    assert (published / "net.py").read_text() == NET
    assert _makers(studyfile.load(published / path.name)) == _makers(study)


def test_a_file_that_is_edited_is_another_module(raw, write_study, beside):
    path = write_study(_network(raw, **MINE))
    network = studyfile.load(path).models["resnet"].network
    first = build(network, 1, 10)
    (beside / "net.py").write_text(NET.replace("nn.Flatten()", "nn.Flatten(), nn.Identity()"))
    assert len(build(network, 1, 10)) == len(first) + 1


MISTAKES = {
    # What is given in place of MINE, and what the one line must say.
    "no such file": (
        {"file": "nets.py"},
        ["network.file = 'nets.py': no such file", "Python files there: helpers.py, net.py, unu"],
    ),
    "elsewhere": ({"file": "../net.py"}, ["network.file = '../net.py': must lie beside the study"]),
    "no such builder": (
        {"builder": "nett"},
        ["network.builder = 'nett': is not in net.py; functions there: Wide, net"],
    ),
    "no name": ({"builder": "net.net"}, ["network.builder = 'net.net': must be the name of a"]),
    "no such option": (
        {"options": {"hiden": 3}},
        [
            "network.options.hiden = 3: 'net' in net.py takes no such option",
            "; it takes: hidden, depth",
        ],
    ),
    "an option that is needed": (
        {"builder": "Wide", "options": {}},
        ["network.options.factor: is missing; 'Wide' in net.py needs it"],
    ),
    "an option of the images": (
        {"options": {"classes": 3}},
        ["network.options.classes = 3: is given by itself; leave it out"],
    ),
    "no section": ({"options": 3}, ["network.options = 3: must be a section"]),
    "no builder": ({"builder": None}, ["network.builder", "must be"]),
    "unknown key": (
        {"option": 1},
        ["network.option: no such key; allowed here: architecture, file, builder, options"],
    ),
    "no file": ({"file": None}, ["network.builder = 'net': must be module:function"]),
    "no module": (
        {"file": None, "builder": "nowhere.nets:net"},
        ["network.builder = 'nowhere.nets:net': no module 'nowhere' is installed"],
    ),
    "no function": (
        {"file": None, "builder": "torchvision.models.resnet:resnet19"},
        ["network.builder", "is not in resnet.py; functions there: ", "resnet18"],
    ),
    "no network of torchvision": (
        {"file": None, "builder": None, "options": {}, "torchvision": "resnet17"},
        ["network.torchvision = 'resnet17': is no network of torchvision; near are", "resnet18"],
    ),
    "three channels": (
        {"file": None, "builder": None, "options": {}, "torchvision": "resnet18"},
        ["network.torchvision = 'resnet18': takes images of 3 channels, data.images has 1"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_file_key_value_and_what_is_allowed(
    name, raw, write_study, beside
):
    change, said = MISTAKES[name]
    network = MINE | change
    for key in ("file", "builder"):
        if network[key] is None and name != "no builder":
            del network[key]
    path = write_study(_network(raw, **network))
    with pytest.raises(StudyError) as caught:
        studyfile.load(path)
    lines = [line for line in str(caught.value).splitlines() if said[0] in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}: models.resnet.network")
    assert [part for part in said if part not in lines[0]] == [], lines[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x = eval('1')", "eval runs code that a fingerprint cannot follow"),
        ("import importlib; importlib.import_module('a')", "import_module runs code"),
        ("from .helpers import layer", "imports from beyond its package"),
    ],
)
def test_code_that_cannot_be_followed_is_refused(line, said, raw, write_study, beside):
    study = studyfile.load(write_study(_network(raw, **MINE)))
    (beside / "helpers.py").open("a").write(f"\n{line}\n")
    with pytest.raises(StudyError, match=said) as caught:
        _makers(study)
    assert f"{beside}/helpers.py:9: " in str(caught.value)


def test_code_of_this_package_counts_where_a_network_imports_it(raw, write_study, beside):
    (beside / "rooms/attic.py").write_text("from twophase.networks.layers import scaled\n")
    study = studyfile.load(write_study(_network(raw, **MINE)))
    _, place = networks.code(study.models["resnet"].network)
    assert [f.name for f in imported_files(place).values()] == ["net.py", "helpers.py", "attic.py"]
    before = _makers(study)["resnet"]
    (beside / "rooms/attic.py").write_text("from twophase.networks.vgg import VGG\n")
    assert _makers(study)["resnet"][0] != before[0]


def test_an_installed_builder_is_found_and_its_package_counts(
    raw, write_study, beside, monkeypatch
):
    package = beside / "installed" / "nets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "small.py").write_text("from .parts import head as net\nimport helpers\n")
    (package / "parts.py").write_text(
        "from torch import nn\n\n\ndef head(classes):\n    return nn.LazyLinear(classes)\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.syspath_prepend(str(beside))
    study = studyfile.load(write_study(_network(raw, builder="nets.small:net")))
    network = study.models["resnet"].network
    assert isinstance(build(network, 1, 10), nn.Linear)
    _, place = networks.code(network)
    # What is on the path and no installed package counts wherever it lies.
    assert sorted(imported_files(place)) == [
        *("helpers", "nets", "nets.parts", "nets.small", "rooms.attic"),
    ]


def test_a_number_of_yaml_is_a_number(raw, write_study, beside):
    path = write_study(_network(raw, **MINE))
    path.write_text(path.read_text().replace("hidden: 5", "hidden: 1e1"))
    assert studyfile.load(path).models["resnet"].network.arguments == {"hidden": 10.0}


def test_torchvision_is_named_with_its_version(raw, write_study, tmp_path):
    raw["data"]["images"] = {"source": "cifar10", "folder": "data"}
    raw["models"] = {"tv": {"network": {"torchvision": "resnet18"}}}
    network = studyfile.load(write_study(raw)).models["tv"].network
    assert network.options()["version"]
    assert build(network, 3, 7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    raw["models"]["tv"]["network"]["options"] = {"weights": "DEFAULT"}
    with pytest.raises(StudyError, match="options.weights = 'DEFAULT': is not allowed"):
        studyfile.load(write_study(raw))


def test_options_count_as_they_are_given(raw, write_study, beside):
    made = [
        json.dumps(_makers(studyfile.load(write_study(_network(raw, **MINE | change))))["resnet"])
        for change in (
            {},
            {"options": {"hidden": 6}},
            {"builder": "Wide", "options": {"factor": 2}},
        )
    ]
    assert len(set(made)) == 3


def test_a_study_says_one_kind_of_network(raw, write_study):
    for network, said in (
        ({}, "architecture: is missing; or give `torchvision`, or `file` and `builder`"),
        ({"architecture": "vgg_small", "torchvision": "vgg16"}, "torchvision: no such key"),
    ):
        with pytest.raises(StudyError, match=said):
            studyfile.load(write_study(_network(raw, **network)))


def test_networks_of_one_study_lie_in_one_folder(raw, write_study, beside):
    """In two, both could import `helpers`, and one process would give both the same."""
    for folder in ("one", "two"):
        (beside / folder).mkdir()
        (beside / folder / "net.py").write_text(NET)
    raw["models"]["vgg"]["network"] = MINE | {"file": "two/net.py"}
    with pytest.raises(StudyError) as caught:
        studyfile.load(write_study(_network(raw, **MINE | {"file": "one/net.py"})))
    said = "models.vgg.network.file = 'two/net.py': must lie in the same folder as 'one/net.py'"
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    wide = {"file": "one/net.py", "builder": "Wide", "options": {"factor": 3}}
    raw["models"]["vgg"]["network"] = wide
    studyfile.load(write_study(raw))


def test_options_of_a_builder_that_is_made_elsewhere_are_not_judged(raw, write_study, beside):
    (beside / "decorators.py").write_text(  # a name of its own: this process has other tests' too
        "def wide(make):\n    return lambda classes, factor: make(classes, 2 * factor)\n"
    )
    (beside / "decorated.py").write_text(
        "import decorators\nfrom torch import nn\n\n\n@decorators.wide\n"
        "def net(classes, hidden):\n    return nn.Linear(hidden, classes)\n"
    )
    (beside / "every.py").write_text("from decorated import *\n")
    for file in ("decorated.py", "every.py"):
        given = {"file": file, "builder": "net", "options": {"factor": 3}}
        study = studyfile.load(write_study(_network(raw, **given)))
        assert build(study.models["resnet"].network, 1, 10).in_features == 6, file
