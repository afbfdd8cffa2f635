"""Quantities of any table, and claims over several models of a study."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT

from twophase.errors import StudyError
from twophase.estimators.seeds import CannotSay
from twophase.writeup import claims, selections, sources, verdicts

T0, SEEDS = [0, 10, 20, 40, 80], range(4)


def made_up(name="net", scale=1.0, study="made-up", seeds=SEEDS, **more):
    """A barrier of `scale` times 80 − t0, and seed for seed a tenth more; controls have none."""
    index = pd.MultiIndex.from_product(
        [seeds, ["1", "2", "control"], T0], names=["seed", "direction", "t0"]
    )
    chaos = index.to_frame(index=False).assign(model=name, t1=100)
    barrier = scale * (80 - chaos["t0"]) * (1 + chaos["seed"] / 10)
    chaos["test_barrier"] = barrier * (chaos["direction"] != "control")
    speed = pd.DataFrame({"seed": s, "model": name, "t": t, "velocity": 1 / (1 + t)}
                         for s in seeds for t in (0, 20, 40, 80, 90))  # fmt: skip
    tables = {"chaos": chaos, "cone": speed}
    return sources.Source(study, name, {}, 600, len(seeds), 0.1, tables, **more)


BARRIER = {"table": "chaos", "column": "test_barrier"}


def test_a_selection_is_averaged_for_each_seed_without_controls():
    found = selections.measured(made_up(), **BARRIER, where={"t0": "first"})
    each = 80 * (1 + np.arange(4) / 10)
    assert found.value == pytest.approx(each.mean())
    assert found.seeds == 4
    controls = selections.measured(made_up(), **BARRIER, where={"direction": "contr*"})
    assert controls[:3] == (0, 0, 0)
    middle = selections.measured(made_up(), **BARRIER, where={"t0": {"from": 10, "to": 20}})
    assert middle.value == pytest.approx(65 / 80 * each.mean())


def test_a_difference_and_a_ratio_are_seed_by_seed():
    two = {"where": {"direction": "1"}, "of": {"t0": 40}}
    ratio = selections.ratio(made_up(), **BARRIER, **two, over={"t0": 0})
    assert ratio[:3] == pytest.approx((0.5, 0.5, 0.5))  # exactly, in each seed
    less = selections.difference(made_up(), **BARRIER, **two, less={"t0": 0})
    assert less.value == pytest.approx(-40 * 1.15)
    with pytest.raises(CannotSay, match="test_barrier is 0 in a seed"):
        selections.ratio(made_up(), **BARRIER, **two, over={"t0": "last"})


def test_a_share_is_of_rows_above_a_number():
    found = selections.share(made_up(), **BARRIER, where={}, above=0)
    assert found.value == pytest.approx(0.8)  # all t0 but the last


def test_courses_are_ranked():
    where = {"along": "t0", "where": {}}
    assert selections.trend(made_up(), **BARRIER, **where).value == pytest.approx(-1)
    speed = {"table": "cone", "column": "velocity", "along": "t", "where": {}}
    assert selections.together(made_up(), BARRIER | where, speed).value == pytest.approx(1)
    with pytest.raises(CannotSay, match="fewer than 4 points"):
        selections.trend(made_up(), **BARRIER, along="t1", where={})


@pytest.mark.parametrize(
    ("table", "column", "where", "why"),
    [
        ("chaos", "barier", {}, "table chaos has no column barier"),
        ("chaos", "test_barrier", {"t0": 7}, "table chaos has nothing at t0 = 7"),
        ("growth", "l2", {}, "has no table growth"),
        ("chaos", "direction", {}, "column direction of table chaos holds no numbers"),
    ],
)
def test_what_is_not_there_is_named(table, column, where, why):
    with pytest.raises(CannotSay, match=why):
        selections.measured(made_up(), table, column, where)


def rules(tmp_path, *entries):
    raw = yaml.safe_load((ROOT / "paper/claims.yaml").read_text())
    raw |= {"claims": list(entries), "registered": [], "quoted": []}
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump(raw))
    return claims.load(file)


WIDER = {
    "id": "wider-parts-less",
    "kind": "ours",
    "claim": "Wider networks part less.",
    "source": "nowhere",
    "over": ["narrow", "w*"],
    "parts": [
        {
            "says": "barrier of the wide over that of the narrow",
            "quantity": "ratio",
            "at": BARRIER
            | {"where": {"t0": 0}, "of": {"model": "wide"}, "over": {"model": "narrow"}},
            "holds": {"below": 0.8},
        }
    ],
}


def test_a_claim_over_models_has_one_verdict_for_each_study_that_has_them(tmp_path):
    each = [made_up("narrow", 2.0), made_up("other"), made_up("wide", 1.0)]
    alone = [made_up("wide", study="another")]
    [found] = verdicts.verdicts(rules(tmp_path, WIDER), each, swept=alone)
    assert (found.word, found.source.name) == ("replicated", "narrow, wide")
    assert found.outcomes[0].estimate.value == pytest.approx(0.5)
    [swept] = verdicts.verdicts(rules(tmp_path, WIDER), alone, swept=each)
    assert swept.word == "replicated"


def test_conditions_that_are_withheld_stay_so(tmp_path):
    each = [made_up("narrow", 2.0), made_up("wide", withheld="1 of 8 seeds; not looked at")]
    [found] = verdicts.verdicts(rules(tmp_path, WIDER), each)
    assert (found.why, found.outcomes) == ("1 of 8 seeds; not looked at", [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quantity": "covariation", "at": {"reading": "spede"}}, "at.reading: must be 'entry' or"),
        ({"quantity": "trend", "at": BARRIER | {"where": {}}}, "at must give along, column, table"),
        (
            {"at": WIDER["parts"][0]["at"] | {"table": "caos"}},
            "at.table: must be a table: ",
        ),
    ],
)
def test_a_part_that_asks_wrongly_is_refused_by_key(tmp_path, change, said):
    part = WIDER["parts"][0] | change
    with pytest.raises(StudyError, match=said):
        rules(tmp_path, WIDER | {"parts": [part]})


def test_a_quantity_of_conditions_asks_for_a_claim_over_models(tmp_path):
    part = {"says": "slope", "quantity": "covariation", "at": {"reading": "entry"}}
    alone = {key: value for key, value in WIDER.items() if key != "over"}
    with pytest.raises(StudyError, match="over must name models: covariation compares them"):
        rules(tmp_path, alone | {"parts": [part | {"holds": {"above": 0.5}}]})


def test_a_quantity_of_one_model_is_not_of_several_as_if_they_were_one(tmp_path):
    part = {"says": "when", "quantity": "chaos_time", "holds": {"below": 9}}
    with pytest.raises(StudyError, match="over must be left out: chaos_time is of one model"):
        rules(tmp_path, WIDER | {"parts": [part]})


def test_each_of_several_models_ends_at_its_own_drop():
    """Rates of different models are no drop, and a drop of one is none of the others."""

    def own(name, t, lr):
        found = made_up(name)
        rates = pd.DataFrame({"seed": 0, "model": name, "t": t, "lr": lr})
        return replace(found, tables=found.tables | {"training": rates})

    each = [own("narrow", [0, 600], [0.1, 0.1]), own("wide", [50, 90], [0.01, 0.001])]
    [both] = sources.conditions(each, ["*"])
    rows = selections.rows_of(both, "cone", {}, "velocity")
    ends = rows.groupby("model")["t"].max()
    assert ends.to_dict() == {"narrow": 90, "wide": 90}
    faster = [each[0], own("wide", [0, 40], [0.01, 0.001])]
    [both] = sources.conditions(faster, ["*"])
    ends = selections.rows_of(both, "cone", {}, "velocity").groupby("model")["t"].max()
    assert ends.to_dict() == {"narrow": 90, "wide": 40}


def test_a_run_that_diverged_is_not_left_out_of_a_mean():
    source = made_up()
    chaos = source.tables["chaos"]
    chaos.loc[(chaos["seed"] == 0) & (chaos["direction"] == "1"), "test_barrier"] = np.nan
    with pytest.raises(CannotSay, match="a seed has no value"):
        selections.measured(source, **BARRIER, where={"t0": "first"})
    assert selections.measured(source, **BARRIER, where={"direction": "2"}).seeds == 4


@pytest.mark.parametrize("wanted", [{"form": 40}, {}])
def test_a_range_has_from_or_to(tmp_path, wanted):
    part = WIDER["parts"][0]
    asked = part | {"at": part["at"] | {"where": {"t0": wanted}}}
    with pytest.raises(StudyError, match="must have from, to, or both"):
        rules(tmp_path, WIDER | {"parts": [asked]})
