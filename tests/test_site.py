"""The documentation site: it is whole, loads nothing from elsewhere, and its commands work."""

import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import forked
import jupytext
import pytest
from conftest import ENVIRONMENT, ROOT

from twophase.commands.keys import KEYS

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))


class Page(HTMLParser):
    """The words of a page, its anchors, and what a browser loads to show it."""

    LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}

    def __init__(self, file):
        super().__init__()
        self.words, self.ids, self.loads = "", set(), []
        self.feed(file.read_text())
        self.letters = letters(self.words)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if address := attributes.get(self.LOADS.get(tag)):
            self.loads.append(address)

    def handle_data(self, data):
        self.words += data


def letters(text):
    """A text without spaces, backticks and the marks of lists."""
    return re.sub(r"[\s`]", "", re.sub(r"^- ", "", text, flags=re.M))


@pytest.fixture(scope="module")
def clone(tmp_path_factory, copy_checkout):
    """What a clone holds, with a write-up, and the site built there."""
    folder = copy_checkout(tmp_path_factory.mktemp("documented"))
    for name in ("docs", "figures/readme"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "CITATION.cff", *(page.name for page in PAGES[:3])):
        shutil.copy(ROOT / name, folder)
    (folder / "paper").mkdir()
    (folder / "paper/replication.html").write_text("<p>The write-up</p>")
    # The commands of the tutorial start half-way.
    path = f"{Path(forked.python()).parent}{os.pathsep}{ENVIRONMENT['PATH']}"
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": "src", "PATH": path},
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    return folder


@pytest.fixture(scope="module")
def site(clone):
    """The pages of the site, by their paths in it."""
    folder = clone / "site"
    return {str(file.relative_to(folder)): Page(file) for file in folder.rglob("*.html")}


def test_the_site_holds_every_page_and_the_write_up(clone, site):
    for page in PAGES[1:]:
        assert str(page.relative_to(ROOT)).removeprefix("docs/").replace(".md", ".html") in site
    assert "The answer so far" in site["index.html"].words
    assert 'href="replication.html"' in (clone / "site/index.html").read_text()
    assert site["replication.html"].words == "The write-up"


def test_readers_choose_between_light_and_dark(clone):
    page = (clone / "site/index.html").read_text()
    schemes = re.findall(r'data-md-color-media="([^"]*)" data-md-color-scheme="([^"]*)"', page)
    preferred = {"(prefers-color-scheme: light)", "(prefers-color-scheme: dark)"}
    assert {media for media, _ in schemes} == preferred
    assert len({scheme for _, scheme in schemes}) == 2


def test_the_site_loads_nothing_from_elsewhere(clone, site):
    folder = clone / "site"
    for name, page in site.items():
        assert page.loads or name == "replication.html"
        for address in page.loads:
            if not address.startswith("data:"):
                base = folder if address.startswith("/") else (folder / name).parent
                # No file is called https:, and none begins with a host's name.
                assert (base / address.removeprefix("/").split("?")[0]).is_file(), (name, address)
        # The theme fetches what draws these.
        assert 'class="mermaid"' not in (folder / name).read_text(), name
    for style in folder.rglob("*.css"):
        assert not re.search(r"""(url\(['"]?|@import\s+['"])(https?:)?//""", style.read_text())


def test_the_tutorial_ends_in_figures_of_ones_own_network(site):
    shown = site["tutorial.html"]
    assert len([address for address in shown.loads if address.startswith("data:image/png")]) == 3
    assert "figures/scans/fig3.pdf figures/scans/fig5.pdf: done" in shown.words
    assert "assumed: chaos: directions = 2, control = [0], perturbation = " in shown.words
    assert "4 of 4 controls are equal to the bit" in shown.words


def test_the_tutorial_edits_no_file_and_its_network_has_twenty_lines():
    cells = jupytext.read(ROOT / "docs/tutorial.md").cells
    written = [cell.source for cell in cells if cell.source.startswith("%%writefile ")]
    files = dict(text.removeprefix("%%writefile ").split("\n", 1) for text in written)
    assert files.keys() == {"workflow/config/my_network.py", "workflow/config/scans.yaml"}
    tracked = subprocess.run(["git", "ls-files", *files], cwd=ROOT, capture_output=True)
    assert not tracked.stdout
    assert len(files["workflow/config/my_network.py"].splitlines()) <= 20
    study = files["workflow/config/scans.yaml"].splitlines()
    assert len([line for line in study if line.strip()[:1] != "#"]) <= 12


def test_the_reference_shows_docstrings_as_they_are(site):
    pages = [page for name, page in site.items() if name.startswith("reference/")]
    shown = {name: page for page in pages for name in page.ids if name and "twophase." in name}
    for family in ("measures", "estimators"):
        for file in (ROOT / "src/twophase" / family).glob("[!_]*.py"):
            assert f"twophase.{family}.{file.stem}" in shown
    assert {"twophase.entk.entk", "twophase.training.perturbation.perturb"} < shown.keys()
    for name, page in shown.items():
        assert letters(inspect.getdoc(pkgutil.resolve_name(name))) in page.letters, name


def test_the_reference_has_the_keys_of_a_study(site):
    """That it has all records is asked by `mkdocs --strict`: they are linked."""
    told = site["reference/study.html"].letters
    for record, key, example, allowed in (
        ("Chaos", "barrier_points", "11", "whole number from 3"),
        ("SmallVGG", "width", "0.5", "number above 0 to 16 1.0"),
        ("Chaos", "control", "[0]", "list of: whole number from 0 to 10,000,000"),
        ("Study", "models", "{vgg: {network: {architecture: vgg_small}}}", "by name: Model"),
    ):
        sentence = KEYS[record][key][0]
        assert letters(f"{key} {sentence} {example} {allowed}") in told, key
