"""What makes a result stale, and what does not: by code and by options."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import CONFIG, ROOT

from twophase import figures, stages
from twophase.errors import StudyError
from twophase.store import fingerprint
from twophase.study import Run
from twophase.studyfile import load

SOURCE = ROOT / "src" / "twophase"

# Prints what makes each cell of the matrix, by the code beside it: one model, ResNet, with SGD on
# digits. A process of its own, so that the edited code is what runs.
CELLS = """
import json
from twophase import figures, stages, studyfile
from twophase.study import runs

study = studyfile.load("mine.yaml")
(run,) = runs(study)
results = {
    "data": stages.data_file(study),
    "base state": stages.base_state(run, 4),
    "fork state": stages.fork_state(run, 0, "1", 6),
    "comparison": stages.comparison(run, 0, "1", 6),
    "kernel file": stages.kernel_file(run, 4),
    "linearized end": stages.linearized_end(run, 0),
}
results |= {table: stages.run_table(run, table) for table in stages.STAGE_OF}
results |= {f"{t} summary": stages.summary_table(study, t) for t in stages.SUMMARISED}
cells = {name: result.maker.fingerprint for name, result in results.items()}
print(json.dumps(cells | {name: figures.made_by(study, name) for name in figures.FIGURES}))
"""


def _with(*stage_names, parts=()):
    """The results of stages, by their tables, with the summaries and figures made from them."""
    tables = {table for name in stage_names for table in stages.STAGES[name].tables}
    drawn = {
        name
        for name, figure in figures.FIGURES.items()
        if tables & {*figure.summaries, *figure.also, *figure.first_seed}
    }
    return {*parts, *tables, *(f"{t} summary" for t in tables & set(stages.SUMMARISED)), *drawn}


TRAINING = _with("base")
SIZES = _with("sizes")
CHAOS = _with("chaos", parts=["comparison"]) | SIZES  # which take its comparisons
MATCHING = _with("matching")
KERNEL = _with("kernel", "cone", "across_seeds", parts=["kernel file"])
CONE = _with("cone")
LINEARIZED = _with("linearized", parts=["linearized end"])
FIGURES = set(figures.FIGURES)
SUMMARIES = {f"{table} summary" for table in stages.SUMMARISED}
TRAINED = _with(*stages.STAGES, parts=["base state", "fork state", "comparison", "kernel file"])
TRAINED |= {"linearized end"}
ALL = {"data", *TRAINED}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A copy of the package, and a study beside it."""
    return _copy(tmp_path_factory.mktemp("original"))


@pytest.fixture
def edited(tmp_path):
    """The same, to be edited."""
    return _copy(tmp_path)


def _copy(folder):
    shutil.copytree(SOURCE, folder / "twophase", ignore=shutil.ignore_patterns("__pycache__"))
    raw = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    raw["models"] = {"resnet": raw["models"]["resnet"]}
    raw["across_seeds"] = {}
    (folder / "mine.yaml").write_text(yaml.safe_dump(raw))
    return folder


def _cells(folder):
    run = subprocess.run(
        [sys.executable, "-B", "-c", CELLS], cwd=folder, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def before(original):
    cells = _cells(original)
    assert cells.keys() == ALL
    return cells


def _differing(ours, theirs):
    assert ours.keys() == theirs.keys()
    return {name for name in ours if ours[name] != theirs[name]}


def replace(file, old, new):
    def do(package):
        text = (package / file).read_text()
        assert old in text, (file, old)
        (package / file).write_text(text.replace(old, new, 1))

    return do


def add(file, text="x = 1\n"):
    def do(package):
        assert not (package / file).exists()
        (package / file).parent.mkdir(exist_ok=True)
        (package / file).write_text(text)

    return do


def append(file, text):
    return lambda package: (package / file).open("a").write(text)


def option(file, record):
    """Add an option with a default to a record."""

    def do(package):
        text = (package / file).read_text()
        head, start, body = text.partition(f"class {record}(")
        assert start
        body = re.sub(r"^(?=    [a-z_]+: )", "    novel: bool = False\n", body, count=1, flags=re.M)
        (package / file).write_text(head + start + body)

    return do


def comment_everywhere(package):
    """Other comments, docstrings and empty lines in every module."""
    for file in package.rglob("*.py"):
        text = re.sub(r'^( *)"""(?=\w)', r'\1"""Said otherwise: ', file.read_text(), flags=re.M)
        text = re.sub(r"^( +)return ", r"\1# It ends.\n\n\1return ", text, flags=re.M)
        file.write_text(text + "\n# The end.\n")
    assert "# It ends." in (package / "training.py").read_text()


A_RECORD = 'class Mine(Record):\n    """Mine."""\n\n    {}: Literal["mine"]\n\n\n'
MATRIX = {
    "add a measure": ([add("measures/mine.py")], set()),
    "add a measure that chaos takes": (
        [
            add("measures/mine.py"),
            replace(
                "stages/chaos.py", "import torch\n", "import torch\nimport twophase.measures.mine\n"
            ),
        ],
        CHAOS,
    ),
    "add a network": (
        [
            add("networks/mine.py"),
            replace(
                "networks/__init__.py",
                "Network = Annotated[",
                A_RECORD.format("architecture") + "Network = Annotated[Mine | ",
            ),
        ],
        set(),
    ),
    "edit another network": ([append("networks/vgg.py", "\nx = 1\n")], set()),
    "edit the own network": ([append("networks/resnet.py", "\nx = 1\n")], TRAINED),
    "edit what networks share": ([append("networks/layers.py", "\nx = 1\n")], TRAINED),
    "edit other networks and their options": (
        [
            append(f"networks/{file}.py", "\nx = 1\n")
            for file in ("options", "resnet_variants", "resnet18", "own", "files")
        ],
        set(),
    ),
    "add a data source": (
        [
            add("datasets/mine.py"),
            replace(
                "datasets/__init__.py",
                "Images = Annotated[",
                A_RECORD.format("source") + "Images = Annotated[Mine | ",
            ),
        ],
        set(),
    ),
    "edit another data source": ([append("datasets/folder.py", "\nx = 1\n")], set()),
    "edit the own data source": ([append("datasets/digits.py", "\nx = 1\n")], ALL),
    "add an optimizer": (
        [
            add("optimizers/mine.py"),
            replace(
                "optimizers/__init__.py",
                "Optimizer = Annotated[",
                A_RECORD.format("optimizer").replace("Record", "Training")
                + "Optimizer = Annotated[Mine | ",
            ),
        ],
        set(),
    ),
    "edit another optimizer": ([append("optimizers/adamw.py", "\nx = 1\n")], set()),
    "edit the own optimizer": ([append("optimizers/sgd.py", "\nx = 1\n")], TRAINED),
    "add options with defaults": (
        [
            *(option("sections.py", r) for r in ("Augmentation", "Evaluation", "Perturbation")),
            *(option("sections.py", r) for r in ("Chaos", "Kernel", "Linearized", "Compute")),
            option("networks/__init__.py", "ResNet"),
            option("datasets/__init__.py", "Digits"),
            option("optimizers/__init__.py", "Training"),
        ],
        set(),
    ),
    "edit a figure": ([append("figures/fig3.py", "\nx = 1\n")], {"fig3"}),
    "edit the findings": ([append("figures/findings.py", "\nx = 1\n")], {"findings"}),
    "edit the figures' style": ([append("figures/style.py", "\nx = 1\n")], FIGURES),
    "edit how figures are drawn": ([append("figures/drawing.py", "\nx = 1\n")], FIGURES),
    "edit comments and docstrings": ([comment_everywhere], set()),
    "edit the loop": ([append("training.py", "\nx = 1\n")], TRAINED),
    "edit batches": ([append("batches.py", "\nx = 1\n")], TRAINED),
    "edit the networks' noise": ([append("noise.py", "\nx = 1\n")], TRAINED),
    "edit the machine's settings": ([append("compute.py", "\nx = 1\n")], TRAINED),
    "edit evaluation": (
        [append("evaluation.py", "\nx = 1\n")],
        TRAINING | CHAOS | LINEARIZED | MATCHING,
    ),
    "edit the kernel engine": ([append("entk/__init__.py", "\nx = 1\n")], KERNEL),
    "edit the kernel engine's rules": ([append("entk/layers.py", "\nx = 1\n")], KERNEL),
    "edit the kernel engine's check": ([append("entk/check.py", "\nx = 1\n")], KERNEL),
    "edit the barrier": ([append("measures/barrier.py", "\nx = 1\n")], CHAOS | MATCHING),
    "edit the permutation": ([append("measures/permutation.py", "\nx = 1\n")], MATCHING),
    "edit the kernels' measures": (
        [append("measures/kernel.py", "\nx = 1\n")],
        CONE | _with("trajectory"),
    ),
    "edit the distance of networks": (
        [append("measures/distance.py", "\nx = 1\n")],
        CHAOS | _with("trajectory"),
    ),
    "edit stage data": ([append("stages/data.py", "\nx = 1\n")], ALL),
    "edit the perturbation": (
        [append("perturbation.py", "\nx = 1\n")],
        {"fork state", *CHAOS} | _with("growth", "matching"),
    ),
    "edit stage base": ([append("stages/base.py", "\nx = 1\n")], TRAINING),
    "edit stage fork": ([append("stages/fork.py", "\nx = 1\n")], {"fork state", *CHAOS, *MATCHING}),
    "edit stage chaos": ([append("stages/chaos.py", "\nx = 1\n")], CHAOS),
    "edit stage sizes": ([append("stages/sizes.py", "\nx = 1\n")], SIZES),
    "edit stage kernel": ([append("stages/kernel.py", "\nx = 1\n")], KERNEL),
    "edit stage cone": ([append("stages/cone.py", "\nx = 1\n")], CONE),
    "edit stage across_seeds": (
        [append("stages/across_seeds.py", "\nx = 1\n")],
        _with("across_seeds"),
    ),
    "edit stage trajectory": (
        [append("stages/trajectory.py", "\nx = 1\n")],
        _with("trajectory"),
    ),
    "edit stage curvature": ([append("stages/curvature.py", "\nx = 1\n")], _with("curvature")),
    "edit stage matching": ([append("stages/matching.py", "\nx = 1\n")], MATCHING),
    "edit stage linearized": ([append("stages/linearized.py", "\nx = 1\n")], LINEARIZED),
    "edit stage growth": ([append("stages/growth.py", "\nx = 1\n")], _with("growth")),
    # Figure s1 shows single runs.
    "edit stage summary": (
        [append("stages/summary.py", "\nx = 1\n")],
        SUMMARIES | FIGURES - {"s1"},
    ),
    "edit progress bars and commands": (
        [
            append("progress.py", "\nx = 1\n"),
            append("__main__.py", "\nx = 1\n"),
            append("commands/publish.py", "\nx = 1\n"),
        ],
        set(),
    ),
}


@pytest.mark.parametrize("change", MATRIX)
def test_the_matrix(change, before, edited):
    edits, stale = MATRIX[change]
    for edit in edits:
        edit(edited / "twophase")
    assert _differing(_cells(edited), before) == stale


def test_a_new_option_counts_where_it_is_set(before, edited):
    option("sections.py", "Kernel")(edited / "twophase")
    assert _differing(_cells(edited), before) == set()
    raw = yaml.safe_load((edited / "mine.yaml").read_text())
    raw["kernel"]["novel"] = True
    (edited / "mine.yaml").write_text(yaml.safe_dump(raw))
    assert _differing(_cells(edited), before) == {*KERNEL, "fig2"}  # it shows the section


def _forget():
    cached = (fingerprint._digest, fingerprint.imports, fingerprint._tree, fingerprint._normalised)
    for function in (*cached, stages.places._cached):
        function.cache_clear()


@pytest.fixture
def package(edited, monkeypatch):
    """A copy of the package that fingerprints read."""
    monkeypatch.setattr(fingerprint, "SOURCE", edited / "twophase")
    _forget()
    yield edited / "twophase"
    _forget()


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


def test_a_file_that_a_network_imports_counts_however_it_does(package, before):
    _with_all_ways(package)
    assert _differing(_cells(package.parent), before) == TRAINED
    last = _digest()
    for way, (_, files) in WAYS.items():
        for file in files:
            append(file, "y = 2\n")(package)
            assert _digest() != last, (way, file)
            last = _digest()


def _digest():
    _forget()
    return fingerprint.code_digest("networks.resnet")


def test_python_imports_what_the_fingerprint_follows(package):
    # Python itself is the other opinion: what it loads for a module, and what reading it shows.
    _with_all_ways(package)
    edited = package.parent
    names = [
        ".".join(path.relative_to(edited).with_suffix("").parts) for path in package.rglob("*.py")
    ]
    names = {name.removesuffix(".__init__") for name in names} - {"twophase.__main__"}
    load_each = f"""
import json, sys
import importlib, matplotlib.figure, pandas, pydantic, safetensors.torch, torch, torch.func
loaded = {{}}
for name in {sorted(names)!r}:
    for old in [old for old in sys.modules if (old + ".").startswith("twophase.")]:
        del sys.modules[old]
    importlib.import_module(name)
    loaded[name] = [new for new in sys.modules if new.startswith("twophase.")]
print(json.dumps(loaded))
"""
    run = subprocess.run(
        [sys.executable, "-B", "-c", load_each], cwd=edited, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    for name, modules in json.loads(run.stdout).items():
        own = name.removeprefix("twophase").removeprefix(".")
        if own not in fingerprint.NEUTRAL:
            theirs = {module.removeprefix("twophase.") for module in modules}
            ours = fingerprint.closure(own) | fingerprint.NEUTRAL
            # A folder without `__init__.py` runs no code.
            assert theirs - ours <= {"networks.bare"}, name
            assert ours - theirs - fingerprint.NEUTRAL <= {"networks.late"}, name


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
        fingerprint.code_digest("networks.resnet")
    assert str(caught.value).startswith(f"{file}:{last}: ")
    assert "\n" not in str(caught.value)


def test_what_only_looks_like_hidden_code_is_not_refused(package):
    append("networks/resnet.py", "import re; re.compile('x'); x = ResNet.eval; x.eval()\n")(package)
    fingerprint.code_digest("networks.resnet")


def test_code_cannot_hide_behind_a_module_that_does_not_count(package):
    # A network could read it from there, and its edits would not be seen.
    replace(
        "networks/__init__.py", "import importlib\n", "import importlib\nfrom .vgg import VGG\n"
    )(package)
    line = (package / "networks/__init__.py").read_text().splitlines().index("from .vgg import VGG")
    expected = f"{package}/networks/__init__.py:{line + 1}: imports twophase.networks.vgg, whose"
    with pytest.raises(StudyError, match=f"^{re.escape(expected)}"):
        fingerprint.code_digest("networks.resnet")


def test_every_import_of_the_package_resolves():
    # Raises where one does not, or where code that counts runs what reading does not show.
    for path in SOURCE.rglob("*.py"):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if module != "__main__":
            fingerprint.imports(re.sub(r"\.?__init__$", "", module))
    assert all(fingerprint._file(module).exists() for module in fingerprint.NEUTRAL)


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
    assert fingerprint.code_digest("mine") == (
        "d8e48c139a3a846bba5d6bf3551f6482c4c514248dbf393c6ef180f0736ea193"
    )


# Options.


def _paths(study):
    run = Run(study, "vgg", 0)
    results = {
        "data": stages.data_file(study),
        "base": stages.base_state(run, 4),
        "fork": stages.fork_state(run, 0, "1", 6),
        "perturbation": stages.perturbation(run, 0, "1"),
        "comparison": stages.comparison(run, 0, "1", 6),
        "kernel file": stages.kernel_file(run, 4),
        "linearized end": stages.linearized_end(run, 0),
    }
    results |= {table: stages.run_table(run, table) for table in stages.STAGE_OF}
    return {name: result.path for name, result in results.items()}


KERNELS = {"kernel file", "kernel", "across_seeds", *stages.STAGES["cone"].tables}
LINEAR = {"linearized end", "linearized"}
COMPARED = {"comparison", "chaos", "barrier_path", "sizes"}
RUN = {"base", "fork", "perturbation", "comparison", "kernel file", "linearized end"}
RUN |= set(stages.STAGE_OF)
# What holds a row for each checkpoint.
POINTS = {"training", "trajectory"}


@pytest.mark.parametrize(
    ("section", "option", "value", "stale"),
    [
        ("training", "lr", 0.03, RUN),
        ("compute", "threads", 2, RUN),
        ("evaluation", "test_examples", 50, {"training", "matching", *COMPARED, *LINEAR}),
        # A longer run begins with the shorter one, but its linearised runs end elsewhere.
        ("training", "iterations", 16, {*POINTS, *LINEAR}),
        (
            "chaos",
            "perturbation",
            {"kind": "l2", "size": 1e-7},
            {"fork", "perturbation", "matching", *COMPARED},
        ),
        # More of the same: what is there is kept, and only the tables are written again.
        ("chaos", "compare", [6, 8, 12], {"chaos", "barrier_path"}),
        ("sizes", "values", [1e-3, 1e-2], {"sizes"}),
        ("chaos", "forks", [0, 4, 5], {*POINTS, "chaos", "barrier_path", "matching"}),
        ("chaos", "directions", 3, {"chaos", "barrier_path", "matching", "sizes"}),
        ("chaos", "barrier_points", 7, {*COMPARED, "matching"}),
        ("chaos", "barrier_threshold", 0.2, set()),
        ("kernel", "examples_per_class", 2, KERNELS),
        ("kernel", "every", 2, {*POINTS, *KERNELS - {"kernel file"}}),
        ("kernel", "references", [8], set()),
        ("matching", "compare", [6], {"matching"}),
        ("linearized", "switches", [0, 5], {*POINTS, "linearized"}),
    ],
)
def test_an_option_makes_stale_what_depends_on_it_and_no_more(
    section, option, value, stale, raw, write_study
):
    before = _paths(load(write_study(raw)))
    raw[section][option] = value
    assert _differing(_paths(load(write_study(raw))), before) == stale


def test_an_option_of_the_data_makes_all_stale(raw, write_study):
    before = _paths(load(write_study(raw)))
    raw["data"]["images"]["test_examples"] = 300
    assert _differing(_paths(load(write_study(raw))), before) == {"data", *RUN}


def test_another_model_is_left_alone(raw, write_study):
    def of(study):
        return {name: stages.run_table(Run(study, "resnet", 0), name) for name in stages.STAGE_OF}

    before, summaries = of(load(write_study(raw))), stages.summary_table
    whole = summaries(load(write_study(raw)), "chaos").path
    raw["models"]["vgg"]["training"] = {"lr": 0.5}
    after = load(write_study(raw))
    assert of(after) == before
    assert summaries(after, "chaos").path != whole
