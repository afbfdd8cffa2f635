"""What holds where a study file does not say it: as if the file had spelt it out.

These values are no defaults of records. They stand in the study as given ones do, and count in what
makes a result: whoever writes one out, or takes it from `plan`, makes nothing stale. None of them
may ever change all the same (`tests/assumed.yaml` holds them). Sections that measure are never
assumed, only keys of those that the file has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from twophase.study.records import written

BATCH = 128  # examples of a batch, where there are as many
MOST_EXAMPLES = 1000  # that losses are measured on
INPUTS = 20  # of a kernel, of all classes together
COMPUTE = {"device": "cpu", "threads": 1, "precision": "float32"}
AUGMENTATION = {"shift": 0, "flip": False}
SEEDS = [0, 1, 2]
MOMENTUM = 0.9  # of SGD
CHAOS = {"barrier_points": 11, "barrier_batch_norm": "interpolate", "barrier_threshold": 0.1}
DIRECTIONS = 2
PERTURBATION = {"kind": "std", "size": 1e-7}
KIND = "full"  # of kernels
CURVATURE_EXAMPLES, GROWTH_EXAMPLES = 500, 200
STEPS = 50  # of growth
SIZES = [1e-6, 1e-4, 1e-2]
NUMBERS = ("classes", "train_examples", "test_examples", "smallest_class")

Counts = Mapping[str, int | None]
Said = dict[tuple[str, str], dict[str, Any]]  # by model ("" for the study) and section


def filled(
    merged: dict, raw: dict, name: str, records: Mapping[str, Mapping[str, Any]]
) -> tuple[dict, Said]:
    """A study with its shared sections written into each model, `merged`, filled up with what it
    does not say; and what that was.

    `raw` is as the file says it, `name` the study's; `records` are those of sources of `images` and
    of optimizers, `training`, by what tells them apart.
    """
    said: Said = {}
    kinds = records["images"]
    counts = _counts(merged, kinds)
    full = dict(merged)
    _give(full, ("", ""), said, {"title": name, "seeds": SEEDS, "compute": {}})
    _fill(full, "compute", ("", "compute"), said, COMPUTE)
    if isinstance(full.get("data"), dict) and _form(merged, kinds) == "images":
        full["data"] = {"augmentation": {}} | full["data"]
        _fill(full["data"], "augmentation", ("", "data.augmentation"), said, AUGMENTATION)
    if isinstance(full.get("models"), dict):
        full["models"] = {
            model: _model(str(model), own, raw["models"][model], said, counts, records["training"])
            if isinstance(own, dict)
            else own
            for model, own in full["models"].items()
        }
    return full, {key: values for key, values in said.items() if values}


def _form(merged: dict, kinds: Mapping[str, Any]) -> str:
    """Whether a study's examples are images, vectors or tokens."""
    images = merged["data"].get("images")
    kind = kinds.get(str(images.get("source"))) if isinstance(images, dict) else None
    return getattr(kind, "form", "images")


def _counts(merged: dict, kinds: Mapping[str, Any]) -> Counts:
    """The numbers of a study's images, as far as they are known without reading them."""
    images = merged["data"].get("images") if isinstance(merged.get("data"), dict) else None
    kind = kinds.get(str(images.get("source"))) if isinstance(images, dict) else None
    try:
        record = kind.model_validate(images) if kind else None
    except ValidationError:  # told with all other mistakes
        return {}
    found = {name: getattr(record, name, None) for name in NUMBERS}
    return found | {"in_classes": not record or record.task == "classification"}


def lines(said: Said) -> Iterator[str]:
    """The same in words, a line for each section; once, where all models share it."""
    said = {key: {k: v for k, v in values.items() if v != {}} for key, values in said.items()}
    models = {model for model, _ in said if model}
    for (model, section), values in said.items():
        alike = [other for other in models if said.get((other, section)) == values]
        if not values or (model and len(alike) == len(models) and model != min(models)):
            continue
        place = f"models.{model}." * bool(model and len(alike) < len(models)) + section
        told = ", ".join(f"{key} = {plain(value)}" for key, value in values.items())
        yield f"assumed: {place}: {told}" if place else f"assumed: {told}"


def plain(value: Any) -> str:
    """A value as a study file says it."""
    if isinstance(value, float):
        return written(value)
    if isinstance(value, list):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(each)}" for key, each in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _give(section: dict, place: tuple[str, str], said: Said, values: dict[str, Any]) -> None:
    """Put into a section what it does not say."""
    new = {key: value for key, value in values.items() if key not in section}
    section |= new
    said.setdefault(place, {}).update(new)


def _fill(own: dict, name: str, place: tuple[str, str], said: Said, values: dict) -> None:
    """The same of a section of its own, which stays as it was read."""
    if isinstance(own.get(name), dict):
        own[name] = dict(own[name])
        _give(own[name], place, said, values)


def _model(
    model: str, own: dict, written: dict, said: Said, counts: Counts, optimizers: Mapping[str, Any]
) -> dict:
    """A model with what it does not say; `written` is its own part of the file."""
    train, test = counts.get("train_examples"), counts.get("test_examples")
    own = dict(own)
    training = own["training"] if isinstance(own.get("training"), dict) else {}
    optimizer = training.get("optimizer")
    if kind := optimizers.get(str(optimizer)):
        values = {"batch_size": min(BATCH, train or BATCH)}
        values |= {"momentum": MOMENTUM} if optimizer == "sgd" else {}
        values |= {"weight_decay": kind.decay}
        _fill(own, "training", (model, "training"), said, values)
    if training and written.get("evaluation") is not False:
        own.setdefault("evaluation", {})
        sizes = {"train_examples": train, "test_examples": test}
        few = {key: min(MOST_EXAMPLES, count or MOST_EXAMPLES) for key, count in sizes.items()}
        _fill(own, "evaluation", (model, "evaluation"), said, few)
    last = training.get("iterations")
    if isinstance(last, int) and not isinstance(last, bool) and last > 1:
        for section, grid in GRIDS.items():
            if isinstance(own.get(section), dict):
                _fill(own, section, (model, section), said, grid(own[section], last, counts))
    return own


def halved(last: int, times: int) -> list[int]:
    """`last` halved once, twice and so on; they rise.

    >>> halved(600, 3)
    [75, 150, 300]
    """
    return sorted({last >> k for k in range(1, times + 1)} - {0})


def _whole(values: Any) -> list[int]:
    """The whole numbers of a list; none of what is no list."""
    return [each for each in values if type(each) is int] if isinstance(values, list) else []


def _chaos(given: dict, last: int, counts: Counts) -> dict[str, Any]:
    """Forks over a factor of 64, compared at four iterations; 10 % of a nat is a barrier."""
    compare, follow = _whole(given.get("compare")), _whole(given.get("follow"))
    end = max(compare, default=last) if not follow else last - max(follow) + 1
    forks = _whole(given.get("forks")) or [t for t in [0, *halved(last, 6)] if t < end]
    values: dict[str, Any] = {"forks": forks}
    if "follow" not in given:
        values["compare"] = [t for t in [*halved(last, 3), last] if t > min(forks, default=0)]
    values |= {"directions": DIRECTIONS, "control": forks[:1]}
    if not any(key.startswith("perturbation") for key in given):
        values["perturbation"] = PERTURBATION
    return values | CHAOS


def _kernel(given: dict, last: int, counts: Counts) -> dict[str, Any]:
    """Some 32 kernels, evenly over training, of an example of each class or two."""
    train, classes = counts.get("train_examples"), counts.get("classes")
    each = max(1, INPUTS // classes) if classes else 2
    if rarest := counts.get("smallest_class"):
        each = max(1, min(each, rarest))
    elif train is None:
        each = 1
    values: dict[str, Any] = {}
    times = _whole(given.get("times"))
    if times:
        gaps = sorted(b - a for a, b in zip(times, times[1:], strict=False) if b > a)
        grid, steps = times, gaps[:1]
    else:
        every, until = given.get("every"), given.get("until")
        if type(every) is not int and until is None:
            every = max(1, last // 32)
        if type(every) is int and every > 0 and until is None:
            until = last // every * every
        values = {"every": every, "until": until} if every and until else {}
        whole = type(every) is int and type(until) is int and every > 0
        grid = list(range(0, until + 1, every)) if whole and until <= 10**6 * every else []
        steps = [k * every for k in (1, 2, 4) if k < len(grid)] if whole else []
    if counts.get("in_classes", True):
        values |= {"examples_per_class": each, "kind": KIND}
    else:
        values |= {"examples": min(train or INPUTS, INPUTS), "kind": KIND}
    if len(grid) > 2:
        quarters = [grid[k * (len(grid) - 1) // 4] for k in range(4)]
        values |= {"references": sorted(set(quarters)), "intervals": steps}
    return values


def _linearized(given: dict, last: int, counts: Counts) -> dict[str, Any]:
    return {"switches": [0, *halved(last, 4)]}


def _curvature(given: dict, last: int, counts: Counts) -> dict[str, Any]:
    most = counts.get("train_examples") or CURVATURE_EXAMPLES
    return {"every": max(1, last // 20), "examples": min(CURVATURE_EXAMPLES, most)}


def _growth(given: dict, last: int, counts: Counts) -> dict[str, Any]:
    most = counts.get("train_examples") or GROWTH_EXAMPLES
    few = min(GROWTH_EXAMPLES, most)
    return {"forks": [0, last // 2], "steps": min(STEPS, last), "examples": few}


def _sizes(given: dict, last: int, counts: Counts) -> dict[str, Any]:
    return {"values": SIZES}


GRIDS = {
    "chaos": _chaos,
    "kernel": _kernel,
    "linearized": _linearized,
    "curvature": _curvature,
    "growth": _growth,
    "sizes": _sizes,
}
