"""Results: where they lie, what they are, and what makes them.

    results/<study>/<table>-<fingerprint>.parquet                        of the whole study
    results/<study>/<model>/seed<k>/<table>-<fingerprint>.parquet        a table of a run
    results/<study>/<model>/seed<k>/<stage>-<fingerprint>/t-000100.…     a part, kept by itself

A fingerprint stands for options, code, and the results before. A result made by other options or
other code therefore has another path: it is never served by mistake, and it is still there when
an option is put back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path("results")
MEASUREMENTS = Path("paper/measurements")  # tables that are published, study by study
FORMAT = 2  # of the files; part of every fingerprint
Identity = dict[str, str | int]


class Maker(NamedTuple):
    """What makes a result: digests of options and of code, with those of the results before.

    `recipe` says the same to a reader, and stands in the file: options, code module by module, and
    the fingerprints of what came `before` (`store/why.py` compares two of them).
    """

    options: str
    code: str
    recipe: dict[str, Any] = {}
    before: dict[str, Maker] = {}

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that stand in the result's path."""
        return digest([self.options, self.code, FORMAT])[:8]

    def behind(self) -> dict[str, dict]:
        """The recipes of all that came before, by name."""
        found = {}
        for name, maker in self.before.items():
            found |= maker.behind() | {name: maker.recipe}
        return found


def recipe(options: dict, code: dict[str, str], before: dict[str, Maker]) -> dict:
    """What a file says of what made it: options by their names in a study file, digests of modules,
    fingerprints. What is empty is left out.
    """
    made = {name: maker.fingerprint for name, maker in before.items()}
    said = {"options": options, "code": code, "before": made}
    return {key: value for key, value in said.items() if value}


@dataclass(frozen=True)
class Result:
    """A file of results: where it lies, what it is, and what makes it: digests, and the command.

    Without a maker it is a published copy, of which only the identity is known. A sweep's parts are
    under the name of the model that was swept: rows are read as those of the model `read_as`.
    """

    path: Path
    identity: Identity
    maker: Maker | None = None
    command: str = ""
    read_as: str = ""


def digest(values: Any) -> str:
    """SHA-256 of JSON values, in hexadecimal."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def run_folder(identity: Identity) -> Path:
    """The folder of a run, from its identity."""
    return RESULTS / identity["study"] / identity["model"] / f"seed{identity['seed']}"


def table(
    folder: Path, name: str, identity: Identity, maker: Maker, suffix: str, command: str
) -> Result:
    """The table called `name` in a study's or run's folder, which `command` makes."""
    path = folder / f"{name}-{maker.fingerprint}{suffix}"
    return Result(path, {"kind": name, **identity}, maker, command)


def part(
    stage: str, kind: str, identity: Identity, maker: Maker, suffix: str, **point: int | str
) -> Result:
    """The part of a run's stage that `point` tells apart; a folder for each of its coordinates."""
    names = [f"{k}-{v:06d}" if isinstance(v, int) else f"{k}-{v}" for k, v in point.items()]
    folder = run_folder(identity) / f"{stage}-{maker.fingerprint}"
    path = folder.joinpath(*names[:-1], names[-1] + suffix)
    return Result(path, {"kind": kind, **identity, **point}, maker, stage)
