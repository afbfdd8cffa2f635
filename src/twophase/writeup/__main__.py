"""Commands of the write-up: `python -m twophase.writeup page`, `pdf`, `readme`, `archive`, or
`register <study>`, which freezes what `paper/claims.yaml` registers for a study.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from twophase.errors import Problem
from twophase.writeup import archive, claims, frozen, page, pdf, sources, standing, text

README = Path("README.md")


def readme() -> None:
    """Write the quoted verdicts between the marks in README."""
    rules = claims.load()
    found = standing.judged(rules, sources.sources())
    old = README.read_text(encoding="utf-8")
    README.write_text(text.in_readme(old, text.quoted(found, rules)), encoding="utf-8")


def main() -> None:
    """Run one command in the checkout's folder."""
    parser = argparse.ArgumentParser(prog="python -m twophase.writeup", description=__doc__)
    parser.add_argument("command", choices=["page", "pdf", "readme", "archive", "register"])
    parser.add_argument("study", nargs="?", help="with register: the study's name")
    arguments = parser.parse_args()
    command = arguments.command
    if (command == "register") != (arguments.study is not None):
        parser.error("register needs the name of a study; the other commands take none")
    try:
        if command == "page":
            page.build()
        elif command == "pdf":
            pdf.build()
        elif command == "archive":
            print(archive.archive())
        elif command == "register":
            print(frozen.register(arguments.study, claims.load()))
        else:
            readme()
    except Problem as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
