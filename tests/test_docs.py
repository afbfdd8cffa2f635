"""What README and docs/ say of names is true of the code."""

import re

import pytest
from conftest import ROOT

from twophase.__main__ import COMMANDS
from twophase.figures import FIGURES
from twophase.study import stages

PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)


def _rows(page, heading):
    """The cells of the table under a heading."""
    section = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_readme_is_short_and_links_every_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT)})" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`((?:src|workflow|tests|benchmarks|paper|envs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        headings = re.findall(r"^#+ (.*)$", text, re.M)
        slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in headings}
        assert anchor in slugs, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    known = {*stages.STAGES, *COMMANDS, "provenance", "schema", "new", "<stage>"}
    for command in re.findall(r"(?:python -m|^    )twophase ([\w<>]+)", page.read_text(), re.M):
        assert command in known


def test_every_table_is_described_with_its_keys():
    rows = {
        name.strip("`"): (stage.strip("`"), keys)
        for name, stage, keys, _ in _rows(ROOT / "docs/tables.md", "The tables")
    }
    told = {name: (stage, tuple(keys.split(", "))) for name, (stage, keys) in rows.items()}
    assert told == {
        name: (stage, stages.STAGES[stage].tables[name]) for name, stage in stages.STAGE_OF.items()
    }


def test_every_figure_is_in_the_readme():
    rows = _rows(ROOT / "README.md", "Three ways to use it")
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert named == [name for name in FIGURES if name != "findings"]
