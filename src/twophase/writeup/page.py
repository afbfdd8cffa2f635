"""The page: `paper/replication.py` executed, as one HTML file and as a notebook."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from twophase.errors import RunError
from twophase.figures import FIGURES, PANELS, code_of
from twophase.store.artifacts import sha256, whole_file
from twophase.store.code import code_digest
from twophase.store.history import reachable
from twophase.store.paths import MEASUREMENTS, digest
from twophase.study.beginning import RECORD
from twophase.writeup import CLAIMS
from twophase.writeup.registered import REGISTRATION

# What executes and converts is imported where it is used: the Snakefile asks only for freshness.
if TYPE_CHECKING:
    from nbformat import NotebookNode

    from twophase.study.model import Study
    from twophase.writeup.claims import Claims
    from twophase.writeup.sources import Source, Sweep
    from twophase.writeup.verdicts import Verdict

SCRIPT = Path("paper/replication.py")
STYLE = Path("paper/replication.css")
OWN = "TWOPHASE_PAGE"  # tells the script, in JSON, of which studies and claims a page is
PAGE, NOTEBOOK = Path("paper/replication.html"), Path("paper/replication.ipynb")
MODULES = (
    "writeup.quantities",
    "writeup.text",
    "writeup.verdicts",
    "writeup.standing",
    "writeup.parts",
    "writeup.methods",
    "writeup.beside",
    "writeup.appendix",
    "writeup.page",
)
SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="{maker}">
<title>{title}</title>
<style>
{style}
</style></head><body>
<nav aria-label="Contents"><details><summary>Contents</summary>{contents}</details></nav>
<main>
{body}
</main></body></html>
"""


def read_from() -> list[Path]:
    """The files that the page is made from."""
    folders = MEASUREMENTS, CLAIMS.parent / REGISTRATION
    tables = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [SCRIPT, STYLE, CLAIMS, *(p for p in tables if not p.name.startswith("."))]


def made_by() -> str:
    """What the page is made by: its files, the code of the write-up and of all figures, and whether
    the commits at which registered runs began are in the history here.
    """
    files = [(str(path), sha256(path)) for path in read_from()]
    parts = [files, code_digest(*MODULES), [code_of(f) for f in FIGURES | PANELS]]
    if begun := _begun():
        parts.append(begun)
    return f"made by {digest(parts)[:8]}"


def _begun() -> list[str]:
    """Of each published record of a run's beginning, why its commit is not in the history."""
    records = sorted(MEASUREMENTS.rglob(RECORD))
    commits = [json.loads(path.read_text(encoding="utf-8")).get("commit") for path in records]
    return [reachable(commit, MEASUREMENTS) for commit in commits if commit]


def current() -> bool:
    """Whether the page and the notebook that lie there were made by this; dates do not count."""
    maker = made_by()
    return all(p.exists() and maker in p.read_text(encoding="utf-8") for p in (PAGE, NOTEBOOK))


class Subject(NamedTuple):
    """What a page is of: the rules, the published studies, their networks (those of sweeps apart),
    and the verdicts.
    """

    rules: Claims
    studies: list[tuple[Study, Path]]
    tested: list[Source]
    sweeps: list[Sweep]
    found: list[Verdict]


def _asked() -> dict:
    return json.loads(os.environ.get(OWN, "{}"))


def asked_for() -> Path:
    """The file of claims that the page that is being made is of."""
    return Path(_asked().get("claims", CLAIMS))


def subject() -> Subject:
    """What the page that is being made is of: all claims and studies, or those of `OWN`."""
    from twophase.writeup import claims, sources, standing

    own, file = _asked(), asked_for()
    rules, studies = claims.load(file), sources.published()
    tested, swept, sweeps = sources.all_networks()
    if names := own.get("studies"):
        there = [study.name for study, _ in studies]
        for name in names:
            if name not in there:
                raise RunError(f"{name}: is not published; published are {', '.join(there)}")
        studies = [(study, path) for study, path in studies if study.name in names]
        tested, swept = ([s for s in each if s.study in names] for each in (tested, swept))
    return Subject(rules, studies, tested, sweeps, standing.judged(rules, tested, file, swept))


def own(studies: list[str], claims: Path, to: Path, script: Path = SCRIPT) -> None:
    """A page of some published studies, or all, and a file of claims, and of no others, as `to`;
    `script` is what is executed.
    """
    import jupytext

    notebook = jupytext.read(script)
    asked = {"studies": studies, "claims": str(claims)}
    execute(notebook, Path.cwd(), **{OWN: json.dumps(asked)})
    notebook.metadata["generator"] = f"of {', '.join(studies) or 'all studies'}"
    with whole_file(to) as temporary:
        temporary.write_text(page(notebook), encoding="utf-8")


def build() -> None:
    """Execute the script and write the page and the notebook. Asks nothing of the network.

    Raises `nbclient.exceptions.CellExecutionError`, which shows the cell, if the script fails.
    """
    import jupytext

    notebook = jupytext.read(SCRIPT)
    execute(notebook, Path.cwd())
    notebook.metadata["generator"] = made_by()
    for path, text in (
        (NOTEBOOK, jupytext.writes(notebook, fmt="ipynb") + "\n"),
        (PAGE, page(notebook)),
    ):
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def execute(notebook: NotebookNode, folder: Path, **environment: str) -> None:
    """Run all cells in `folder` and keep their outputs; `environment` is added to this process's.

    Raises `nbclient.exceptions.CellExecutionError`, which shows the cell, if one fails.
    """
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"  # else it is random
    with tempfile.TemporaryDirectory() as sockets:
        # Files instead of ports; their path is absolute, for the kernel works in another folder.
        own = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        client = NotebookClient(notebook, config=own, kernel_name="python3", startup_timeout=600)
        client.record_timing = False
        client.execute(cwd=str(folder), env=os.environ | environment)


def page(notebook: NotebookNode) -> str:
    """The notebook as one page that needs no other file: text and outputs, with a table of contents
    from its headings.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_output_prompt=True,
        exclude_input_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    body, contents = _contents(body)
    return SHELL.format(
        title=re.search(r"<h1[^>]*>(.*?)</h1>", body, re.S)[1],
        maker=notebook.metadata["generator"],
        style=STYLE.read_text(encoding="utf-8"),
        contents=contents,
        body=body,
    )


def _contents(body: str) -> tuple[str, str]:
    """The body with a name for each heading, and a list of links to them."""
    links = []

    def named(heading: re.Match) -> str:
        level, text = heading["level"], re.sub(r"<[^>]+>", "", heading["text"])
        name = f"section-{len(links)}"
        links.append(f'<li class="h{level}"><a href="#{name}">{text}</a></li>')
        return f'<h{level} id="{name}">{text}</h{level}>'

    body = re.sub(r"<h(?P<level>[23])[^>]*>(?P<text>.*?)</h(?P=level)>", named, body, flags=re.S)
    return body, f"<ul>{''.join(links)}</ul>"
