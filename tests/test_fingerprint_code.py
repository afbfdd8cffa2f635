"""Which code counts for a fingerprint, and what code is refused."""

import gzip
import json
import os
import re

import forked
import pytest
from staleness import SOURCE, TRAINED, add, append, cells, differing, forget, replace

from twophase.errors import StudyError
from twophase.store import code, texts


@pytest.fixture
def package(edited, monkeypatch):
    """A copy of the package that fingerprints read."""
    monkeypatch.setattr(code, "SOURCE", edited / "twophase")
    forget()
    yield edited / "twophase"
    forget()


# Ways in which a network brings in other files: the statement, and the files that it reads.
WAYS = {
    "relative": ("from .blocks import x", {"networks/blocks.py": "x = 1\n"}),
    "a module": ("from . import other", {"networks/other.py": "x = 1\n"}),
    "from the room above": ("from ..helpers import x", {"helpers.py": "x = 1\n"}),
    "by its full name": ("import twophase.networks.full", {"networks/full.py": "x = 1\n"}),
    "in a function": (
        "def late():\n    from .late import x\n\n    return x",
        {"networks/late.py": "x = 1\n"},
    ),
    "through an __init__": (
        "from .room import x",
        {
            "networks/room/inner.py": "x = 1\n",
            "networks/room/__init__.py": "from .inner import x\n",
        },
    ),
    "beside an __init__": (
        "from .hall.door import x",
        {"networks/hall/__init__.py": "y = 1\n", "networks/hall/door.py": "x = 1\n"},
    ),
    "all that __all__ names": (
        "from .sky import *",
        {"networks/sky/sun.py": "x = 1\n", "networks/sky/__init__.py": '__all__ = ["sun"]\n'},
    ),
    "without an __init__": ("from .bare.floor import x", {"networks/bare/floor.py": "x = 1\n"}),
}


def _with_all_ways(package):
    for statement, files in WAYS.values():
        append("networks/resnet.py", f"\n\n{statement}\n")(package)
        for file, text in files.items():
            add(file, text)(package)


def test_a_file_that_a_network_imports_counts_however_it_does(package, unedited):
    _with_all_ways(package)
    assert differing(cells(package.parent), unedited) == TRAINED
    last = _digest()
    for way, (_, files) in WAYS.items():
        for file in files:
            append(file, "y = 2\n")(package)
            assert _digest() != last, (way, file)
            last = _digest()


def _digest():
    forget()
    return code.code_digest("networks.resnet")


# What draws and what judges is imported where it is used, so that whoever lists jobs starts fast:
# by whom, and what, with all that Python loads for it.
LATE = {
    "figures.drawing": ["figures.pictures"],
    "writeup.page": ["writeup.claims", "writeup.sources", "writeup.standing"],
}


def test_python_imports_what_the_fingerprint_follows(package):
    # Python itself is the other opinion: what it loads for a module, and what reading it shows.
    _with_all_ways(package)
    edited = package.parent
    names = [
        ".".join(path.relative_to(edited).with_suffix("").parts) for path in package.rglob("*.py")
    ]
    names = {name.removesuffix(".__init__") for name in names} - {"twophase.__main__"}
    counted = {name for name in names if code.counts(name.removeprefix("twophase").strip("."))}
    # What does not count is loaded first, stays, and brings in nothing that does.
    load_each = f"""
import json, sys
import importlib, matplotlib.figure, pandas, pydantic, safetensors.torch, torch, torch.func
def ours():
    return [name for name in sys.modules if name.startswith("twophase.")]
for name in {sorted(names - counted)!r}:
    importlib.import_module(name)
loaded = {{"the others": ours()}}
for name in {sorted(counted)!r}:
    for old in [old for old in ours() if old not in loaded["the others"]]:
        del sys.modules[old]
        parent, _, leaf = old.rpartition(".")
        if parent in sys.modules:
            vars(sys.modules[parent]).pop(leaf, None)
    importlib.import_module(name)
    loaded[name] = ours()
print(json.dumps(loaded))
"""
    alone = {"PYTHONDONTWRITEBYTECODE": "1"}
    run = forked.run(forked.HEAVY, edited, os.environ | alone, "-c", load_each)
    assert run.returncode == 0, run.stderr
    loaded = json.loads(run.stdout)
    assert not counted & {*loaded.pop("the others")}
    assert loaded.keys() == counted
    for name, modules in loaded.items():
        own = name.removeprefix("twophase.")
        theirs = {module.removeprefix("twophase.") for module in modules}
        theirs = {module for module in theirs if code.counts(module)}
        ours = code.closure(own)
        # A folder without `__init__.py` runs no code.
        assert theirs - ours <= {"networks.bare"}, name
        late = {m for by in LATE.keys() & ours for m in LATE[by]}
        late = {m.removeprefix("twophase.") for each in late for m in loaded[f"twophase.{each}"]}
        excess = {m for m in ours - theirs - late if not m.startswith("figures.")}
        assert excess <= {"networks.late"}, name


@pytest.mark.parametrize(
    "line",
    [
        "import importlib; importlib.import_module('twophase.networks.' + input())",
        "from importlib import import_module as load",
        "from importlib.util import spec_from_file_location",
        "import runpy; runpy.run_path('x.py')",
        "__import__('twophase.batches')",
        "import builtins; builtins.__import__('x')",
        "from builtins import exec as run",
        "exec('x = 1')",
        "x = eval('1')",
        "from twophase.networks import mine, nothing; from twophase.nowhere import x",
        "import twophase.nowhere",
        "from .nowhere import x",
        "from ... import x",
        "x = 1 +",
    ],
)
def test_code_that_cannot_be_followed_is_refused_with_its_place(line, package):
    file = package / "networks" / "resnet.py"
    last = len(file.read_text().splitlines()) + 1
    append("networks/resnet.py", f"{line}\n")(package)
    with pytest.raises(StudyError) as caught:
        code.code_digest("networks.resnet")
    assert str(caught.value).startswith(f"{file}:{last}: ")
    assert "\n" not in str(caught.value)


def test_what_only_looks_like_hidden_code_is_not_refused(package):
    append("networks/resnet.py", "import re; re.compile('x'); x = ResNet.eval; x.eval()\n")(package)
    code.code_digest("networks.resnet")


def test_code_cannot_hide_behind_a_module_that_does_not_count(package):
    # A network could read it from there, and its edits would not be seen.
    replace(
        "study/networks.py",
        "import importlib\n",
        "import importlib\nfrom twophase.networks.vgg import VGG\n",
    )(package)
    text = (package / "study/networks.py").read_text()
    line = text.splitlines().index("from twophase.networks.vgg import VGG")
    expected = f"{package}/study/networks.py:{line + 1}: imports twophase.networks.vgg, whose"
    with pytest.raises(StudyError, match=f"^{re.escape(expected)}"):
        code.code_digest("networks.own")


def test_every_import_of_the_package_resolves():
    # Raises where one does not, or where code that counts runs what reading does not show.
    for path in SOURCE.rglob("*.py"):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if module != "__main__":
            code.imports(re.sub(r"\.?__init__$", "", module))
    neutral = code.NEUTRAL_ROOMS | code.NEUTRAL
    assert all(code.exists(room) for room in neutral)


def test_a_digest_is_the_same_in_every_version_of_python(package):
    # Python 3.12 writes f-strings in another way than 3.11, and has new fields in its trees.
    lines = [
        '"""Of no effect."""',
        "class A: ...",
        "async def f(a, /, b=1, *c: int, d=None, **e):",
        "    'Of no effect.'",
        """    x = f"{a['b']!r:>{d}} it's \\"{{{b=}\\"" + u"u" + b"".decode() * 1_0 ** 2j""",
        "    match a:",
        """        case {"k": [A(), *_]} | None if (y := x):""",
        "            return lambda: ...",
        "    for _ in (): pass",
        "    else: del x",
    ]
    text = "\n".join(lines)
    add("mine.py", text)(package)
    assert code.code_digest("mine") == (
        "280cd7b77e52ae1550410eaaa1046e6a1ba098f2e5572340c24363250a0fb5b6"
    )


def test_code_is_read_once_and_again_when_its_text_is_another(package, monkeypatch, tmp_path):
    memory = tmp_path / "memory/texts.json.gz"
    monkeypatch.setattr(texts, "MEMORY", memory)

    def told():
        """As another process finds it."""
        forget()
        texts._known.cache_clear()
        return code.code_digest("networks.resnet")

    def read(file, text):
        raise AssertionError(f"{file} is read twice")

    first = told()
    with monkeypatch.context() as patch:
        patch.setattr(texts, "_tree", read)
        assert told() == first
        append("networks/resnet.py", "x = 1\n")(package)
        with pytest.raises(AssertionError, match="resnet.py is read twice"):
            told()
    edited = told()
    assert edited != first

    # What other code remembered, or is no memory, is not believed.
    def kept():
        return json.loads(gzip.decompress(memory.read_bytes()))[1]

    whole, known = memory.read_bytes(), kept()
    wrong = {text: [64 * "0", []] for text in known}
    for content in ("", "{}", "null", "[1, 2]", json.dumps(["another", wrong])):
        memory.write_bytes(gzip.compress(content.encode()))
        assert told() == edited
    for content in (b"", b"no archive", whole[:-20], whole[:99] + b"?" + whole[100:]):
        memory.write_bytes(content)
        assert told() == edited
    # Nor is it needed.
    memory.unlink()
    memory.parent.rmdir()
    memory.parent.write_text("no folder")
    assert told() == edited
    # Of many texts only those of one process stay.
    memory.parent.unlink()
    assert told() == edited
    size = len(kept())
    monkeypatch.setattr(texts, "MANY", size)
    append("networks/resnet.py", "y = 1\n")(package)
    assert told() not in (first, edited)
    assert len(kept()) == size
