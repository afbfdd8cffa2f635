"""Docstrings, which are plain text with code in backticks, as Markdown that shows them as they are.

mkdocs.yml names `PlainText` among the extensions of mkdocstrings.
"""

from __future__ import annotations

import re

import griffe


class PlainText(griffe.Extension):
    """Rewrites each docstring that the reference shows."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(docstring: str) -> str:
    """Examples become code; what would be markup in Markdown stands as it is."""
    blocks = re.split(r"\n\s*\n", docstring)
    return "\n\n".join(map(_block, blocks))


def _block(text: str) -> str:
    if text.startswith(">>> "):
        return f"```pycon\n{text}\n```"
    if text.startswith("    "):
        return text
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"[<*_\[]", lambda found: f"\\{found[0]}", part) for part in parts[::2]]
    return "".join(parts).replace("\\<", "&lt;")
