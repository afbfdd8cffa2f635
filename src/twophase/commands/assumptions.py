"""What holds where a study file leaves a key out, in words: for the reference and the schema."""

from __future__ import annotations

from typing import Any

from twophase.study import assumed as values
from twophase.study.optimizers import SGD, AdamW, Training
from twophase.study.records import Record


def _plain(value: Any) -> str:
    return f"`{values.plain(value)}`"


def _all(section: dict) -> dict[str, str]:
    return {key: _plain(value) for key, value in section.items()}


# What holds where a study file leaves a key out that its record asks for, in words, with the values
# of `study/assumed.py`; T is training.iterations.
ASSUMED: dict[str, dict[str, str]] = {
    "Study": {"title": "the file's name", "seeds": _plain(values.SEEDS), "compute": "`{}`"},
    "Compute": _all(values.COMPUTE),
    "Data": {"augmentation": "`{}`: none"},
    "Augmentation": _all(values.AUGMENTATION),
    "Source": {"sha256": "noted at the first run"},
    "OfFunction": {"sha256": ""},  # there it may be left out
    "Model": {"evaluation": "`{}`"},
    "Training": {
        "batch_size": f"{_plain(values.BATCH)}, or all training examples",
        "weight_decay": f"{_plain(SGD.decay)} for sgd, {_plain(AdamW.decay)} for adamw, "
        f"else {_plain(Training.decay)}",
    },
    "SGD": {"momentum": _plain(values.MOMENTUM)},
    "Evaluation": dict.fromkeys(
        ("train_examples", "test_examples"), f"{_plain(values.MOST_EXAMPLES)}, or all"
    ),
    "Chaos": {
        "forks": "0, T/64, T/32, … T/2",
        "compare": "T/8, T/4, T/2, T; none with `follow`",
        "directions": _plain(values.DIRECTIONS),
        "control": "the first of `forks`",
        "perturbation": _plain(values.PERTURBATION),
    }
    | _all(values.CHAOS),
    "Kernel": {
        "every": "T/32, without `times`",
        "until": "T, or the last multiple of `every`",
        "examples_per_class": f"as many as make {values.INPUTS} examples",
        "examples": f"{_plain(values.INPUTS)}, or all, where the task has no classes",
        "kind": _plain(values.KIND),
        "references": "the first kernel, and those at each quarter",
        "intervals": "1, 2 and 4 times `every`",
    },
    "Linearized": {"switches": "0, T/16, T/8, T/4, T/2"},
    "Curvature": {"every": "T/20", "examples": f"{_plain(values.CURVATURE_EXAMPLES)}, or all"},
    "Growth": {
        "forks": "0, T/2",
        "steps": _plain(values.STEPS),
        "examples": f"{_plain(values.GROWTH_EXAMPLES)}, or all",
    },
    "Sizes": {"values": _plain(values.SIZES)},
}


def assumed(record: type[Record], key: str) -> str:
    """What holds where a study file leaves out a key of a record, in words, if that is assumed."""
    names = [kind.__name__ for kind in record.mro()]
    return next((ASSUMED[name][key] for name in names if key in ASSUMED.get(name, ())), "")
