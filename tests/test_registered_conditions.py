"""Registered claims over several models: as those on one, and of all of them together."""

import json

import numpy as np
import pytest
import registering
from conftest import ROOT, edit
from registering import PUBLISHED

from twophase.errors import StudyError
from twophase.store.artifacts import read_table
from twophase.study import studyfile
from twophase.writeup import (
    claims,
    frozen,
    quantities,
    registered,
    sources,
    standing,
    text,
    verdicts,
)

MODEL = "{network: {architecture: mlp, widths: [8]}, chaos: {forks: %s}}"
STUDY = f"""
title: Made up
data: {{images: {{source: digits, test_examples: 200}}, augmentation: {{shift: 1, flip: true}}}}
models:
  none: {MODEL % [0, 40, 60, 90, 130]}
  some: {MODEL % [0, 80, 120, 180, 260]}
  most: {MODEL % [0, 160, 240, 360, 520]}
  apart: {MODEL % [0, 40, 80]}
seeds: [7, 3, 4, 11, 5, 6, 8, 9]
training:
  {{iterations: 1000, batch_size: 32, lr: 0.02, momentum: 0.9, weight_decay: 0, lr_drops: []}}
evaluation: {{train_examples: 100, test_examples: 100}}
chaos:
  forks: [0, 10, 20]
  follow: [200, 400]
  directions: 1
  control: []
  perturbation: {{kind: std, size: 1e-7}}
  barrier_points: 5
  barrier_batch_norm: interpolate
  barrier_threshold: 0.1
kernel:
  {{every: 25, until: 1000, examples_per_class: 1, kind: full, references: [0], intervals: [25]}}
compute: {{device: cpu, threads: 1, precision: float32}}
"""
CLAIMS = """
fixed: "2026-01-01"
seen: []
fewest_seeds: 3
tolerance: 1.5
quoted: []
quoted_studies: []
registered:
  - study: made-up
    date: "2026-01-02"
    looks: [4, 8]
    level: 0.95
    models: [none, some, most]
    truths: [follows, stays, none]
    claims: [early, moves, follows]
claims:
  - id: early
    kind: ours
    claim: Early forks end behind a barrier.
    source: made up
    parts:
      - says: a barrier parts the first forks
        quantity: chaos
        at: {measure: test_barrier, t0: first, t1: last}
        holds: {above: 0.1}
  - id: moves
    kind: ours
    claim: The dose moves the end of chaos.
    source: made up
    over: [none, some, most]
    parts:
      - says: the last over the first
        quantity: chaos_times_ratio
        holds: {above: 1.5}
  - id: follows
    kind: ours
    claim: The kernel's time follows.
    source: made up
    over: [none, some, most]
    needs: [moves]
    parts:
      - says: slope
        quantity: kernel_follows
        at: {reading: entry}
        holds: {above: 0.5}
"""
MODELS = ("none", "some", "most")


@pytest.fixture
def world(in_tmp):
    """A checkout in which a study was registered, with its registration committed."""
    return registering.registered_in(in_tmp, STUDY, CLAIMS)


def publish(folder, model, seeds, truth="follows", **record):
    registering.publish(folder, model, seeds, truth, **record)


def judged():
    """The verdicts over several models, by claim."""
    found = standing.judged(claims.load(), sources.sources())
    return {v.claim.id: v for v in found if v.source.conditions}


def test_what_is_frozen_tells_a_kernel_that_follows_from_one_that_stays(world):
    said = json.loads((world / "paper/registration/made-up/registered.json").read_text())
    told = {name: own["says"] for name, own in said["claims"].items()}
    words = {
        (name, truth): told[name][f"none, some, most, {truth}, 8 seeds"]["word"]
        for name in ("moves", "follows")
        for truth in ("follows", "stays", "none")
    }
    assert words == {
        ("moves", "follows"): verdicts.REPLICATED,
        ("moves", "stays"): verdicts.REPLICATED,
        ("moves", "none"): verdicts.CANNOT_SAY,
        ("follows", "follows"): verdicts.REPLICATED,
        ("follows", "stays"): verdicts.NOT,
        ("follows", "none"): verdicts.CANNOT_SAY,
    }
    assert set(told["early"]) == {
        f"{model}, {truth}, {look} seeds"
        for model in MODELS
        for truth in ("follows", "stays", "none")
        for look in (4, 8)
    }
    # A claim on one model has the rule that it had before there were others.
    assert "over" not in said["claims"]["early"]["rule"]
    assert said["claims"]["follows"]["rule"]["over"] == list(MODELS)
    assert not (world / "paper/registration/made-up/apart").exists()


def test_it_is_withheld_until_all_models_have_reached_a_look(world, monkeypatch):
    for model in MODELS[:2]:
        publish(world, model, [7, 3, 4, 11])
    publish(world, "most", [7, 3, 4])

    def read(result):
        assert "most" not in str(result.path), "a withheld table was read"
        return read_table(result)

    monkeypatch.setattr(sources, "read_table", read)
    found = judged()
    assert {v.word for v in found.values()} == {verdicts.CANNOT_SAY}
    assert {v.why for v in found.values()} == {"3 of 4 seeds; not looked at"}
    assert not any(v.outcomes for v in found.values())
    every = standing.judged(claims.load(), sources.sources())
    assert [v.word for v in every if v.claim.id == "early"].count(verdicts.REPLICATED) == 2
    told = text.quoted(every, claims.load())
    compared = "- made-up, its networks compared: *3 of 4 seeds; not looked at*"
    assert told.count("not looked at") == told.count(compared) == 1
    told = text.answer([v for v in every if text.is_test(v)])
    assert compared in told
    assert "- made-up, most: *3 of 4 seeds; not looked at*" in told
    assert "- made-up, some: **replicated**: early " in told
    publish(world, "most", [11])
    monkeypatch.setattr(sources, "read_table", read_table)
    assert {v.word for v in judged().values()} == {verdicts.REPLICATED}


@pytest.mark.parametrize("truth", ["follows", "stays"])
def test_a_verdict_over_models_is_registered_as_one_on_a_model_is(world, truth):
    for model in MODELS:
        publish(world, model, [7, 3, 4, 11], truth)
    found = judged()
    assert {v.standing for v in found.values()} == {verdicts.REGISTERED}
    word = verdicts.REPLICATED if truth == "follows" else verdicts.NOT
    assert (found["moves"].word, found["follows"].word) == (verdicts.REPLICATED, word)
    assert found["follows"].outcomes[0].estimate.seeds == 4


def test_the_first_look_that_all_have_reached_counts(world):
    for model in MODELS:
        publish(world, model, [7, 3, 4, 11])
    before = judged()["follows"]
    publish(world, "some", [5, 6, 8, 9])
    after = judged()["follows"]
    assert after.source.seeds == 4
    assert after.source.used == (7, 3, 4, 11)
    assert after.outcomes == before.outcomes
    assert after.standing == verdicts.REGISTERED


def test_one_seed_of_one_model_that_began_otherwise_makes_it_exploratory(world):
    for model in MODELS:
        publish(world, model, [7, 3, 4, 11])
    publish(world, "some", [4], changed=["src/a.py"])
    found = judged()["follows"]
    assert found.standing == verdicts.EXPLORATORY
    assert found.because == (
        "some, seed 4 began with files that are not in its commit: src/a.py"
    )  # fmt: skip
    (world / PUBLISHED / "most/seed3/record.json").unlink()
    publish(world, "some", [4])
    assert judged()["follows"].because == "most, seed 3 has no record of when it began"


def test_other_models_or_another_answer_of_an_estimator_make_it_exploratory(world, monkeypatch):
    for model in MODELS:
        publish(world, model, [7, 3, 4, 11])
    file = world / "paper/claims.yaml"
    good = file.read_text()
    file.write_text(good.replace("over: [none, some, most]", "over: [none, most]"))
    assert judged()["follows"].because.startswith("its rule has changed: over was ")
    file.write_text(good.replace("holds: {above: 1.5}", "holds: {above: 1.2}"))
    assert judged()["follows"].because == (
        "its rule has changed: needs.moves.parts.0.holds.above was 1.5, is 1.2"
    )
    file.write_text(good)
    follows = quantities.QUANTITIES["kernel_follows"]

    def other(conditions, reading, level):
        found = follows(conditions, reading, level)
        return found._replace(value=1.01 * found.value)

    monkeypatch.setitem(quantities.QUANTITIES, "kernel_follows", other)
    frozen._said.cache_clear()
    found = judged()
    frozen._said.cache_clear()
    assert found["follows"].because.startswith(
        "estimators say something else of the frozen tables: none, some, most, follows, 4 seeds"
    )
    assert found["moves"].standing == verdicts.REGISTERED


def test_a_registered_claim_must_be_over_two_models_that_are_registered(world):
    for old, new in (
        ("over: [none, some, most]", "over: [none, apart]"),
        ("models: [none, some, most]", "models: [none, apart]"),
    ):
        file = world / "paper/claims.yaml"
        good = file.read_text()
        file.write_text(good.replace(old, new))
        with pytest.raises(StudyError, match="must name two models or more of none, "):
            frozen.register("made-up", claims.load())
        file.write_text(good)
    edit(world / "paper/claims.yaml", "truths: [follows,", "truths: [followed,")
    with pytest.raises(StudyError, match="truths.0.*must be 'one', 'two'"):
        claims.load()


@pytest.mark.parametrize("table", ["chaos", "kernel_distance"])
def test_what_is_no_number_leaves_a_registered_claim_undecided(table):
    """Rules of `cifar10-covary` skip no run and put nothing in its place."""
    file = ROOT / "paper/claims.yaml"
    rules, own = claims.load(file), registered.read(file)["cifar10-covary"]
    study = studyfile.load(ROOT / "workflow/config/cifar10-covary.yaml")
    assert {model.chaos.directions for model in study.models.values()} == {1}
    folder, each = frozen.folder_of(own, file), []
    for name in ("base", "warm-2000", "gelu-average"):
        source = frozen._source(study, name, "follows", own, 8, folder)
        rows = source.tables[table].copy()
        lost = rows["seed"] == study.seeds[3]
        if table == "chaos":  # of the first fork, all comparisons
            rows.loc[lost & (rows["t0"] == rows["t0"].min()), "test_barrier"] = np.nan
        else:
            rows.loc[lost & (rows["t"] != rows["u"]), "distance"] = np.nan
        source.tables[table] = rows
        each.append(source)
    of_forks = {"barrier", "chaos_horizon_ratio", "chaos_times_ratio", "share"}
    judged = 0
    for name in own.claims:
        claim = rules.claim(name)
        quantities_ = {part.quantity for part in claim.parts}
        if "kernel_follows" in quantities_ or (table == "chaos") == bool(quantities_ & of_forks):
            for source in sources.conditions(each, claim.over) if claim.over else each:
                found = verdicts.verdict(claim, source, rules)
                assert found.word == verdicts.CANNOT_SAY, (name, source.name)
                judged += 1
    assert judged > 8
