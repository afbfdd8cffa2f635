"""Every command on the pages of the site is one that works.

What takes minutes or hours, needs a cluster, a download or a GPU is not run here but asked what it
would do: Snakemake and make by a dry run of all that the pages ask for, the others by their own
parsers. The tutorial's are really run, by `test_site.py`, and each command of the program is by the
test that `RUN_BY` names.
"""

import json
import re
import shlex
import shutil
import subprocess
from itertools import pairwise

import pytest
from conftest import ROOT, command, snakemake
from snakemake.cli import get_argument_parser

from twophase.__main__ import parser
from twophase.study import stages

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
COMMAND = r"(?:[A-Z]+=\S+ )*(?:snakemake|python|make|pytest|ruff|snakefmt|mkdocs|twophase) .*"
EXAMPLE = {
    "<address>": "file:///there",
    "<stage>": "base",
    "<study>": "digits",
    "<study file>": "workflow/config/digits.yaml",
}
PROGRAM = [("python", "-m", "twophase"), ("twophase",)]
# The tests that run what neither the rules of the workflow nor the tutorial do.
RUN_BY = {
    "adopt": "test_documented_commands.py",
    "figure": "test_documented_commands.py",
    "figures": "test_documented_commands.py",
    "new": "test_assumed.py",
    "next": "test_next.py",
    "plan": "test_keep.py",
    "provenance": "test_freshness.py",
    "publish": "test_published.py",
    "redraw": "test_documented_commands.py",
    "schema": "test_documented_commands.py",
    "status": "test_documented_commands.py",
    "summaries": "test_whole_runs.py",
}


def commands():
    """The commands in the pages' blocks and lines; of those joined by `&&` or `|`, each."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
        text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        lines = "".join(blocks).splitlines() + re.findall(r"^ {4,}(.*)", text, re.M)
        lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
        for line in lines:
            line = re.sub(r"<[a-z ]+>", lambda found: EXAMPLE.get(found[0], found[0]), line)
            parts = [part.strip() for part in re.split(r"\s+#|&&|\||>|…", line)]
            found.update(part for part in parts if re.fullmatch(COMMAND, part))
    return sorted(found)


ALL = commands()
# Of a study that only the tutorial writes.
TUTORIAL = {"figures/scans/fig3.pdf", "figures/scans/fig5.pdf", "figures/scans/all"}


def of(*program):
    """The arguments of all commands of a program."""
    words = [shlex.split(re.sub(r"^([A-Z]+=\S+ )+", "", line)) for line in ALL]
    return [each[len(program) :] for each in words if tuple(each[: len(program)]) == program]


def scripts():
    """The Python files that are run, each with its arguments."""
    return [words for words in of("python") if words[0].endswith(".py")]


def test_no_command_is_of_another_kind():
    kinds = [("snakemake",), ("make",), ("pytest",), ("ruff",), ("snakefmt",), ("mkdocs",)]
    kinds += [*PROGRAM, ("python", "-m", "trials.slurm"), ("python", "-m", "twophase.writeup")]
    assert len(ALL) > 40
    assert sum(len(of(*kind)) for kind in kinds) + len(scripts()) == len(ALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory, copy_checkout):
    """What a clone holds, with the profile that docs/cluster.md copies."""
    folder = copy_checkout(tmp_path_factory.mktemp("commands"))
    made = shutil.ignore_patterns("replication.html", "replication.ipynb", "figures")
    shutil.copytree(ROOT / "paper", folder / "paper", ignore=made)
    shutil.copytree(folder / "workflow/profiles/slurm", folder / "mine")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_snakemake_plans_what_the_pages_ask_for(clone):
    asked = [get_argument_parser().parse_args(words) for words in of("snakemake")]
    targets = {target for each in asked for target in each.targets}
    assert {"figures/all", "paper/replication.html", "figures/cifar10/all"} <= targets
    profiles = {profile for each in asked for profile in each.profile or []}
    assert all((clone / profile / "config.yaml").exists() for profile in profiles)
    dry = snakemake(clone, "--dry-run", "--profile", "mine", *targets - TUTORIAL)
    assert dry.returncode == 0, dry.stdout + dry.stderr


def test_make_has_the_targets(clone):
    make = ["make", "--dry-run", *{word for words in of("make") for word in words}]
    dry = subprocess.run(make, cwd=clone, capture_output=True, text=True)
    assert dry.returncode == 0, dry.stderr
    # What CONTRIBUTING asks for by hand is what `make test` checks.
    plain = dry.stdout.replace(" --check", "")
    for tool in ("ruff", "snakefmt"):
        for words in of(tool):
            assert shlex.join([tool, *words]) in plain


def test_the_program_knows_its_commands():
    asked = [words for program in PROGRAM for words in of(*program)]
    for words in asked:
        if words[1:]:
            parser().parse_args(words)
    tutorial = (ROOT / "docs/tutorial.md").read_text()
    executed = "".join(re.findall(r"^```bash\n(.*?)^```", tutorial, re.M | re.S))
    done = {"--help", *stages.STAGES, *re.findall(r"\btwophase (\w+)", executed)}
    for name in {words[0] for words in asked if words} - done:
        assert re.search(rf'[(,] ?"{name}"', (ROOT / "tests" / RUN_BY[name]).read_text())


def test_figures_are_drawn_one_or_all_from_results_and_from_what_is_published(checkout, clone):
    study = "workflow/config/smoke.yaml"
    journal = ["--format", "svg", "--width", "3.25", "--panel", "b"]
    published = "paper/measurements/digits/digits.yaml"
    for folder, words in (
        (checkout, ["twophase", "figure", study, "--figure", "fig3", *journal]),
        (checkout, ["twophase", "figures", study]),
        (clone, ["twophase", "redraw", published, "--figure", "fig4"]),
    ):
        run = command(folder, *words[1:], "--folder", "drawn")
        assert run.returncode == 0, run.stderr
    assert list((checkout / "drawn").glob("fig3*.svg"))
    assert (checkout / "drawn/fig4.png").exists()
    assert (clone / "drawn/fig4.pdf").exists()


def test_adopt_and_status_find_a_finished_study_current(finished):
    run = command(finished, "adopt", "workflow/config/smoke.yaml")
    assert run.returncode == 0, run.stderr
    assert "nothing to adopt" in run.stdout
    run = command(finished, "status", "workflow/config/smoke.yaml")
    assert run.returncode == 0, run.stderr
    assert "2 of 2 runs have ended" in run.stdout


def test_schema_prints_one(clone):
    run = command(clone, "schema")
    assert json.loads(run.stdout)["title"] == "Study file of twophase"


def test_scripts_and_tests_are_there():
    trials = [["tests/trials/slurm.py", *words] for words in of("python", "-m", "trials.slurm")]
    for file, *words in scripts() + trials:
        source = (ROOT / file).read_text()
        assert all(f'"{word}"' in source for word in words if word.startswith("--"))
    for words in of("pytest"):
        files = [word for word in words if word.endswith(".py")]
        sources = "".join((ROOT / file).read_text() for file in files)
        for option, value in pairwise(words):
            if option == "-k":
                assert re.search(rf"^def test_\w*{value}", sources, re.M)
            if option == "--hypothesis-profile":
                assert f'register_profile("{value}")' in (ROOT / "tests/conftest.py").read_text()
        assert files
