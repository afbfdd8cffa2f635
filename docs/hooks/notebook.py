"""A notebook in Markdown, executed in a copy of the checkout, as a page with what it shows."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import jupytext
from nbformat import NotebookNode

from twophase.writeup.page import execute

# What a clone holds that a study needs.
CHECKOUT = ("Snakefile", "workflow", "src", "envs")


def executed(text: str, root: Path) -> str:
    """The page of a notebook whose cells ran in a copy of the checkout at `root`.

    Raises `nbclient.exceptions.CellExecutionError`, which shows the cell, if one fails.
    """
    notebook = jupytext.reads(text, "md")
    sources = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        # At a terminal the reader stops at what fails.
        cell.source = re.sub(r"^%%bash\n", "%%bash\nset -eo pipefail\n", cell.source)
    with tempfile.TemporaryDirectory() as folder:
        for name in CHECKOUT:
            copy = shutil.copytree if (root / name).is_dir() else shutil.copy
            copy(root / name, Path(folder) / name)
        execute(notebook, Path(folder), PYTHONPATH=str(Path(folder) / "src"))
    parts = []
    for cell, source in zip(notebook.cells, sources, strict=True):
        if cell.cell_type == "markdown":
            parts.append(source)
        else:
            parts += [_code(source), *_printed(cell), *_shown(cell)]
    return "\n\n".join(parts) + "\n"


def _code(source: str) -> str:
    """A cell's code in its language; of one that writes a file, the file below its name."""
    first, _, rest = source.partition("\n")
    if first == "%%bash":
        return f"```bash\n{rest}\n```"
    if first.startswith("%%writefile "):
        path = Path(first.split()[1])
        return f"`{path}`:\n\n```{path.suffix[1:]}\n{rest}\n```"
    return f"```python\n{source}\n```"


def _printed(cell: NotebookNode) -> list[str]:
    """What a cell printed, also as errors, as a terminal shows it in the end."""
    printed = "".join(each.text for each in cell.outputs if each.output_type == "stream")
    lines = [line.rpartition("\r")[2] for line in printed.split("\n")]
    return [_text("\n".join(lines))] if printed and "%%writefile" not in cell.source else []


def _shown(cell: NotebookNode) -> list[str]:
    """The pictures, tables or values that a cell shows."""
    parts = []
    for each in cell.outputs:
        if each.output_type == "stream":
            continue
        if "image/png" in each.data:
            data = each.data["image/png"].replace("\n", "")
            alt = each.metadata.get("image/png", {}).get("alt", "the plot that this code draws")
            parts.append(f'<img alt="{alt}" src="data:image/png;base64,{data}">')
        elif "text/html" in each.data:
            table = re.sub(r"<style.*?</style>\n?", "", each.data["text/html"], flags=re.S)
            parts.append(table.replace(' border="1" class="dataframe"', ""))
        else:
            parts.append(_text(each.data["text/plain"]))
    return parts


def _text(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
