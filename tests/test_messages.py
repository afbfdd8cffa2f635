"""Places, names and targets that people try: right, or one line that says what to do instead."""

import os
import re
import subprocess
import sys

import forked
import numpy as np
import pytest
import yaml
from conftest import CONFIG, ROOT, snakemake
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from trials.kill import ENVIRONMENT

from twophase import __main__
from twophase.errors import ArtifactError, StudyError
from twophase.figures import names, panels, style
from twophase.stages.chaos import chaos
from twophase.store.artifacts import read_table
from twophase.study import stages
from twophase.study.run import Run
from twophase.study.studyfile import load


def says(capsys, monkeypatch, *words):
    """Status and message of a command, which must be one line."""
    monkeypatch.setattr(sys, "argv", ["twophase", *map(str, words)])
    status = __main__.main()
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return status, message


@pytest.mark.parametrize(
    "command",
    ["data", "base --model vgg --seed 0", "publish", "figure --figure fig3 --folder figures/smoke"],
)
def test_a_command_in_another_folder_says_so_and_leaves_nothing(
    command, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    name, *options = command.split()
    status, message = says(capsys, monkeypatch, name, CONFIG / "smoke.yaml", *options)
    assert status == 1
    assert "must be workflow/config/smoke.yaml in the folder that the command runs in" in message
    assert str(tmp_path) in message
    assert list(tmp_path.iterdir()) == []


def test_a_study_outside_its_folder_is_told_where_it_must_lie(
    raw, write_study, in_tmp, capsys, monkeypatch
):
    write_study(raw)
    outside = in_tmp / "theirs.yaml"
    outside.write_text((CONFIG / "smoke.yaml").read_text())
    status, message = says(capsys, monkeypatch, "data", outside)
    assert status == 1
    assert "theirs.yaml: must be workflow/config/theirs.yaml" in message
    # A link in the right place will do.
    (in_tmp / "workflow/config/theirs.yaml").symlink_to(outside)
    monkeypatch.setattr(sys, "argv", ["twophase", "data", str(outside)])
    assert __main__.main() == 0


def test_the_code_of_another_checkout_is_not_run(raw, write_study, in_tmp, capsys, monkeypatch):
    (in_tmp / "src/twophase").mkdir(parents=True)
    status, message = says(capsys, monkeypatch, "data", write_study(raw))
    assert status == 1
    assert f"{ROOT / 'src/twophase'}: this code runs, not src/twophase of this folder" in message


def test_a_study_that_is_not_there_is_told_with_those_that_are(
    raw, write_study, in_tmp, capsys, monkeypatch
):
    write_study(raw, "CIFAR100")
    write_study(raw, "v2.1")
    write_study({"studies": []}, "config")
    _, message = says(capsys, monkeypatch, "data", "workflow/config/mine.yaml")
    assert "mine.yaml: cannot be read: No such file" in message
    assert message.endswith("studies there: CIFAR100, v2.1\n")


def test_what_is_missing_is_told_with_what_makes_it(smoke, in_tmp):
    run = Run(smoke, "vgg", 0)
    file = "workflow/config/smoke.yaml"
    with pytest.raises(ArtifactError, match=rf"data-.*: is missing; `twophase data {file}` makes"):
        chaos(run)
    for result, command in (
        (stages.base_state(run, 4), "base"),
        (stages.fork_state(run, 0, "1", 6), "fork"),
        (stages.run_table(run, "barrier_path"), "chaos"),
        (stages.run_table(run, "kernel_distance"), "cone"),
        (stages.summary_table(smoke, "chaos"), "summary --table chaos"),
    ):
        with pytest.raises(ArtifactError) as caught:
            read_table(result)
        said = f"{result.path}: is missing; `twophase {command} {file}` makes it"
        assert said in str(caught.value)


def test_provenance_of_what_is_no_result_says_so_and_no_more(in_tmp, capsys, monkeypatch):
    (in_tmp / "mine.yaml").write_text("title: mine")
    for file, expected in (("mine.yaml", "is no result or figure"), ("x.parquet", "is missing")):
        assert says(capsys, monkeypatch, "provenance", file) == (1, f"{file}: {expected}\n")
    (in_tmp / "cut.md").write_text("made by 01234567 on {machine}")
    said = "cut.md: does not say what made it; delete it and draw it again\n"
    assert says(capsys, monkeypatch, "provenance", "cut.md") == (1, said)


@pytest.mark.parametrize("name", ["CIFAR100", "v2.1", "2024", "a_b-c", "X"])
def test_names_that_paths_can_hold_are_names(name, raw, write_study):
    raw["models"] = {name: raw["models"]["resnet"], "images": raw["models"]["vgg"]}
    study = load(write_study(raw, name))
    assert study.name == name
    assert set(study.models) == {name, "images"}


@pytest.mark.parametrize("name", ["all", "config", ".hidden", "my study", "a{b}", "é", "-x"])
def test_names_that_paths_cannot_hold_are_told_the_rule(name, raw, write_study):
    with pytest.raises(
        StudyError, match=r"mine\.yaml: models\..*: a model's name must start"
    ) as no:
        load(write_study(raw | {"models": {f"{name} ": raw["models"]["vgg"]}}))
    assert "\n" not in str(no.value)
    with pytest.raises(StudyError, match="the file's name '.*' names the study: it must") as no:
        load(write_study(raw, name))
    assert "\n" not in str(no.value)


def test_a_model_that_is_called_what_a_section_is_has_its_mistakes_told(raw, write_study):
    for name in ("images", "network", "training", "models"):
        raw["models"] = {name: {"network": {"architecture": "resnet8", "deep": 1}}}
        with pytest.raises(
            StudyError, match=rf"models\.{name}\.network\.deep: no such key; .* width"
        ):
            load(write_study(raw))


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        (["seeds"], 3, r"seeds = 3: must be a list, such as \[3\]"),
        (["seeds"], "0, 1", r"seeds = '0, 1': must be a list, such as \[0, 1\]"),
        (["chaos", "forks"], 0, r"chaos\.forks = 0: must be a list, such as \[0\]"),
        (["training", "lr_drops"], None, r"lr_drops = nothing: must be a list, such as \[0, 1\]"),
    ],
)
def test_a_list_that_is_none_is_told_how_to_be_written(keys, value, expected, raw, write_study):
    section = raw
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    with pytest.raises(StudyError, match=expected):
        load(write_study(raw))


def test_keys_are_merged_as_yaml_says(raw, write_study):
    path = write_study(raw)
    text = yaml.safe_dump({key: value for key, value in raw.items() if key != "models"})
    models = """
models:
  deep: &deep
    network: {architecture: resnet8}
    training: &slow
      <<: {lr: 0.5, momentum: 0.5}
      lr: 0.25
  other:
    <<: [{chaos: false}, *deep]
    training: {<<: *slow, momentum: 0.75}
"""
    path.write_text(text + models)
    training = {name: model.training for name, model in load(path).models.items()}
    assert (training["deep"].lr, training["deep"].momentum) == (0.25, 0.5)
    assert (training["other"].lr, training["other"].momentum) == (0.25, 0.75)
    assert load(path).models["other"].chaos is None
    path.write_text(text + models.replace("lr: 0.25", "lr: 0.25\n      lr: 0.3"))
    with pytest.raises(StudyError, match="the key 'lr' stands twice"):
        load(path)


def test_a_study_that_holds_itself_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("training: &t {x: *t}\nmodels: {vgg: {training: *t}}")
    with pytest.raises(StudyError, match="refer to themselves"):
        load(path)


def _pixels(draw):
    figure = Figure((6, 1), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


@pytest.mark.parametrize("title", ["from $5 to $6", "$\\frac{", "$x_1$", "\\$ and $", "100 % $$"])
def test_a_title_is_text_and_never_mathematics(title, smoke):
    study = smoke.model_copy(update={"title": title})
    told = names.page(study, [], "Lines.").caption
    drawn = _pixels(lambda figure: panels.note(figure, told))
    looks = {"fontsize": style.SIZE - 1, "color": "0.3", "x": 0.01, "ha": "left"}
    plain = f"{title}. Lines."
    assert np.array_equal(
        drawn, _pixels(lambda figure: figure.supxlabel(plain, **looks, parse_math=False))
    )


DRAW = """
import sys
from pathlib import Path
from twophase import figures
figures.load("fig2")
from twophase.figures import panels, pictures, style
def draw(ax):
    ax.plot([1, 2, 3])
    ax.set(xlabel="iteration $t_1$")
other = panels.Panel(lambda ax: ax.pcolormesh([[1, 2]]))
page = panels.Page([[panels.Panel(draw, "a_b"), other]], "")
with style.theme():
    pictures.save(panels.composed(page), Path(sys.argv[1]), "pdf", "note")
"""
THEIRS = """
text.usetex: true
font.family: serif
mathtext.fontset: cm
savefig.bbox: tight
axes.grid: true
image.cmap: hot
pdf.compression: 0
figure.dpi: 31
axes.titlesize: no size
"""


def test_a_users_matplotlibrc_changes_no_byte(tmp_path):
    drawn = []
    for place in ("none", "here", "home"):
        folder = tmp_path / place
        (folder / "home").mkdir(parents=True)
        if place != "none":
            (folder / ("." if place == "here" else "home") / "matplotlibrc").write_text(THEIRS)
        environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src")}
        if place == "home":
            environment |= {"MPLCONFIGDIR": str(folder / "home"), "MPLBACKEND": "pgf"}
        subprocess.run(
            [sys.executable, "-c", DRAW, "x.pdf"], cwd=folder, env=environment, check=True
        )
        drawn.append((folder / "x.pdf").read_bytes())
    assert drawn[0] == drawn[1] == drawn[2]


def test_targets_that_there_are_not_are_told_with_those_that_are(tmp_path, copy_checkout):
    folder = copy_checkout(tmp_path / "checkout")
    (folder / "figures/smoke").mkdir(parents=True)  # as after a run
    targets = {
        "figures/smoke": "figures/smoke: no rule makes this; ask for figures/all, .*fig6.pdf",
        "figures/smoke/fig77.pdf": "fig77.pdf: no rule makes this; .*findings.md.*smoke",
        "figures/my study/all": "my study/all: no rule .* whose name must start with a letter",
    }
    for target, expected in targets.items():
        run = snakemake(folder, "--cores", "1", target)
        assert run.returncode == 1
        assert "Traceback" not in run.stderr
        assert re.search(expected, run.stderr.strip().splitlines()[-1]), run.stderr


def test_snakemake_in_another_folder_says_so_and_leaves_nothing(tmp_path):
    run = snakemake(tmp_path, "--snakefile", str(ROOT / "Snakefile"), "-n", "figures/smoke/all")
    assert run.returncode == 1
    assert run.stderr == f"Snakemake must run in the folder of its Snakefile, {ROOT}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["it's {a} b:c", 'new\nline $HOME `x` "q" %s 雪', "{study}"])
def test_a_checkout_may_lie_anywhere_and_runs_its_own_code(name, tmp_path, copy_checkout):
    folder = copy_checkout(tmp_path / name)
    installed = tmp_path / "installed" / "twophase"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("raise SystemExit('another copy')")
    study = folder / "workflow/config/v2.1.yaml"
    study.write_text((CONFIG / "smoke.yaml").read_text())
    # Not activated: Snakemake's own Python must be found.
    environment = {"PATH": os.defpath, "PYTHONPATH": str(installed.parent)}
    command = (forked.LIGHT, folder, environment, "snakemake", "--cores", "1")
    data = stages.data_file(load(study)).path
    dry = forked.run(*command, "--dry-run", "figures/v2.1/all")
    assert dry.returncode == 0, dry.stderr
    run = forked.run(*command, data)
    assert run.returncode == 0, run.stderr
    assert (folder / data).exists()
