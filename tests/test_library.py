"""The package as a library: tables, public functions, the schema of study files, the command."""

import doctest
import gc
import importlib
import inspect
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import jsonschema
import pandas as pd
import pytest
import yaml
from conftest import CONFIG, ENVIRONMENT, ROOT, edit

import twophase
from twophase import __main__, measures
from twophase.commands.schema import schema
from twophase.errors import ArtifactError, RunError, StudyError
from twophase.study import studyfile
from twophase.study.run import runs

MEASURES = [
    f"measures.{module.name}"
    for module in pkgutil.iter_modules(measures.__path__)
    if not module.name.startswith("_")
]
# Of other modules only what docs/library.md names.
PUBLIC = {
    "entk": "entk",
    "training.perturbation": "perturb",
    "training.batches": "batch",
}
# And what the package itself gives.
TOP = {place.partition(":")[0] for place in twophase.PUBLIC.values()}


def _public(name):
    """The public functions of a module."""
    module = importlib.import_module(f"twophase.{name}")
    if name in PUBLIC:
        return [getattr(module, PUBLIC[name])]
    if name in TOP:
        return [
            getattr(twophase, n) for n, p in twophase.PUBLIC.items() if p.startswith(f"{name}:")
        ]
    functions = [
        f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__name__[0] != "_"
    ]
    return [f for f in functions if f.__module__ == module.__name__]


@pytest.fixture
def with_states(in_trained):
    """A working directory with the published tables, and what base runs, forks and kernels of the
    smoke study left.
    """
    from twophase.stages.kernel import kernel

    for name in ("workflow", "paper"):
        (in_trained / name).symlink_to(ROOT / name)
    for run in runs(studyfile.load(CONFIG / "smoke.yaml")):
        kernel(run)
    return in_trained


@pytest.mark.parametrize("name", sorted({*MEASURES, *PUBLIC, *TOP}))
def test_examples_of_public_functions_are_true(name, with_states, one_thread):
    import torch

    torch.manual_seed(0)
    functions = _public(name)
    assert functions
    for function in functions:
        assert ">>>" in function.__doc__, function
        assert {*inspect.signature(function).parameters, "return"} == {*function.__annotations__}
    assert doctest.testmod(importlib.import_module(f"twophase.{name}")).failed == 0


def test_the_page_on_the_library_is_true(with_states, one_thread):
    page = ROOT / "docs/library.md"
    flags = doctest.NORMALIZE_WHITESPACE
    assert doctest.testfile(str(page), module_relative=False, optionflags=flags).failed == 0
    imports = re.findall(r"`from twophase\.([\w.]+) import ([\w, ]+)`", page.read_text())
    for module, names in imports:
        for name in names.split(", "):
            assert getattr(importlib.import_module(f"twophase.{module}"), name) in _public(module)
    assert {module for module, _ in imports} == {*MEASURES, *PUBLIC}
    assert all(f"twophase.{name}(" in page.read_text() for name in twophase.PUBLIC)


def test_the_page_on_the_tangent_kernel_is_true(one_thread):
    flags = doctest.NORMALIZE_WHITESPACE
    page = str(ROOT / "docs/entk.md")
    found = doctest.testfile(page, module_relative=False, optionflags=flags)
    assert (found.failed, found.attempted) == (0, 11)
    from twophase.entk import action

    assert doctest.testmod(action).failed == 0


def _loaded(code):
    """The packages that a new Python has imported after some code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules}, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return {*run.stdout.splitlines()}


def test_what_needs_no_heavy_package_imports_none():
    assert not _loaded("import twophase") & {"torch", "numpy", "pandas", "pydantic", "yaml"}
    say_help = "from twophase.__main__ import parser\nparser().format_help()"
    assert not _loaded(say_help) & {"torch", "numpy", "pandas", "pyarrow", "matplotlib"}


def test_garbage_is_searched_for_again_when_imports_end():
    with pytest.raises(ModuleNotFoundError):
        __main__._function("commands.nowhere:nothing")
    assert gc.isenabled()


def test_load_gives_the_tables_of_all_runs(finished):
    chaos = twophase.load("smoke", "chaos", root=finished)
    files = [
        next(finished.glob(f"results/smoke/{model}/seed0/chaos-*.parquet"))
        for model in ("vgg", "resnet")
    ]
    pd.testing.assert_frame_equal(chaos, pd.concat(map(pd.read_parquet, files), ignore_index=True))
    summary = twophase.load("smoke", "chaos_summary", root=finished)
    mean = chaos[(chaos.model == "vgg") & (chaos.t1 == 12) & (chaos.t0 == 4)]
    mean = mean[mean.direction != "control"].dissimilarity.mean()
    row = summary[(summary.model == "vgg") & (summary.t1 == 12) & (summary.t0 == 4)]
    row = row[(row.direction == "perturbed") & (row.measure == "dissimilarity")]
    assert row["mean"].item() == pytest.approx(mean)


def test_load_refuses_what_is_stale_missing_damaged_or_unknown(finished, tmp_path):
    (tmp_path / "workflow/config").mkdir(parents=True)
    file = tmp_path / "workflow/config/smoke.yaml"
    shutil.copyfile(finished / "workflow/config/smoke.yaml", file)
    (tmp_path / "results").symlink_to(finished / "results")
    assert len(twophase.load("smoke", "training", root=tmp_path)) > 0

    edit(file, "barrier_points: 5", "barrier_points: 6")
    assert len(twophase.load("smoke", "training", root=tmp_path)) > 0  # not of these options
    for table in ("chaos", "chaos_summary"):
        wanted = rf"{table}-\w+\.parquet: is missing: .* `snakemake --cores all figures/smoke/all`"
        with pytest.raises(RunError, match=wanted) as caught:
            twophase.load("smoke", table, root=tmp_path)
        assert "published" not in str(caught.value)
    with pytest.raises(StudyError, match=r"smoke: has no table 'choas'; must be one of training,"):
        twophase.load("smoke", "choas", root=tmp_path)
    with pytest.raises(StudyError, match=r"mine\.yaml: cannot be read.*; studies there: smoke$"):
        twophase.load("mine", "chaos", root=tmp_path)

    # In one process: a file of the user's own that has changed since, though the study's has not.
    network = file.with_name("net.py")
    network.write_text("from twophase.networks.vgg import vgg_small as net\n")
    edit(file, "{architecture: vgg_small}", "{file: net.py, builder: net}")
    names = []
    for line in ("", "another = 1\n"):
        network.write_text(network.read_text() + line)
        with pytest.raises(RunError, match="is missing") as caught:
            twophase.load("smoke", "training", root=tmp_path)
        names.append(str(caught.value).split(":")[0])
    assert names[0] != names[1]
    edit(file, "{file: net.py, builder: net}", "{architecture: vgg_small}")

    # Another table of the same run under the right name.
    (tmp_path / "results").unlink()
    shutil.copytree(finished / "results/smoke/vgg/seed0", tmp_path / "results/smoke/vgg/seed0")
    shutil.copytree(
        finished / "results/smoke/resnet/seed0", tmp_path / "results/smoke/resnet/seed0"
    )
    edit(file, "barrier_points: 6", "barrier_points: 5")
    folder = tmp_path / "results/smoke/vgg/seed0"
    shutil.copyfile(next(folder.glob("chaos-*.parquet")), next(folder.glob("matching-*.parquet")))
    with pytest.raises(ArtifactError, match="is not the file asked for"):
        twophase.load("smoke", "matching", root=tmp_path)


def test_load_asks_for_no_other_runs_than_it_is_asked_for(finished, tmp_path):
    (tmp_path / "workflow/config").mkdir(parents=True)
    shutil.copy(finished / "workflow/config/smoke.yaml", tmp_path / "workflow/config")
    shutil.copytree(finished / "results/smoke/vgg/seed0", tmp_path / "results/smoke/vgg/seed0")
    table = twophase.load("smoke", "chaos", model="vgg", seed=0, root=tmp_path)
    whole = twophase.load("smoke", "chaos", root=finished)
    pd.testing.assert_frame_equal(table, whole[whole.model == "vgg"].reset_index(drop=True))
    with pytest.raises(RunError, match=r"resnet.* is missing.*; some runs have it: ask for them"):
        twophase.load("smoke", "chaos", root=tmp_path)
    for asked, said in (
        ({"model": "vgg", "seed": 1}, "smoke: seed = 1: must be one of 0"),
        ({"model": "vgq"}, "smoke: model = 'vgq': must be one of vgg, resnet"),
        ({"table": "chaos_summary", "seed": 0}, "smoke: chaos_summary is of all runs; leave"),
    ):
        with pytest.raises(StudyError, match=said):
            twophase.load("smoke", **{"table": "chaos"} | asked, root=tmp_path)


def test_load_gives_what_is_published(tmp_path, monkeypatch):
    folder = tmp_path / "paper/measurements/smoke"
    shutil.copytree(ROOT / "tests/published/smoke", folder)
    monkeypatch.chdir(tmp_path)
    chaos = twophase.load("smoke", "chaos", published=True)
    files = [folder / f"{model}/seed0/chaos.parquet" for model in ("vgg", "resnet")]
    pd.testing.assert_frame_equal(chaos, pd.concat(map(pd.read_parquet, files), ignore_index=True))
    # Published by a version that did not have it.
    with pytest.raises(ArtifactError, match=r"cone\.parquet: is missing: the study was published"):
        twophase.load("smoke", "cone", published=True)
    with pytest.raises(StudyError, match="digits: holds no measurements; published are: smoke"):
        twophase.load("digits", "chaos", published=True)
    shutil.copytree(CONFIG, tmp_path / "workflow/config")
    with pytest.raises(RunError, match="or load what is published, with `published=True`"):
        twophase.load("smoke", "chaos")


@pytest.fixture(scope="module")
def mistakes():
    """What an editor finds in the text of a study file, by our schema."""
    found = json.loads(json.dumps(schema()))
    jsonschema.Draft202012Validator.check_schema(found)
    validator = jsonschema.Draft202012Validator(found)

    class Editor(yaml.SafeLoader):
        """YAML 1.2, in which 1e-7 is a number."""

    number = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+$")
    Editor.add_implicit_resolver("tag:yaml.org,2002:float", number, list("+-.0123456789"))

    def mistakes(text):
        return [error.message for error in validator.iter_errors(yaml.load(text, Editor))]

    return mistakes


def test_the_schema_takes_every_study_file(mistakes):
    files = [file for file in CONFIG.glob("*.yaml") if file.stem != "config"]
    files += (ROOT / "paper/measurements").glob("*/*.yaml")
    assert len(files) > 10
    for file in files:
        assert mistakes(file.read_text()) == [], file


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    network: {architecture: vgg_small}", "    network: {torchvision: resnet18}"),
        ("{architecture: vgg_small}", "{file: my.py, builder: small, options: {hidden: [3, a]}}"),
        ("{architecture: vgg_small}", '{builder: "my.nets:small"}'),
        ("{architecture: vgg_small}", "{architecture: mlp, widths: [3]}"),
        ("control: [0]}", "perturbation: {size: 1e-3}}\n    matching: false"),
        ("control: [0]}", "control: [0]}\n    training: {lr: 0.1}"),
        ("  momentum: 0.9", "  optimizer: adamw\n  eps: 1e-9"),
        ("  momentum: 0.9", "  optimizer: adam\n  schedule: {kind: cosine, warmup: 5}"),
        ("  lr_drops: [8]", "  nesterov: true"),
        (
            "{source: digits, test_examples: 200}",
            "{source: function, file: my.py, function: f, options: {n: 3}, channels: 1, "
            "image_size: 8}\n  statistics: {mean: [0.5], std: [0.2]}",
        ),
        ("\nmatching: {}", "\n"),
        ("seeds: [0]", "seeds: [0]\nsweep: {training.lr: [1e-3, 0.1], chaos.control: [[], [0]]}"),
    ],
)
def test_the_schema_takes_what_a_study_may_say(mistakes, old, new):
    text = (CONFIG / "smoke.yaml").read_text()
    assert old in text
    assert mistakes(text.replace(old, new, 1)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("barrier_points: 5", "barier_points: 5"),
        ("barrier_points: 5", "barrier_points: 2"),
        ("lr: 0.02", "lr: 0"),
        ("lr: 0.02", "lr: high"),
        ("kind: std", "kind: l3"),
        ("  lr_drops: [8]", "  schedule: {kind: cosinus}"),
        ("  lr_drops: [8]", "  schedule:"),
        ("flip: true", "cutout: -1, flip: true"),
        ("\nchaos:", "\nchoas:"),
        ("\nmatching: {}", "\nmatching:"),
        ("title: Smoke", "name: smoke\ntitle: Smoke"),
        ("{architecture: vgg_small}", "{architecture: vgg_smal}"),
        ("{architecture: vgg_small}", "{architecture: mlp, image_size: 8}"),
        ("{architecture: vgg_small}", "{file: my.py}"),
        ("control: [0]}", "control: [0]}\n    training: false"),
        ("seeds: [0]", "seeds: []"),
        ("seeds: [0]", "seeds: [0]\nsweep: {lr: [0.1]}"),
        ("seeds: [0]", "seeds: [0]\nsweep: {training.lr: []}"),
        ("  vgg:", "  v g g:"),
    ],
)
def test_the_schema_finds_mistakes(mistakes, old, new):
    text = (CONFIG / "smoke.yaml").read_text()
    assert old in text
    assert len(mistakes(text.replace(old, new, 1))) == 1


def test_the_schema_says_what_a_section_is():
    chaos = schema()["$defs"]["Chaos"]
    assert chaos["description"].startswith("Forks at every t0 of `forks`, compared with the base")


def test_a_wheel_holds_the_package_and_works_where_no_checkout_is(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    source = tmp_path / "src/twophase"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src/twophase", source, ignore=ignored)
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")

    def files(folder):
        return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}

    assert files(tmp_path / "installed/twophase") == files(source) > {"py.typed"}

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["twophase"].partition(":")
    (tmp_path / "empty").mkdir()

    def command(*arguments):
        code = f"import sys; from {module} import {function}; sys.exit({function}())"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path / "empty",
            env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path / "installed")},
            capture_output=True,
            text=True,
        )

    shown = command("--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: twophase ")
    refused = command("check", "workflow/config/smoke.yaml")
    assert refused.returncode == 1
    assert refused.stderr == (
        "workflow/config/smoke.yaml: cannot be read: No such file or directory; a study lies in "
        "workflow/config of a checkout, where the command must run\n"
    )


def test_the_example_parts_early_and_not_late():
    file = ROOT / "examples/butterfly.py"
    run = subprocess.run(
        [sys.executable, file],
        cwd=ROOT,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    said = re.findall(r"at (\d+): barrier ([\d.]+) nats, kernel distance ([\d.]+)", run.stdout)
    (t0, early, far), (t1, late, near) = said
    assert (t0, t1) == ("0", "300"), run.stderr
    assert float(early) > 0.1 > 0.01 > float(late)  # the study's threshold; findings say how often
    assert float(far) > float(near) > 0
    code = file.read_text().split("def apart")[1].split("\n\n\n")[0]
    assert f"```python\ndef apart{code}\n```" in (ROOT / "docs/library.md").read_text()
