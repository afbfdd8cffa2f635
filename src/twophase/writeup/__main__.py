"""Commands of the write-up: `python -m twophase.writeup page`, `pdf`, `readme`, `archive`;
`register <study>`, which freezes what `paper/claims.yaml` registers for a study; and `own <study> …
--claims mine.yaml --to mine.html`, a page of your own studies and claims alone, by a script of your
own with `--script`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from twophase.errors import Problem
from twophase.writeup import CLAIMS, archive, claims, frozen, page, pdf, sources, standing, text

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
    parser.add_argument("command", choices=["page", "pdf", "readme", "archive", "register", "own"])
    parser.add_argument("studies", nargs="*", help="with register: a study; with own: some, or all")
    parser.add_argument("--claims", type=Path, default=CLAIMS, help="with own: a file of claims")
    parser.add_argument(
        "--to", type=Path, default=Path("paper/own.html"), help="with own: the page"
    )
    parser.add_argument(
        "--script", type=Path, default=page.SCRIPT, help="with own: what is executed"
    )
    arguments = parser.parse_args()
    command, studies = arguments.command, arguments.studies
    wanted = {"register": len(studies) == 1, "own": True}
    if not wanted.get(command, not studies):
        parser.error("register needs a study, own may have some; the other commands take none")
    try:
        if command == "page":
            page.build()
        elif command == "pdf":
            pdf.build()
        elif command == "archive":
            print(archive.archive())
        elif command == "register":
            print(frozen.register(studies[0], claims.load()))
        elif command == "own":
            page.own(studies, arguments.claims, arguments.to, arguments.script)
        else:
            readme()
    except Problem as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
