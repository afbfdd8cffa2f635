"""What holds where a study file leaves a key out, in words: for the reference and the schema."""

from __future__ import annotations

from twophase.study.records import Record

# What holds where a study file leaves a key out that its record asks for (`study/assumed.py`), in
# words; T is training.iterations.
ASSUMED: dict[str, dict[str, str]] = {
    "Study": {"title": "the file's name", "seeds": "`[0, 1, 2]`", "compute": "`{}`"},
    "Compute": {"device": "`cpu`", "threads": "`1`", "precision": "`float32`"},
    "Data": {"augmentation": "`{}`: none"},
    "Augmentation": {"shift": "`0`", "flip": "`false`"},
    "Source": {"sha256": "noted at the first run"},
    "OfFunction": {"sha256": ""},  # there it may be left out
    "Model": {"evaluation": "`{}`"},
    "Training": {
        "batch_size": "`128`, or all training examples",
        "weight_decay": "`1e-4` for sgd, `0.01` for adamw, else `0`",
    },
    "SGD": {"momentum": "`0.9`"},
    "Evaluation": {"train_examples": "`1000`, or all", "test_examples": "`1000`, or all"},
    "Chaos": {
        "forks": "0, T/64, T/32, … T/2",
        "compare": "T/8, T/4, T/2, T; none with `follow`",
        "directions": "`2`",
        "control": "the first of `forks`",
        "perturbation": "`{kind: std, size: 1e-7}`",
        "barrier_points": "`11`",
        "barrier_batch_norm": "`interpolate`",
        "barrier_threshold": "`0.1`",
    },
    "Kernel": {
        "every": "T/32, without `times`",
        "until": "T, or the last multiple of `every`",
        "examples_per_class": "as many as make 20 examples",
        "kind": "`full`",
        "references": "the first kernel, and those at each quarter",
        "intervals": "1, 2 and 4 times `every`",
    },
    "Linearized": {"switches": "0, T/16, T/8, T/4, T/2"},
    "Curvature": {"every": "T/20", "examples": "`500`, or all"},
    "Growth": {"forks": "0, T/2", "steps": "`50`", "examples": "`200`, or all"},
    "Sizes": {"values": "`[1e-6, 1e-4, 1e-2]`"},
}


def assumed(record: type[Record], key: str) -> str:
    """What holds where a study file leaves out a key of a record, in words, if that is assumed."""
    names = [kind.__name__ for kind in record.mro()]
    return next((ASSUMED[name][key] for name in names if key in ASSUMED.get(name, ())), "")
