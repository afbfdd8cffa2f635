"""What is frozen with a registration: rules, simulated tables, and what the rules say of them.

    paper/registration/<study>/registered.json
    paper/registration/<study>/<model>/<truth>/<table>.parquet

If a rule, the study or what an estimator says of these tables changes afterwards, verdicts are no
longer those that were registered. How code is written does not matter.
"""

from __future__ import annotations

import itertools
import json
import math
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from twophase.errors import StudyError
from twophase.estimators.seeds import CannotSay, Estimate
from twophase.store.artifacts import sha256, whole_file
from twophase.study import studyfile
from twophase.study.model import STUDIES, Study
from twophase.writeup import CLAIMS, simulated
from twophase.writeup.claims import Claim, Claims, Part
from twophase.writeup.registered import REGISTRATION, Registration
from twophase.writeup.sources import Source, conditions, network_of
from twophase.writeup.verdicts import Verdict, estimated, verdict

FILE = "registered.json"
SAME = 1e-5  # relative; estimates are kept with six digits


def folder_of(registration: Registration, claims_file: Path = CLAIMS) -> Path:
    """Where a study's registration lies: beside the file of claims."""
    return claims_file.parent / REGISTRATION / registration.study


def register(study_name: str, claims: Claims, claims_file: Path = CLAIMS) -> Path:
    """Freeze what the file of claims registers for a study: write `registered.json` and the tables,
    and return the path of the former.

    Raises `StudyError` if the study is not registered there, or its file does not fit.
    """
    registration = next((r for r in claims.registered if r.study == study_name), None)
    if registration is None:
        raise StudyError(f"{claims_file}: registered: {study_name} is not there; write it there")
    file = STUDIES / f"{study_name}.yaml"
    study = studyfile.load(file)
    _check(study, file, registration, claims, claims_file)
    folder = folder_of(registration, claims_file)
    written = {}
    for model in _models(study, registration):
        for truth in registration.truths:
            seeds = study.seeds[: registration.looks[-1]]
            for name, table in simulated.tables(study, model, truth, seeds).items():
                path = folder / model / truth / f"{name}.parquet"
                with whole_file(path) as temporary:
                    table.to_parquet(temporary, index=False, compression="zstd")
                written[path.relative_to(folder).as_posix()] = sha256(path)
    told = says(claims, registration, study, folder)
    said = {
        "study": sha256(file),
        "tables": written,
        "claims": {
            name: {"rule": rule(claims.claim(name), claims, registration), "says": told[name]}
            for name in registration.claims
        },
    }
    with whole_file(folder / FILE) as temporary:
        temporary.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return folder / FILE


def _check(
    study: Study, file: Path, registration: Registration, claims: Claims, claims_file: Path
) -> None:
    """Raise `StudyError` if a registration does not fit its study."""
    where = f"{claims_file}: registered, {study.name}:"
    if odd := set(registration.models) - set(study.models):
        raise StudyError(
            f"{where} models: {sorted(odd)[0]} is none of {file}; must be of "
            f"{', '.join(study.models)}"
        )
    if registration.looks[-1] != len(study.seeds):
        raise StudyError(
            f"{where} looks: the last is {registration.looks[-1]}; must be {len(study.seeds)}, "
            f"the number of seeds in {file}"
        )
    for name in registration.claims:
        over, covered = claims.claim(name).over, _models(study, registration)
        if over and sum(any(fnmatchcase(model, own) for own in over) for model in covered) < 2:
            raise StudyError(
                f"{where} claims: {name} is over {', '.join(over)}; must name two models or more "
                f"of {', '.join(covered)}"
            )
    if registration.looks[0] < claims.fewest_seeds:
        raise StudyError(f"{where} looks: must be at least fewest_seeds = {claims.fewest_seeds}")


def _models(study: Study, registration: Registration) -> list[str]:
    return [name for name in study.models if registration.covers(name)]


def rule(claim: Claim, claims: Claims, registration: Registration) -> dict[str, Any]:
    """All that decides a verdict, as JSON values: the rules of the claims it needs, too."""
    over = {"over": claim.over} if claim.over else {}
    return over | {
        "only": claim.only,
        "horizon": claim.horizon,
        "fewest_seeds": claims.fewest_seeds,
        "tolerance": claims.tolerance,
        "looks": registration.looks,
        "level": registration.level,
        "models": registration.models,
        "parts": [part.model_dump(mode="json", exclude={"says"}) for part in claim.parts],
        "needs": {name: rule(claims.claim(name), claims, registration) for name in claim.needs},
    }


def says(
    claims: Claims, registration: Registration, study: Study, folder: Path
) -> dict[str, dict[str, dict]]:
    """What the rule of each registered claim says of the frozen tables: for each model (or all that
    it is over), truth and look the verdict, and each part's estimate (value, low, high) with six
    digits, or nothing where it has none.
    """
    found: dict[str, dict[str, dict]] = {name: {} for name in registration.claims}
    several = {name: claims.claim(name).over for name in found if claims.claim(name).over}
    points = list(itertools.product(registration.truths, registration.looks))
    each = {}

    def say(name: str, source: Source, truth: str, look: int) -> None:
        v = verdict(claims.claim(name), source, claims)
        said = {"word": v.word, "estimates": _estimates(v, registration.level)}
        found[name][f"{source.name}, {truth}, {look} seeds"] = said

    for model, point in itertools.product(_models(study, registration), points):
        each[model, point] = _source(study, model, point[0], registration, point[1], folder)
        for name in found:
            if name not in several:
                say(name, each[model, point], *point)
    for point in points:
        own = [source for (_, other), source in each.items() if other == point]
        for name, over in several.items():
            for source in conditions(own, over):
                say(name, source, *point)
    return found


def _estimates(v: Verdict, level: float) -> list[list[str] | None]:
    """The estimates of a verdict's parts, also where it was not allowed to look at them."""
    each = [o.estimate for o in v.outcomes] or [
        _attempt(part, v.source, level) for part in v.claim.parts
    ]
    return [e and [f"{number:.6g}" for number in e[:3]] for e in each]


def _attempt(part: Part, source: Source, level: float) -> Estimate | None:
    try:
        return estimated(part, source, level)
    except CannotSay:
        return None


def _source(
    study: Study, name: str, truth: str, registration: Registration, look: int, folder: Path
) -> Source:
    """A model's frozen tables of one truth, of the seeds of a look."""
    model = study.models[name]
    seeds = study.seeds[:look]
    tables = {}
    for path in sorted((folder / name / truth).glob("*.parquet")):
        table = pd.read_parquet(path)
        table = table[table["seed"].isin(seeds)].reset_index(drop=True)
        tables[path.stem] = table.assign(model=name)
    return Source(
        study=study.name,
        name=name,
        network=network_of(model),
        iterations=model.training.iterations,
        seeds=look,
        threshold=model.chaos.barrier_threshold if model.chaos else float("nan"),
        tables=tables,
        model=model,
        registration=registration,
        used=tuple(seeds),
    )


def parsed(text: str) -> dict[str, Any]:
    """What `registered.json` says. Raises `ValueError` if it does not say all of it."""
    said = json.loads(text)
    whole = isinstance(said, dict) and isinstance(said.get("study"), str)
    if not (whole and all(isinstance(said.get(key), dict) for key in ("tables", "claims"))):
        raise ValueError("study, tables or claims are missing")
    if not all(
        isinstance(c, dict) and {"rule", "says"} <= c.keys() for c in said["claims"].values()
    ):
        raise ValueError("a claim lacks its rule, or what it says")
    return said


def changed(
    name: str, claims: Claims, registration: Registration, file: Path, claims_file: Path
) -> str:
    """What is no longer as it was registered of the claim `name`: nothing (""), or in a few words.

    `file` is the published file of the study.
    """
    folder = folder_of(registration, claims_file)
    try:
        said = parsed((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{folder / FILE} is missing or damaged"
    if name not in said["claims"]:
        return f"{folder / FILE} does not have it"
    if said["study"] != sha256(file):
        return "the study's file is not the one that was registered"
    own = said["claims"][name]
    if told := differs(own["rule"], _json(rule(claims.claim(name), claims, registration))):
        return f"its rule has changed: {told}"
    tables = {p.relative_to(folder).as_posix(): sha256(p) for p in folder.rglob("*.parquet")}
    if tables != said["tables"]:
        odd = sorted(set(tables.items()) ^ set(said["tables"].items()))[0][0]
        return f"the frozen table {odd} has changed"
    key = tuple(said["tables"].values())
    now = _said(claims.model_dump_json(), registration.study, str(file), str(folder), key)[name]
    if told := differs(own["says"], now):
        return f"estimators say something else of the frozen tables: {told}"
    return ""


@lru_cache(maxsize=8)  # all claims and networks of a study ask for the same
def _said(claims: str, study: str, file: str, folder: str, tables: tuple[str, ...]) -> dict:
    """What is said of the frozen tables now; `tables` are their digests."""
    every = Claims.model_validate_json(claims)
    registration = next(r for r in every.registered if r.study == study)
    return says(every, registration, studyfile.load(file), Path(folder))


def differs(was: Any, now: Any, place: str = "") -> str:
    """Where two JSON values differ first, with both; numbers in texts may differ in their last
    digits.
    """
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            if told := differs(was.get(key), now.get(key), f"{place}.{key}".lstrip(".")):
                return told
        return ""
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        each = (differs(*pair, f"{place}.{i}") for i, pair in enumerate(zip(was, now, strict=True)))
        return next((told for told in each if told), "")
    return "" if was == now or _close(was, now) else f"{place} was {_short(was)}, is {_short(now)}"


def _close(was: Any, now: Any) -> bool:
    """Whether two texts are about the same number."""
    if not (isinstance(was, str) and isinstance(now, str)):
        return False
    try:
        return math.isclose(float(was), float(now), rel_tol=SAME, abs_tol=1e-9)
    except ValueError:
        return False


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))
