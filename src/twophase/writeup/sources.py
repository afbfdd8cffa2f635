"""What is published: the tables of each study's models, as the estimators read them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from twophase.estimators.seeds import LEVEL, CannotSay
from twophase.store.artifacts import read_table
from twophase.store.paths import MEASUREMENTS, Result
from twophase.study import networks, stages, studyfile
from twophase.study.model import Model, Study
from twophase.study.run import Run
from twophase.study.stages import published_name
from twophase.study.sweep import label
from twophase.writeup import equality, registered
from twophase.writeup.registered import Registration


class Tables(Mapping):
    """A model's published tables by name, read when asked for, all `seeds` together that have one;
    a study that lacks a section, or was published before it existed, lacks its tables.
    """

    def __init__(self, study: Study, model: str, folder: Path, seeds: list[int]) -> None:
        self.runs = [Run(study, model, seed) for seed in seeds]
        self.folder = folder
        self.read: dict[str, pd.DataFrame] = {}

    def _path(self, run: Run, table: str) -> Path:
        return self.folder / f"{published_name(run, table)}.parquet"

    def __iter__(self) -> Iterator[str]:
        for table in stages.STAGE_OF:
            if any(self._path(run, table).exists() for run in self.runs):
                yield table

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, table: str) -> pd.DataFrame:
        if table not in list(self):
            raise KeyError(table)
        if table not in self.read:
            each = [
                read_table(Result(self._path(run, table), stages.run_table(run, table).identity))
                for run in self.runs
                if self._path(run, table).exists()
            ]
            self.read[table] = pd.concat(each, ignore_index=True)
        return self.read[table]


@dataclass(frozen=True, eq=False)  # a source is equal to itself alone, and so can be a key
class Source:
    """One network of one study: what was set, and what was measured."""

    study: str
    name: str
    network: dict[str, object]  # the architecture, and options that differ from their default
    iterations: int
    seeds: int
    threshold: float  # barriers above it separate two runs, in nats
    tables: Mapping[str, pd.DataFrame]
    model: Model | None = None
    registration: Registration | None = None  # if the study and this model of it are registered
    withheld: str = ""  # why it has no tables, if a registered look has not been reached
    file: Path | None = None  # the study's
    used: tuple[int, ...] = ()  # the seeds, in the order of the study's file
    same_as: str = ""  # the source, if any, that has all these runs too: they count once
    conditions: Mapping[str, Source] = field(default_factory=dict)  # if it is of several models

    def table(self, name: str) -> pd.DataFrame:
        """A table; raises `CannotSay` if the study has none, or they are withheld."""
        if self.withheld:
            raise CannotSay(self.withheld)
        if name not in self.tables:
            raise CannotSay(f"has no table {name}")
        return self.tables[name]

    def at_seeds(self, used: tuple[int, ...]) -> Source:
        """The same with these of its seeds only."""
        if used == self.used:
            return self
        each = {name: self.tables[name] for name in self.tables}
        tables = {name: table[table["seed"].isin(used)] for name, table in each.items()}
        return replace(self, tables=tables, seeds=len(used), used=used)

    def level_of(self, claim: str) -> float:
        """The level of intervals for a claim."""
        own = self.registration
        return own.level if own and claim in own.claims else LEVEL


def published(folder: Path = MEASUREMENTS) -> list[tuple[Study, Path]]:
    """The published studies with the file of each, in the order of their names."""
    files = [p.parent / f"{p.parent.name}.yaml" for p in sorted(folder.glob("*/provenance.json"))]
    return [(studyfile.load(file), file) for file in files]


class Sweep(NamedTuple):
    """One network of a published study that has a sweep: its sources, by the values of the keys."""

    study: str
    name: str
    keys: str
    sources: dict[str, Source]


class Networks(NamedTuple):
    """All that is published: the models of studies without a sweep, those of sweeps, and the same
    by what is swept.
    """

    tested: list[Source]
    swept: list[Source]
    sweeps: list[Sweep]


def all_networks(folder: Path = MEASUREMENTS) -> Networks:
    """Each network of each published study. Tables are read, to find runs that are there twice."""
    known = published(folder)
    each = _all(known)
    of = [(study, [each[study.name, name] for name in study.models]) for study, _ in known]
    return Networks(
        [source for study, own in of if not study.sweep for source in own],
        [source for study, own in of if study.sweep for source in own],
        _sweeps([study for study, _ in known], each),
    )


def sources(folder: Path = MEASUREMENTS) -> list[Source]:
    """Each network of each published study, but for the models of sweeps."""
    return all_networks(folder).tested


def conditions(each: Iterable[Source], names: list[str]) -> list[Source]:
    """For each study the models whose names match one of `names`, as one source, if there are two
    of them or more.
    """
    found: dict[str, list[Source]] = {}
    for source in each:
        if any(fnmatchcase(source.name, name) for name in names):
            found.setdefault(source.study, []).append(source)
    return [_condition(own) for own in found.values() if len(own) > 1]


def _condition(own: list[Source]) -> Source:
    """Several models as one source. If they are registered, all of them must be, and have reached a
    look; then the seeds count that the first look which some have reached has.
    """
    withheld = next((source.withheld for source in own if source.withheld), "")
    registered = all(source.registration for source in own)
    used = min((source.used for source in own), key=len)
    if registered and not withheld:
        own = [source.at_seeds(used) for source in own]
    return replace(
        own[0],
        name=", ".join(source.name for source in own),
        network={},
        iterations=min(source.iterations for source in own),
        seeds=min(source.seeds for source in own),
        tables={},  # those of its conditions
        model=None,
        registration=own[0].registration if registered else None,
        withheld=withheld,
        used=used,
        same_as="",
        conditions={source.name: source for source in own},
    )


def _sweeps(studies: list[Study], each: Mapping[tuple[str, str], Source]) -> list[Sweep]:
    found: dict[tuple[str, str], Sweep] = {}
    for study in studies:
        for name, swept in study.sweep.items():
            new = Sweep(study.name, swept.of, ", ".join(swept.values), {})
            own = found.setdefault((study.name, swept.of), new)
            values = ", ".join(map(label, swept.values.values()))
            own.sources[values] = each[study.name, name]
    return list(found.values())


def network_of(model: Model) -> dict[str, object]:
    """A model's architecture, and its options that differ from their default."""
    options = model.network.options(exclude=networks.BESIDE)
    return {"architecture": model.network.architecture} | options


def registration_of(study: Study, file: Path) -> Registration | None:
    """The registration of a study whose published file this is."""
    return registered.read(file.parent.parent.parent / "claims.yaml").get(study.name)


def seeds_looked_at(study: Study, model: str, file: Path) -> tuple[list[int], str]:
    """The published seeds of a model that are looked at; of a registered one, why it is none if no
    look has been reached. A look is at the first seeds of the study.
    """
    there = [seed for seed in study.seeds if _is_there(Run(study, model, seed), file)]
    registration = registration_of(study, file)
    if registration is None or not registration.covers(model):
        return there, ""
    in_order = list(itertools.takewhile(lambda seed: seed in there, study.seeds))
    look = registration.look(len(in_order))
    if look is None:
        wanted = study.seeds[: registration.looks[0]]
        return [], f"{len(set(wanted) & set(there))} of {len(wanted)} seeds; not looked at"
    return study.seeds[:look], ""


def why_none(study: Study, file: Path) -> str:
    """Why nothing of a published study is drawn."""
    each = {name: seeds_looked_at(study, name, file)[1] for name in study.models}
    told = [f"{name}: {why}" for name, why in each.items() if why]
    return "; ".join(told) or "no tables that one is drawn from are published"


def _is_there(run: Run, file: Path) -> bool:
    return (file.parent / f"{published_name(run, 'training')}.parquet").exists()


def _all(known: list[tuple[Study, Path]]) -> dict[tuple[str, str], Source]:
    """Each model of these published studies, by the names of both."""
    each = {
        (study.name, name): _source(study, name, file)
        for study, file in known
        for name in study.models
    }
    same = equality.repeated({k: equality.runs(source.tables) for k, source in each.items()})
    return {
        key: replace(source, same_as=", ".join(same.get(key, ()))) for key, source in each.items()
    }


def _source(study: Study, name: str, file: Path) -> Source:
    model, registration = study.models[name], registration_of(study, file)
    used, withheld = seeds_looked_at(study, name, file)
    return Source(
        study=study.name,
        name=name,
        network=network_of(model),
        iterations=model.training.iterations,
        seeds=len(used),
        threshold=model.chaos.barrier_threshold if model.chaos else float("nan"),
        tables={} if withheld else Tables(study, name, file.parent, used),
        model=model,
        registration=registration if registration and registration.covers(name) else None,
        withheld=withheld,
        file=file,
        used=tuple(used),
    )
