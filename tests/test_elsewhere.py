"""What a file of the user's own imports from elsewhere counts, or is refused."""

import importlib.util
import os
import shutil
import sys
import zipfile

import pytest

from twophase.errors import StudyError
from twophase.store import surroundings
from twophase.store.code import digests
from twophase.study import networks, stages, studyfile
from twophase.study import stage as rows
from twophase.study.beginning import own_files
from twophase.study.run import runs

NET = """
from torch import nn
{}


def net(channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""
BLOCKS = "def body(i):\n    return i\n"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder on Python's path, beside which the study does not lie."""
    folder = tmp_path / "lab"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder in which packages are installed."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(surroundings, "_sites", lambda: (str(folder),))
    yield folder
    for cached in (surroundings._distributions, surroundings._brought, surroundings._said):
        cached.cache_clear()


@pytest.fixture
def made(raw, write_study):
    """A function that writes a network with this import, and says what makes its base run."""
    path = write_study(
        raw | {"models": {"mine": {"network": {"file": "net.py", "builder": "net"}}}}
    )

    def fingerprint(line, name="net.py"):
        (path.parent / name).write_text(NET.format(line))
        for cached in (surroundings._distributions, surroundings._brought, surroundings._said):
            cached.cache_clear()
        rows._part_maker.cache_clear()
        return stages.job_fingerprint("base", runs(studyfile.load(path))[0])

    fingerprint.study = path
    return fingerprint


def _install(folder, package, version, url=""):
    """As pip leaves a package: its code, and what it says of itself."""
    (folder / package).mkdir(exist_ok=True)
    (folder / package / "__init__.py").write_text(BLOCKS)
    for old in folder.glob(f"{package}_dist-*"):
        shutil.rmtree(old)
    said = folder / f"{package}_dist-{version}.dist-info"
    said.mkdir()
    (said / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}-dist\nVersion: {version}\n"
    )
    (said / "RECORD").write_text(f"{package}/__init__.py,,\n{said.name}/METADATA,,\n")
    if url:
        (said / "direct_url.json").write_text(url)


# How a network reaches code on Python's path: the import, and the file that is edited.
WAYS = {
    "a module": ("import labblocks", "labblocks.py"),
    "a name": ("from labblocks import body", "labblocks.py"),
    "a package": ("import labroom.inner", "labroom/inner.py"),
    "its face": ("import labroom.inner", "labroom/__init__.py"),
    "relatively": ("import labroom.inner", "labroom/deep.py"),
    "from above": ("import labroom.hall.door", "labroom/deep.py"),
    "without a face": ("from bare.floor import tile", "bare/floor/tile.py"),
    "all": ("from labroom import *", "labroom/inner.py"),
    "late": ("def late():\n    import labblocks", "labblocks.py"),
    "if it is there": ("try:\n    import labblocks\nexcept ImportError:\n    pass", "labblocks.py"),
}


@pytest.mark.parametrize("way", WAYS)
def test_code_on_the_path_counts_however_it_is_imported(way, lab, made):
    for name, text in {
        "labblocks.py": BLOCKS,
        "labroom/__init__.py": "",
        "labroom/inner.py": "from . import deep\n",
        "labroom/deep.py": "",
        "labroom/hall/__init__.py": "",
        "labroom/hall/door.py": "from ..deep import *\n",
        "bare/floor/tile.py": "",
        "unused.py": "",
    }.items():
        (lab / name).parent.mkdir(parents=True, exist_ok=True)
        (lab / name).write_text(text)
    line, edited = WAYS[way]
    before = made(line)
    for file, text in (("unused.py", "x = 1\n"), (edited, "# Of no effect.\n")):
        (lab / file).open("a").write(text)
        assert made(line) == before
    (lab / edited).open("a").write("x = 1\n")
    assert made(line) != before


def test_what_python_loads_is_what_counts(lab, made, monkeypatch):
    """Beside the study comes first, then the folder of the command, then the path."""
    line, seen = "import labblocks", [made("import labblocks")]  # not there at all: no refusal
    here = lab.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for folder in (lab, here, made.study.parent):
        (folder / "labblocks.py").write_text(f"x = {str(folder)!r}\n")
        seen.append(made(line))
    assert len(set(seen)) == 4
    (lab / "labblocks.py").write_text("x = 2\n")
    assert made(line) == seen[-1]


def test_a_package_counts_by_its_version_and_a_linked_one_by_its_code(packages, made, lab):
    line = "from labkit import body"
    _install(packages, "labkit", "1.0")
    before = made(line)
    (packages / "labkit/__init__.py").write_text(BLOCKS + "x = 1\n")
    assert made(line) == before != made("")
    _install(packages, "labkit", "1.1")
    assert made(line) != before
    # One that is installed from a folder changes without a new version.
    _install(packages, "labkit", "1.1", url='{"dir_info": {}, "url": "file:///lab"}')
    before = made(line)
    (packages / "labkit/__init__.py").write_text(BLOCKS + "x = 1\n")
    assert made(line) != before
    # And one that is a link lies elsewhere.
    shutil.move(packages / "labkit", lab / "labkit")
    before = made(line)
    (lab / "labkit/__init__.py").write_text(BLOCKS + "x = 2\n")
    assert made(line) != before


def test_a_commit_is_part_of_a_version(packages, made):
    seen = set()
    for commit in ("abc", "def"):
        url = f'{{"vcs_info": {{"vcs": "git", "commit_id": "{commit}"}}, "url": "https://lab"}}'
        _install(packages, "labkit", "1.0", url)
        seen.add(made("import labkit"))
    assert len(seen) == 2


def test_packages_that_stand_in_origin_and_python_itself_do_not_count(made):
    made("import torch.nn, numpy as np, json, sys, os.path")
    network = studyfile.load(made.study).models["mine"].network
    named = digests(*networks.code(network))
    assert named.pop("net") != named.pop("networks.own")
    assert not {"torch", "torch.nn", "numpy", "json", "sys", "os", "os.path"} & set(named)
    made("import torchvision")
    assert digests(*networks.code(network))["torchvision"].startswith("torchvision 0.")


def test_a_package_that_a_finder_links_counts(tmp_path, made, monkeypatch):
    file = tmp_path / "src" / "linked.py"
    file.parent.mkdir()
    file.write_text(BLOCKS)

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "linked":
                return importlib.util.spec_from_file_location(name, file)
            return None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    before = made("import linked")
    file.write_text(BLOCKS + "x = 1\n")
    assert made("import linked") != before


def test_what_cannot_be_read_is_refused(tmp_path, made, lab, monkeypatch):
    (lab / "compiled.so").write_bytes(b"\x7fELF\0")
    with pytest.raises(StudyError, match=r"compiled\.so:1: not Python"):
        made("import compiled")
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        archive.writestr("zipped.py", "x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "zipped.zip"))
    with pytest.raises(StudyError, match=r"zipped\.zip/zipped\.py:1: not Python"):
        made("import zipped")
    (lab / "hidden.py").write_text("x = eval('1')\n")
    with pytest.raises(StudyError, match=r"lab/hidden\.py:1: eval runs code"):
        made("import hidden")


@pytest.mark.parametrize(
    "line",
    [
        "import sys; sys.path.append('x')",
        "from sys import path",
        "import site; site.addsitedir('x')",
    ],
)
def test_code_that_changes_where_imports_look_is_refused(line, made):
    with pytest.raises(StudyError, match=r"net\.py:3: s.*\..* decides what is imported"):
        made(line)


READ = (
    "import os; x = os.environ['LAB_DEPTH']",
    "import os; x = os.environ.get('LAB_DEPTH', '3')",
    "import os; x = os.getenv('LAB_DEPTH')",
    "from os import environ; x = 'LAB_DEPTH' in environ",
)


@pytest.mark.parametrize("line", READ)
def test_a_variable_of_the_environment_counts_where_it_is_read(line, made, monkeypatch):
    monkeypatch.delenv("LAB_DEPTH", raising=False)
    seen = [made(line)]
    for value in ("1", "2"):
        monkeypatch.setenv("LAB_DEPTH", value)
        seen.append(made(line))
    assert len(set(seen)) == 3
    monkeypatch.setenv("LAB_OTHER", "1")
    assert made(line) == seen[-1]


def test_a_variable_that_is_only_set_does_not_count(made, monkeypatch):
    line = "import os; os.environ['LAB_DEPTH'] = '1'"
    before = made(line)
    monkeypatch.setenv("LAB_DEPTH", "2")
    assert made(line) == before


@pytest.mark.parametrize(
    "line",
    [
        "import os; x = dict(os.environ)",
        "import os; name = 'X'; x = os.environ[name]",
        "from os import getenv as g; x = g('X')",
    ],
)
def test_an_environment_that_is_read_without_a_name_is_refused(line, made):
    with pytest.raises(StudyError, match=r"net\.py:3: what is read from the environment"):
        made(line)


def test_a_published_study_takes_along_what_lay_elsewhere(lab, made, tmp_path, monkeypatch):
    (lab / "labblocks.py").write_text(BLOCKS)
    (lab / "labroom").mkdir()
    (lab / "labroom/__init__.py").write_text("from labroom.inner import y\n")
    (lab / "labroom/inner.py").write_text("y = 1\n")
    before = made("import labblocks, labroom")
    study = studyfile.load(made.study)
    copies = own_files(study)
    folder = tmp_path / "published"
    for file, place in ({made.study: made.study} | copies).items():
        copy = folder / place.relative_to(made.study.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    shutil.rmtree(lab)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(lab)])
    rows._part_maker.cache_clear()
    study = studyfile.load(folder / made.study.name)
    assert stages.job_fingerprint("base", runs(study)[0]) == before
    assert os.listdir(folder / "labroom")
