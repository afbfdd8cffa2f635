"""Defaults never change: an option at its default does not count in what makes a result."""

from pathlib import Path

import pytest
import yaml

from twophase.study.model import Model
from twophase.study.optimizers import SGD, AdamW
from twophase.study.records import Record

FILE = Path(__file__).with_name("defaults.yaml")


def _records(record=Record):
    for each in record.__subclasses__():
        # A model's optional sections are no options, nor those of the copies that adopt makes.
        # Claims make no results.
        here = each.__module__.startswith("twophase.") and "writeup" not in each.__module__
        if here and not issubclass(each, Model):
            yield each
        yield from _records(each)


def _defaults(records):
    """The defaults of all options, by record and option."""
    return {
        (record.__name__, option): field.get_default(call_default_factory=True)
        for record in records
        for option, field in record.model_fields.items()
        if not field.is_required()
    }


def _complaints(frozen, now):
    for key in sorted(frozen.keys() | now.keys()):
        name = ".".join(key)
        if key not in frozen:
            yield f"{name} has a default, {now[key]!r}: write it into tests/{FILE.name}"
        elif key not in now:
            yield (
                f"{name} had the default {frozen[key]!r} and has none: studies that leave it out "
                "no longer load; keep it"
            )
        elif frozen[key] != now[key] or type(frozen[key]) is not type(now[key]):
            yield (
                f"{name} had the default {frozen[key]!r}, and now {now[key]!r}: what was made with "
                "the old one would pass as current; leave it and add a new option instead"
            )


def _frozen():
    table = yaml.safe_load(FILE.read_text())
    return {(r, option): value for r, options in table.items() for option, value in options.items()}


def test_no_default_has_changed():
    complaints = list(_complaints(_frozen(), _defaults(_records())))
    assert not complaints, "\n".join(complaints)


def test_a_default_that_changes_vanishes_or_comes_is_told():
    class Changed(Record):
        kept: int = 1
        changed: float = 1.0
        new: str = "x"
        vanished: int

    frozen = {("Changed", name): 1 for name in ("kept", "changed", "vanished")}
    told = list(_complaints(frozen, _defaults([Changed])))
    expected = ["Changed.changed had the default 1, and now 1.0", "Changed.new has", "vanished had"]
    assert len(told) == 3
    assert all(part in line for part, line in zip(expected, told, strict=True))


@pytest.mark.parametrize(
    ("record", "given", "left_out"),
    [
        (SGD, {"momentum": 0.9}, {"optimizer": "sgd"}),
        (AdamW, {"optimizer": "adamw"}, {"betas": [0.9, 0.999], "eps": 1e-8}),
    ],
)
def test_a_default_that_is_written_out_does_not_count(record, given, left_out):
    shared = {"iterations": 9, "batch_size": 3, "lr": 0.1, "weight_decay": 0}
    left_out = left_out | {"lr_drops": [], "drop_last": True}
    short, long = (record(**shared, **given, **more) for more in ({}, left_out))
    assert short.options() == long.options() == {**shared, **given}
