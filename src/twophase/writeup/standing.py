"""Which verdicts are registered: their rule was in the history before any of their seeds began.

Each base run leaves a record of its beginning (`study.beginning.begin`), which is published with
its seed. A verdict is registered if the commit in the record of every seed that it is of already
holds the registration, in all that decides the verdict, and nothing has changed since.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from twophase.errors import StudyError
from twophase.store.history import NO_HISTORY, git, reachable
from twophase.study.beginning import RECORD
from twophase.writeup import CLAIMS, frozen, registered, verdicts
from twophase.writeup.claims import Claims
from twophase.writeup.registered import Registration
from twophase.writeup.sources import Source
from twophase.writeup.verdicts import EXPLORATORY, REGISTERED, UNCHECKED, Verdict

# What of a registration decides verdicts. Its date says nothing, and other claims may join later.
DECIDES = ("study", "models", "looks", "level")


def judged(
    claims: Claims,
    sources: list[Source],
    claims_file: Path = CLAIMS,
    swept: Iterable[Source] = (),
) -> list[Verdict]:
    """The verdicts of all claims (see `verdicts`), each with its standing."""
    found = verdicts.verdicts(claims, sources, swept)
    return [v._replace(**_standing(v, claims, claims_file)) for v in found]


def _standing(found: Verdict, claims: Claims, claims_file: Path) -> dict[str, str]:
    source, name = found.source, found.claim.id
    own = source.registration
    if own is None or name not in own.claims or source.withheld:
        # While it is withheld it is neither: `text` shows how many seeds are there.
        return {"standing": EXPLORATORY, "because": ""}
    why = frozen.changed(name, claims, own, source.file, claims_file)
    why = why or order(name, source, claims_file)
    standing = {"": REGISTERED, NO_HISTORY: UNCHECKED}.get(why, EXPLORATORY)
    return {"standing": standing, "because": why}


def order(name: str, source: Source, claims_file: Path) -> str:
    """Why it cannot be said that the claim `name` was registered before each seed of the source
    began; "" if it was.
    """
    own, file = source.registration, source.file
    models = list(source.conditions) or [source.name]
    for model, seed in itertools.product(models, source.used):
        told = f"{model}, seed {seed}" if source.conditions else f"seed {seed}"
        path = file.parent / f"{model}/seed{seed}/{RECORD}"
        record = _record(path)
        if record is None:
            return f"{told} has no record of when it began"
        why = before(name, own, record, claims_file)
        if why:
            return why if why == NO_HISTORY else f"{told} {why}"
    return ""


def _record(path: Path) -> dict[str, Any] | None:
    """The record of a seed's beginning; None if it is missing or damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kinds = {"commit": str | None, "changed": list, "study": str}
    whole = isinstance(record, dict) and kinds.keys() <= record.keys()
    return record if whole and all(isinstance(record[k], kinds[k]) for k in kinds) else None


def before(name: str, own: Registration, record: dict[str, Any], claims_file: Path) -> str:
    """The same for the record of one seed."""
    if changed := record["changed"]:
        return f"began with files that are not in its commit: {', '.join(changed[:3])}"
    if record["commit"] is None:
        return "began outside of a git checkout"
    folder = claims_file.absolute().parent
    if why := reachable(record["commit"], folder):
        return why
    now = frozen.folder_of(own, claims_file) / frozen.FILE
    said = frozen.parsed(now.read_text(encoding="utf-8"))
    if record["study"] != said["study"]:
        return "began with another study file"
    then = _then(record["commit"], str(folder), claims_file.name, own.study)
    if then is None or name not in then[0].claims or name not in then[1]["claims"]:
        return "began before this was registered"
    entry, held = then
    for key in DECIDES:
        if getattr(entry, key) != getattr(own, key):
            return f"began when {key} was registered as {getattr(entry, key)}"
    for key, one, other in (
        ("study", held["study"], said["study"]),
        ("tables", held["tables"], said["tables"]),
        (name, held["claims"][name], said["claims"][name]),
    ):
        if told := frozen.differs(one, other):
            return f"began when something else was registered: {key}: {told}".rstrip()
    return ""


@lru_cache(maxsize=256)
def _then(
    commit: str, folder: str, claims_name: str, study: str
) -> tuple[Registration, dict[str, Any]] | None:
    """What was registered for a study at a commit: in the file of claims, and frozen beside it."""
    where = Path(folder)
    text = git("show", f"{commit}:./{claims_name}", folder=where)
    path = f"{registered.REGISTRATION}/{study}/{frozen.FILE}"
    said = git("show", f"{commit}:./{path}", folder=where)
    if text is None or said is None:
        return None
    try:
        entry = registered.in_text(where / claims_name, text).get(study)
        return entry and (entry, frozen.parsed(said))
    except (StudyError, ValueError):
        return None
