"""What is published: the tables of each study's models, as the estimators read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from twophase.estimators.seeds import CannotSay
from twophase.store.artifacts import read_table
from twophase.store.paths import MEASUREMENTS, Result
from twophase.study import networks, stages, studyfile
from twophase.study.model import Model, Study
from twophase.study.run import Run
from twophase.study.stages import published_name
from twophase.study.sweep import label


class Tables(Mapping):
    """A model's published tables by name, read when asked for, all seeds together that have one; a
    study that lacks a section, or was published before it existed, lacks its tables.
    """

    def __init__(self, study: Study, model: str, folder: Path) -> None:
        self.runs = [Run(study, model, seed) for seed in study.seeds]
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

    def table(self, name: str) -> pd.DataFrame:
        """A table; raises `CannotSay` if the study has none."""
        if name not in self.tables:
            raise CannotSay(f"has no table {name}")
        return self.tables[name]


def published(folder: Path = MEASUREMENTS) -> list[tuple[Study, Path]]:
    """The published studies with the file of each, in the order of their names."""
    files = [p.parent / f"{p.parent.name}.yaml" for p in sorted(folder.glob("*/provenance.json"))]
    return [(studyfile.load(file), file) for file in files]


def sources(folder: Path = MEASUREMENTS) -> list[Source]:
    """Each network of each published study, but for the models of sweeps (see `sweeps`)."""
    return [
        _source(study, name, file)
        for study, file in published(folder)
        if not study.sweep
        for name in study.models
    ]


class Sweep(NamedTuple):
    """One network of a published study that has a sweep: its sources, by the values of the keys."""

    study: str
    name: str
    keys: str
    sources: dict[str, Source]


def sweeps(folder: Path = MEASUREMENTS) -> list[Sweep]:
    """Each network that a published study sweeps options of."""
    found: dict[tuple[str, str], Sweep] = {}
    for study, file in published(folder):
        for name, swept in study.sweep.items():
            new = Sweep(study.name, swept.of, ", ".join(swept.values), {})
            own = found.setdefault((study.name, swept.of), new)
            values = ", ".join(map(label, swept.values.values()))
            own.sources[values] = _source(study, name, file)
    return list(found.values())


def _source(study: Study, name: str, file: Path) -> Source:
    model = study.models[name]
    return Source(
        study=study.name,
        name=name,
        network={"architecture": model.network.architecture}
        | model.network.options(exclude=networks.BESIDE),
        iterations=model.training.iterations,
        seeds=len(study.seeds),
        threshold=model.chaos.barrier_threshold if model.chaos else float("nan"),
        tables=Tables(study, name, file.parent),
        model=model,
    )
