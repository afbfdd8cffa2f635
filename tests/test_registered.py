"""Registered verdicts: rules before runs, looks before numbers, and nothing that changes unseen."""

import inspect
import json
import shutil

import pytest
import registering
from conftest import ROOT, edit
from registering import FILE, PUBLISHED, commit, git, register

from twophase.errors import StudyError
from twophase.estimators.seeds import CannotSay, Estimate
from twophase.figures import style
from twophase.store import history
from twophase.store.artifacts import sha256
from twophase.study import beginning, studyfile
from twophase.study.base import base_state
from twophase.study.run import Run
from twophase.writeup import (
    beside,
    claims,
    frozen,
    methods,
    parts,
    quantities,
    registered,
    simulated,
    sources,
    standing,
    text,
    verdicts,
    views,
)

STUDY = """
title: Made up
data:
  images: {source: digits, test_examples: 200}
  augmentation: {shift: 1, flip: true}
models:
  net:
    network: {architecture: resnet8}
seeds: [7, 3, 4, 11, 5]
training:
  iterations: 600
  batch_size: 32
  lr: 0.02
  momentum: 0.9
  weight_decay: 1e-4
  lr_drops: []
evaluation: {train_examples: 100, test_examples: 100}
chaos:
  forks: [0, 10, 25, 50, 100, 300]
  compare: [300, 600]
  directions: 1
  control: [0]
  perturbation: {kind: std, size: 1e-7}
  barrier_points: 5
  barrier_batch_norm: interpolate
  barrier_threshold: 0.1
kernel:
  every: 20
  until: 600
  examples_per_class: 1
  kind: full
  references: [0]
  intervals: [20, 40]
compute: {device: cpu, threads: 1, precision: float32}
"""
CLAIMS = """
fixed: "2026-01-01"
seen: [other]
fewest_seeds: 3
tolerance: 1.5
quoted: [early]
quoted_studies: [made-up]
registered:
  - study: made-up
    date: "2026-01-02"
    looks: [3, 5]
    level: 0.95
    claims: [early, late]
claims:
  - id: early
    kind: abstract
    claim: Early forks end behind a barrier.
    source: made up
    parts:
      - says: a barrier parts the first forks
        quantity: chaos
        at: {measure: test_barrier, t0: first, t1: last}
        holds: {above: 0.1}
  - id: late
    kind: abstract
    claim: Late forks agree with their base run.
    source: made up
    needs: [early]
    fixed: "2026-01-02"
    seen: []
    parts:
      - says: disagreement of the last forks
        quantity: chaos
        at: {measure: disagreement, t0: last, t1: last}
        holds: {below: 0.5}
  - id: free
    kind: abstract
    claim: Early forks disagree with their base run, which is not registered.
    source: made up
    parts:
      - says: disagreement of the first forks
        quantity: chaos
        at: {measure: disagreement, t0: first, t1: last}
        holds: {above: 0.1}
"""


@pytest.fixture
def world(in_tmp):
    """A checkout in which a study was registered, with its registration committed."""
    frozen._said.cache_clear()  # of another test, which changed an estimator
    return registering.registered_in(in_tmp, STUDY, CLAIMS)


def publish(folder, *seeds, truth="one", **record):
    registering.publish(folder, "net", seeds, truth, **record)


def judged():
    """Verdicts by claim, of the one source there is."""
    found = standing.judged(claims.load(), sources.sources())
    return {v.claim.id: v for v in found}


def test_before_a_look_nothing_is_read_and_nothing_is_said(world, monkeypatch):
    publish(world, 7, 4, 5)  # three of five, but the second of the study's first three is not there
    assert not (world / PUBLISHED / "net/seed3").exists()

    def read(*_):
        raise AssertionError("a withheld table was read")

    monkeypatch.setattr(sources, "read_table", read)
    monkeypatch.setattr("twophase.writeup.views.read_table", read)
    (source,) = sources.sources()
    assert source.withheld == "2 of 3 seeds; not looked at"
    assert len(source.tables) == 0
    found = judged()
    assert {v.word for v in found.values()} == {verdicts.CANNOT_SAY}
    assert not any(v.outcomes for v in found.values())
    for quantity in quantities.QUANTITIES.values():
        taken = inspect.signature(quantity).parameters
        course = {"table": "chaos", "column": "l2", "along": "t0", "where": {}}
        values = course | {"measure": "test_barrier", "after": 100, "one": course, "other": course}
        values |= dict.fromkeys(("of", "over", "less"), {})
        values["conditions"] = dict.fromkeys("abc", source)
        values["source"] = source
        given = {name: values.get(name, "last") for name in taken if name != "level"}
        with pytest.raises(CannotSay, match="^2 of 3 seeds; not looked at$"):
            quantity(**given)
    study, file = sources.published()[0]
    for shown in (methods.settings([source]), parts.controls(source), parts.transitions(source)):
        assert "2 of 3 seeds; not looked at" in shown
    assert "<td" not in parts.beyond(source)
    assert parts.growth(source) == ""
    assert beside.drawn(study, file) == []
    assert sources.why_none(study, file) == "net: 2 of 3 seeds; not looked at"
    rules = claims.load()
    told = text.details(list(found.values()), rules)
    assert told.count("<i>2 of 3 seeds; not looked at</i>") == 3
    readme = text.quoted(list(found.values()), rules)
    assert readme.count("net: *2 of 3 seeds; not looked at*") == 1  # once for all claims
    assert "cannot say yet" not in readme
    assert "[" not in readme


@pytest.mark.parametrize(
    ("there", "used"),
    [
        ([7, 3, 4], [7, 3, 4]),
        ([7, 3, 4, 11], [7, 3, 4]),
        ([7, 3, 4, 5], [7, 3, 4]),
        ([7, 3, 4, 11, 5], [7, 3, 4, 11, 5]),
        ([7, 3, 11, 5], []),
        ([], []),
    ],
)
def test_a_look_is_at_the_first_seeds_of_the_study(world, there, used):
    publish(world, *there)
    (source,) = sources.sources()
    assert list(source.used) == used
    assert source.seeds == len(used)
    assert bool(source.withheld) == (not used)
    if used:
        assert set(source.table("chaos")["seed"]) == set(used)
        assert quantities.chaos(source, "test_barrier", "first", "last").seeds == len(used)
        study, file = sources.published()[0]
        names = [name for name, _, _ in beside.drawn(study, file)]
        assert {"fig2", "fig3", "fig4", "answer"} <= set(names)


def test_figures_show_the_seeds_of_the_look_and_no_others(world):
    publish(world, 7, 3, 4)
    study, file = sources.published()[0]
    at_the_look = beside.drawn(study, file)
    publish(world, 11)
    assert beside.drawn(study, file) == at_the_look
    publish(world, 5)
    assert beside.drawn(study, file) != at_the_look


def test_the_answer_is_of_the_look_and_says_what_the_tables_do(world):
    publish(world, 7, 3)
    assert text.answer(list(judged().values())) == ("- made-up, net: *2 of 3 seeds; not looked at*")
    publish(world, 4, 5)  # one more than the look is at
    study, file = sources.published()[0]
    (source,) = sources.sources()
    part, drawn = views.shown(study, file, world)
    marks = style.transitions(part, drawn["answer"])["net"]
    assert list(marks["chaos"].each.index) == list(marks["cone"].each.index) == [3, 4, 7]
    assert marks["chaos"].mean == quantities.chaos_time(source)
    assert marks["cone"].mean == quantities.entry_time(source)
    half = style.transitions(part, drawn["answer"], half=True)["net"]
    assert (half["chaos"].horizon, half["cone"].horizon) == (300, 300)
    told = text.answer(list(judged().values()))
    assert "not looked at" not in told
    assert told.startswith("- made-up, net: **replicated**: early ")


def test_a_verdict_is_registered_if_its_rule_was_there_before_the_seeds_began(world):
    publish(world, 7, 3, 4)
    found = judged()
    assert {name: v.standing for name, v in found.items()} == {
        "early": verdicts.REGISTERED, "late": verdicts.REGISTERED, "free": verdicts.EXPLORATORY,
    }  # fmt: skip
    assert found["early"].word == found["late"].word == verdicts.REPLICATED
    assert not any(v.because for v in found.values())
    # Later commits, and other claims that join the registration, change nothing.
    edit(world / "paper/claims.yaml", "claims: [early, late]", "claims: [early, late, free]")
    register()
    commit(world)
    found = judged()
    assert found["early"].standing == verdicts.REGISTERED
    assert found["free"].standing == verdicts.EXPLORATORY
    assert found["free"].because == "seed 7 began before this was registered"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"commit": "HEAD~1"}, "seed 3 began before this was registered"),
        ({"commit": "0" * 40}, "seed 3 began at a commit that is not in this history"),
        ({"commit": None}, "seed 3 began outside of a git checkout"),
        ({"changed": ["src/a.py"]}, "seed 3 began with files that are not in its commit: src/a.py"),
        ({"study": "0" * 64}, "seed 3 began with another study file"),
    ],
)
def test_one_seed_that_began_otherwise_makes_it_exploratory(world, record, why):
    publish(world, 7, 4)
    if str(record.get("commit")).startswith("HEAD"):
        record = {"commit": git(world, "rev-parse", record["commit"])}
    publish(world, 3, **record)
    found = judged()["early"]
    assert (found.standing, found.because) == (verdicts.EXPLORATORY, why)
    assert found.word == verdicts.REPLICATED
    shown = text.quoted([found], claims.load())
    assert f"- *early*, made-up, net: exploratory, for {why}" in shown
    (world / PUBLISHED / "net/seed3/record.json").unlink()
    assert judged()["early"].because == "seed 3 has no record of when it began"


def test_a_commit_on_a_branch_that_was_left_is_not_in_the_history(world):
    git(world, "checkout", "-qb", "other")
    left = commit(world)
    git(world, "checkout", "-q", "-")
    publish(world, 7, 3, 4, commit=left)
    assert judged()["early"].because == "seed 7 began at a commit that is not in this history"


def test_without_a_history_the_order_is_not_checked(world):
    publish(world, 7, 3, 4)
    shutil.rmtree(world / ".git")
    found = judged()["early"]
    assert found.standing == verdicts.UNCHECKED
    assert found.because == history.NO_HISTORY
    assert text.is_test(found)
    assert verdicts.UNCHECKED in text.details([found], claims.load())


def test_what_changes_afterwards_makes_it_exploratory(world, monkeypatch):
    publish(world, 7, 3, 4)

    def because(name="early"):
        found = judged()[name]
        assert (found.standing == verdicts.REGISTERED) == (found.because == "")
        return found.because

    def changing(file, old, new):
        before = (world / file).read_text()
        edit(world / file, old, new)
        told = because()
        (world / file).write_text(before)
        assert because() == ""
        return told

    # A rule: its own, one that holds for all, and, of another claim, the one that it needs.
    rule = "its rule has changed: "
    assert (
        changing("paper/claims.yaml", "holds: {above: 0.1}", "holds: {above: 0.2}")
        == f"{rule}parts.0.holds.above was 0.1, is 0.2"
    )
    assert changing("paper/claims.yaml", "looks: [3, 5]", "looks: [3, 4]").startswith(
        f"{rule}looks"
    )
    assert (
        changing("paper/claims.yaml", "fewest_seeds: 3", "fewest_seeds: 2")
        == f"{rule}fewest_seeds was 3, is 2"
    )
    text_ = (world / "paper/claims.yaml").read_text()
    edit(world / "paper/claims.yaml", "holds: {above: 0.1}", "holds: {above: 0.2}")
    assert because("late") == f"{rule}needs.early.parts.0.holds.above was 0.1, is 0.2"
    (world / "paper/claims.yaml").write_text(text_)
    # Words are no rule.
    assert changing("paper/claims.yaml", "a barrier parts the", "the barrier parts the") == ""
    # The study, its frozen tables, what was frozen of them.
    assert changing(f"{PUBLISHED}/made-up.yaml", "title: Made up", "title: Up") == (
        "the study's file is not the one that was registered"
    )
    folder = world / "paper/registration/made-up"
    table = folder / "net/one/chaos.parquet"
    content = table.read_bytes()
    table.write_bytes((folder / "net/two/chaos.parquet").read_bytes())
    assert because() == "the frozen table net/one/chaos.parquet has changed"
    table.write_bytes(content)
    # An estimator: by what it says, not by how it is written.
    chaos = quantities.QUANTITIES["chaos"]

    def times(factor):
        def other(source, measure, t0, t1):
            found = chaos(source, measure, t0, t1)
            return Estimate(*(factor * value for value in found[:3]), found.seeds)

        monkeypatch.setitem(quantities.QUANTITIES, "chaos", other)
        frozen._said.cache_clear()
        return because()

    assert times(1 + 1e-9) == ""
    said = "estimators say something else of the frozen tables: net, one, 3 seeds.estimates.0.0"
    assert times(1.001).startswith(said)
    monkeypatch.undo()


def test_who_registers_again_after_a_seed_began_has_an_exploratory_verdict(world):
    publish(world, 7, 3, 4)
    edit(world / "paper/claims.yaml", "holds: {above: 0.1}", "holds: {above: 0.05}")
    register()
    commit(world)
    assert judged()["early"].because == (
        "seed 7 began when something else was registered: early: rule.parts.0.holds.above was "
        "0.1, is 0.05"
    )


def test_a_claim_is_judged_only_where_those_it_needs_are_replicated(world):
    publish(
        world, 7, 3, 4, truth="none"
    )  # no barrier at all: a late one is below, and says nothing
    found = judged()
    assert found["early"].word == verdicts.NOT
    assert found["late"].word == verdicts.CANNOT_SAY
    assert found["late"].why == "no time to compare: early is not replicated here"


def test_a_claim_has_dates_of_its_own(world):
    publish(world, 7, 3, 4)
    rules = claims.load()
    assert rules.seen_by(rules.claim("early")) == ["other"]
    assert rules.seen_by(rules.claim("late")) == []


def test_what_is_frozen_is_made_again_alike_and_tells_truths_apart(world):
    first = json.loads(register().read_text())
    assert json.loads(register().read_text()) == first
    says = first["claims"]["early"]["says"]
    words = {truth: says[f"net, {truth}, 5 seeds"]["word"] for truth in simulated.OF_ONE}
    assert words == {truth: verdicts.NOT if truth == "none" else verdicts.REPLICATED
                     for truth in simulated.OF_ONE}  # fmt: skip
    size = sum(p.stat().st_size for p in (world / "paper/registration").rglob("*.parquet"))
    assert size < 200_000


def test_mistakes_in_a_registration_are_one_line(world):
    file = world / "paper/claims.yaml"
    good = file.read_text()
    for old, new, told in (
        ("looks: [3, 5]", "looks: [5, 3]", "looks must rise"),
        ("looks: [3, 5]", "looks: [3, 4]", "looks: the last is 4; must be 5"),
        ("looks: [3, 5]", "looks: [2, 5]", "looks: must be at least fewest_seeds = 3"),
        ("looks: [3, 5]", "models: [other]\n    looks: [3, 5]", "models: other is none of"),
        ("claims: [early, late]", "claims: [early, lat]", "lat is none"),
        ("claims: [early, late]", "claims: [late]", "needs early; register both"),
        ("needs: [early]", "needs: [free]", "late: needs: must be ids of claims above it"),
        ("study: made-up", "study: other", "made-up is not there"),
        ("level: 0.95", "level: 95", "level"),
        ('date: "2026-01-02"', 'date: "2.1.2026"', "registered.0.date = '2.1.2026': must be a day"),
        ('fixed: "2026-01-01"', 'fixed: "2026-13-01"', "fixed = '2026-13-01': must be a day"),
    ):
        edit(file, old, new)
        with pytest.raises(StudyError) as error:
            register()
        assert told in str(error.value)
        assert all(line.startswith("paper/claims.yaml:") for line in str(error.value).splitlines())
        file.write_text(good)


def test_a_record_is_written_once_and_only_at_the_beginning(world, monkeypatch):
    monkeypatch.setattr(beginning, "CODE", world)
    monkeypatch.setattr(history, "CODE", world)
    study = studyfile.load(world / FILE)
    run = Run(study, "net", 7)
    beginning.begin(run, world / FILE)
    record = beginning.record_file(run)
    first = json.loads(record.read_text())
    assert first["commit"] == git(world, "rev-parse", "HEAD")
    assert first["study"] == sha256(world / FILE)
    # The results are not in the commit of this made-up checkout, which is all code.
    assert [name for name in first["changed"] if not name.startswith("results/")] == []
    edit(world / FILE, "title: Made up", "title: Made  up")
    beginning.begin(run, world / FILE)
    assert json.loads(record.read_text()) == first
    other = Run(study, "net", 3)
    beginning.begin(other, world / FILE)
    assert FILE in json.loads(beginning.record_file(other).read_text())["changed"]
    (world / "paper/registration/new").write_text("")
    third = Run(study, "net", 4)
    beginning.begin(third, world / FILE)
    said = json.loads(beginning.record_file(third).read_text())
    assert "paper/registration/new" in said["changed"]
    # Of a run that is there, it is not known when it began.
    late = Run(study, "net", 11)
    state = base_state(late, 0).path
    state.parent.mkdir(parents=True)
    state.touch()
    beginning.begin(late, world / FILE)
    assert not beginning.record_file(late).exists()


@pytest.fixture
def code(world, monkeypatch):
    """A checkout with a file of code, and what differs from its commit."""
    (world / "src/twophase").mkdir(parents=True)
    (world / "src/twophase/a.py").write_text("")
    monkeypatch.setattr(beginning, "CODE", world / "src/twophase")
    monkeypatch.setattr(history, "CODE", world / "src/twophase")
    commit(world)
    study = studyfile.load(world / FILE)
    assert beginning.changed(study, world / FILE) == []
    return lambda: beginning.changed(study, world / FILE)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_is_told_not_to_look_at_is_not_in_the_commit(world, code, flag):
    git(world, "update-index", flag, "src/twophase/a.py")
    (world / "src/twophase/a.py").write_text("1")
    assert code() == ["src/twophase/a.py"]


def test_a_name_that_is_not_utf8_hides_no_edit(world, code):
    (world / "src/twophase/a.py").write_text("1")
    with open(bytes(world / "src/twophase") + b"/x\xe4.py", "w"):
        pass
    assert code() == ["src/twophase/a.py", r"src/twophase/x\xe4.py"]


def test_where_a_link_leads_counts(world, code):
    (world / "studies").mkdir()
    (world / FILE).rename(world / "studies/made-up.yaml")
    (world / FILE).symlink_to("../../studies/made-up.yaml")
    commit(world)
    assert code() == []
    edit(world / "studies/made-up.yaml", "title: Made up", "title: Made  up")
    assert code() == ["studies/made-up.yaml"]


def test_where_git_cannot_say_nothing_is_known_to_be_in_the_commit(world, code):
    (world / ".git/index").write_bytes(b"damaged")
    assert str(world / FILE) in code()
    assert str(world / "src/twophase") in code()


@pytest.mark.parametrize(
    "text", ["[]", "null", "{}", '{"commit": 5, "changed": [], "study": ""}', '{"commit": null}']
)
def test_a_damaged_record_is_none(world, text):
    publish(world, 7, 3, 4)
    (world / PUBLISHED / "net/seed3/record.json").write_text(text)
    found = judged()["early"]
    assert found.standing == verdicts.EXPLORATORY
    assert found.because == "seed 3 has no record of when it began"


@pytest.mark.parametrize("text", ["[]", "{}", "5", '{"study": "", "tables": {}, "claims": []}'])
def test_a_damaged_registration_is_told(world, text):
    file = world / "paper/registration/made-up/registered.json"
    good = file.read_text()
    file.write_text(text)
    commit(world)
    publish(world, 7, 3, 4)
    assert judged()["early"].because.endswith("registered.json is missing or damaged")
    file.write_text(good)  # mended after the seeds began
    assert judged()["early"].because == "seed 7 began before this was registered"


def test_registered_studies_of_this_checkout_are_as_they_were_registered():
    file = ROOT / "paper/claims.yaml"
    rules = claims.load(file)
    for own in rules.registered:
        study = ROOT / f"workflow/config/{own.study}.yaml"
        for name in own.claims:
            assert frozen.changed(name, rules, own, study, file) == ""


def test_registrations_of_this_checkout_came_before_the_runs_that_are_published():
    file = ROOT / "paper/claims.yaml"
    rules = claims.load(file)
    assert registered.read(file).keys() == {own.study for own in rules.registered}
    for study, published in sources.published(ROOT / "paper/measurements"):
        own = sources.registration_of(study, published)
        for path in published.parent.rglob("record.json") if own else []:
            if own.covers(path.parent.parent.name):
                for name in own.claims:
                    why = standing.before(name, own, json.loads(path.read_text()), file)
                    assert why in ("", history.NO_HISTORY), path
