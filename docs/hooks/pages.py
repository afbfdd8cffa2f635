"""What the site is made of beside the pages in docs/; mkdocs.yml names this file among its hooks.

The first page quotes README's verdicts. The tutorial is executed, the study file's keys are read
off the records, and the write-up is taken in where it has been made.
"""

from __future__ import annotations

import re
from pathlib import Path

import keys
import notebook
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Link, Navigation
from mkdocs.structure.pages import Page

from twophase.writeup import text
from twophase.writeup.page import PAGE

ROOT = Path(__file__).parents[2]
# What lies outside docs/: where it is, and where in the site.
OUTSIDE = {name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff")}
OUTSIDE |= {str(PAGE): PAGE.name}
OUTSIDE |= {(name := f"figures/readme/{p.name}"): name for p in ROOT.glob("figures/readme/*.png")}
TUTORIAL = "tutorial.md"
building = False


def on_startup(command: str, **_: object) -> None:
    """Note whether the site is built, or served to somebody who writes: who does not wait."""
    global building
    building = command == "build"


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add what lies outside docs/, and what the tutorial's cells print and draw."""
    for source, target in OUTSIDE.items():
        if (ROOT / source).exists():
            files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    if building:
        plain = files.get_file_from_path(TUTORIAL)
        files.remove(plain)
        executed = notebook.executed(plain.content_string, ROOT)
        files.append(File.generated(config, TUTORIAL, content=executed))


def on_nav(nav: Navigation, files: Files, **_: object) -> None:
    """Link the write-up, where it has been made."""
    if files.get_file_from_path(PAGE.name):
        after_findings = 2
        nav.items.insert(after_findings, Link("Verdicts, with all figures", PAGE.name))


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Fill in records of modules, and README's verdicts; link pages as they lie in the site."""
    if "/" in page.file.src_uri:
        return re.sub(r"^!!! records (\S+)$", keys.described, markdown, flags=re.M)
    if page.is_homepage:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        quoted = readme.split(text.BEGIN)[1].split(text.END)[0]
        markdown = markdown.replace("!!! verdicts", quoted)
    markdown = re.sub(r"\]\((?:\.\./|docs/)", "](", markdown)
    return markdown.replace("](README.md", "](index.md")
