"""What each result is made by, in a copy of the package that a test may edit."""

import inspect
import json
import os
import re
import shutil

import forked
import pytest
import yaml
from conftest import CONFIG, ROOT, read_by
from trials import kill

from twophase import figures
from twophase.store import code
from twophase.study import stage, stages, studyfile
from twophase.study.run import runs

SOURCE = ROOT / "src" / "twophase"
FIGURES = {*figures.FIGURES, *figures.PANELS}
# Functions of the user's own, and the sections that name them.
OWN_CODE = """
def apart(base, fork, data):
    return 0


def norms(states, data):
    return None
"""
OWN = {
    "measures": {"apart": {"file": "own.py", "function": "apart"}},
    "stages": {"norms": {"file": "own.py", "function": "norms"}},
}


def made_by():
    """What makes each cell of the matrix, of the study in the working directory: one model, ResNet,
    with SGD on digits.
    """
    study = studyfile.load("mine.yaml")
    (run,) = runs(study)
    results = {
        "data": stages.data_file(study),
        "base state": stages.base_state(run, 4),
        "fork state": stages.fork_state(run, 0, "1", 6),
        "comparison": stages.comparison(run, 0, "1", 6),
        "own measure": stages.own_measure(run, 0, "1", 6),
        "kernel file": stages.kernel_file(run, 4),
        "linearized end": stages.linearized_end(run, 0),
    }
    results |= {table: stages.run_table(run, table) for table in stages.STAGE_OF}
    results |= {f"{t} summary": stages.summary_table(study, t) for t in stages.SUMMARISED}
    cells = {name: result.maker.fingerprint for name, result in results.items()}
    return cells | {name: figures.made_by(study, name) for name in figures.FIGURES | figures.PANELS}


CELLS = f"""
import json
from twophase import figures
from twophase.study import stages, studyfile
from twophase.study.run import runs

{inspect.getsource(made_by)}
print(json.dumps(made_by()))
"""


def results_of(*stage_names, parts=()):
    """The results of stages, by their tables, with the summaries and figures made from them."""
    tables = {table for name in stage_names for table in stages.STAGES[name].tables}
    drawn = {
        name
        for name, figure in (figures.FIGURES | figures.PANELS).items()
        if tables & read_by(figure)
    }
    return {*parts, *tables, *(f"{t} summary" for t in tables & set(stages.SUMMARISED)), *drawn}


TRAINING = results_of("base")
SIZES = results_of("sizes")
CHAOS = results_of("chaos", parts=["comparison"]) | SIZES  # which take its comparisons
MATCHING = results_of("matching")
KERNEL = results_of("kernel", "cone", "across_seeds", parts=["kernel file"])
CONE = results_of("cone")
LINEARIZED = results_of("linearized", parts=["linearized end"])
OWN_MEASURES = results_of("own_measures", parts=["own measure"])
OWN_STAGES = results_of("own_stages")
SUMMARIES = {f"{table} summary" for table in stages.SUMMARISED}
TRAINED = results_of(
    *stages.STAGES, parts=["base state", "fork state", "comparison", "kernel file"]
)
TRAINED |= {"linearized end", "own measure"}
ALL = {"data", *TRAINED}


def copy(folder):
    """A copy of the package, and a study beside it."""
    shutil.copytree(kill.source() / "twophase", folder / "twophase")
    raw = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    raw["models"] = {"resnet": raw["models"]["resnet"]}
    raw |= {"across_seeds": {}} | with_own(folder)
    (folder / "mine.yaml").write_text(yaml.safe_dump(raw))
    return folder


def with_own(folder):
    """The sections of functions of the user's own, which lie in a folder beside the study file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_text(OWN_CODE)
    return OWN


def cells(folder):
    """What makes each result, by the code in a folder and for the study there. Code that says what
    is asked, and how code is read, has to run: in a process of its own. Other code is only read.
    """
    edited = folder / "twophase"
    names = {path.relative_to(root) for root in (SOURCE, edited) for path in root.rglob("*.py")}
    says = [path for path in names if not code.counts(_module(path))]
    if all(_text(edited / path) == _text(SOURCE / path) for path in says):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(code, "SOURCE", edited)
            forget()
            found = made_by()
        forget()
        return found
    return cells_of_process(folder)


def cells_of_process(folder):
    """The same by a process whose code all lies in the folder."""
    alone = {"PYTHONDONTWRITEBYTECODE": "1"}
    run = forked.run(forked.LIGHT, folder, os.environ | alone, "-c", CELLS)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def forget():
    """Have code and studies read again."""
    studyfile.forget()
    of_package = (code._digests_of_package, code._imports_of_package, code._here)
    for function in (*of_package, stage._part_maker):
        function.cache_clear()


def _module(path):
    return ".".join(path.with_suffix("").parts).removesuffix("__init__").rstrip(".")


def _text(path):
    return path.read_bytes() if path.exists() else None


def differing(ours, theirs):
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
