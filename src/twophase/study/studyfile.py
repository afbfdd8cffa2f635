"""Reading a study file: YAML to a checked `Study`, and one line for each mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from twophase.errors import StudyError
from twophase.study import assumed, datasets, networks, noted, own, perturbations, sweep, tasks
from twophase.study.data import NO_AUGMENTATION
from twophase.study.datasets import Images
from twophase.study.model import NAME, Model, Study, misfits
from twophase.study.networks import Network
from twophase.study.optimizers import Optimizer
from twophase.study.perturbations import AnyKind
from twophase.study.records import Record, show
from twophase.study.yamlfile import mapping as mapping

# Sections that may stand at the top of the file, for all models.
SHARED = tuple(section for section in Model.model_fields if section != "network")
# Sections that say more of what another one asks for; without it they are left out.
NEEDS = {"sizes": "chaos", "matching": "chaos", "across_seeds": "kernel", "measures": "chaos"}
# A model's own takes the place of the other one, too.
INSTEAD = {"perturbation": "perturbations", "perturbations": "perturbation"}
# What a file may say in place of a tag.
OTHERWISE = {"architecture": "torchvision`, or `file` and `builder", "kind": "file` and `function"}
WHOLE = ("network", "schedule")  # a model's own takes the place of the shared one
# Sections of which there are several kinds, told apart by one key: the record of each.
TAGGED = {
    section: {
        tag: record
        for record in get_args(get_args(union)[0])
        for tag in get_args(record.model_fields[key].annotation)
    }
    for section, union, key in (
        ("images", Images, "source"),
        ("network", Network, "architecture"),
        ("training", Optimizer, "optimizer"),
        ("perturbation", AnyKind, "kind"),
    )
}


NAMES = "must start with a letter or digit and hold only letters, digits, '_', '-' and '.'"
# A study's figures could not lie beside the target figures/all, or its file beside config.yaml.
RESERVED = ("all", "config")


def load(path: str | Path, digest: bool = True) -> Study:
    """Read and check the study file at `path`, and fill it up with what it does not say
    (`assumed.py`, `noted.py`); without `digest`, whichever images a folder holds.

    Raises `StudyError` with one line per mistake: file, key, value, what is allowed.
    """
    # Parsed again only when its text has changed: the Snakefile asks for it many times.
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        there = "a study lies in workflow/config of a checkout, where the command must run"
        if names := known(path):
            there = f"studies there: {', '.join(names)}"
        why = getattr(error, "strerror", error)
        raise StudyError(f"{path}: cannot be read: {why}; {there}") from None
    try:
        return _parse(path, text, digest)[0]
    except RecursionError:
        raise StudyError(f"{path}: sections refer to themselves, or lie too deep") from None


def taken(path: Path) -> list[str]:
    """A line for each section of a study file that was filled up: with what."""
    load(path)
    return list(assumed.lines(_parse(path, path.read_text(encoding="utf-8"), True)[1]))


def forget() -> None:
    """Let studies be parsed again, and what makes their results be found out again: a file of the
    user's own may have changed, which the study file names.
    """
    _parse.cache_clear()


def known(path: Path) -> list[str]:
    """The studies in the folder of `path`."""
    names = (file.stem for file in path.parent.glob("*.yaml"))
    return sorted(name for name in names if re.fullmatch(NAME, name) and name not in RESERVED)


@lru_cache
def _parse(path: Path, text: str, digest: bool) -> tuple[Study, assumed.Said]:
    raw = mapping(path, text)
    if "name" in raw:
        raise StudyError(f"{path}: name = {show(raw['name'])}: the file's own name says it")
    if not digest:
        _put_any_digest(raw)
    images = raw["data"].get("images") if isinstance(raw.get("data"), dict) else None
    merged = _merged(raw)
    if "sweep" in raw:
        raw = sweep.spelled_out(path, raw, merged, tuple(Model.model_fields), WHOLE)
        merged = _merged(raw)
    if noted.wanted(images, TAGGED["images"]):
        known = noted.found(path, images, TAGGED["images"][images["source"]])
        merged["data"] = merged["data"] | {"images": images | known}
    full, said = assumed.filled(merged, raw, path.stem, TAGGED)
    try:
        study = Study.model_validate(full | {"name": path.stem})
    except ValidationError as error:
        lines = dict.fromkeys(_explain(path, raw, detail) for detail in error.errors())
        raise StudyError("\n".join(lines)) from None
    if mistakes := dict.fromkeys(_mistakes(study, raw, path.parent)):
        raise StudyError("\n".join(f"{path}: {line}" for line in mistakes))
    return _placed(study, path.parent), said


def _placed(study: Study, folder: Path) -> Study:
    """The study, whose networks know its folder and images, and whose images and perturbations know
    its folder.
    """
    size = study.data.images.image_size
    images = datasets.placed(study.data.images, folder)
    models = {}
    for name, model in study.models.items():
        update: dict[str, Any] = {"network": networks.placed(model.network, folder, size)}
        if model.chaos:
            update["chaos"] = model.chaos.placed(folder)
        models[name] = model.model_copy(update=update)
    augmentation = study.data.augmentation or NO_AUGMENTATION
    data = study.data.model_copy(update={"images": images, "augmentation": augmentation})
    return own.placed(study.model_copy(update={"models": models, "data": data}), folder)


def _put_any_digest(raw: dict) -> None:
    images = raw["data"].get("images") if isinstance(raw.get("data"), dict) else None
    kind = TAGGED["images"].get(images.get("source")) if isinstance(images, dict) else None
    if kind and "sha256" in kind.model_fields:
        images["sha256"] = 64 * "0"


def _merged(raw: dict) -> dict:
    """The study with its shared sections written into each model.

    A model that has `section: false` does without that section.
    """
    merged = {key: value for key, value in raw.items() if key not in SHARED}
    if isinstance(raw.get("models"), dict):
        shared = {key: raw[key] for key in SHARED if key in raw}
        merged["models"] = {}
        for name, own in raw["models"].items():
            if isinstance(own, dict):
                own = _over(_of_its_optimizer(shared, own), own)
                own = {k: v for k, v in own.items() if not (k in SHARED and v is False)}
                for section, needed in NEEDS.items():
                    if needed not in own:
                        own.pop(section, None)
                if isinstance(own.get("training"), dict):
                    own["training"] = {"optimizer": "sgd"} | own["training"]
            merged["models"][name] = own
    return merged


def _of_its_optimizer(shared: dict, own: dict) -> dict:
    """`shared` without what its optimizer takes and that of the model does not."""
    ours, theirs = (raw.get("training") for raw in (own, shared))
    if not (isinstance(ours, dict) and isinstance(theirs, dict)) or "optimizer" not in ours:
        return shared
    kinds, names = TAGGED["training"], (ours["optimizer"], theirs.get("optimizer", "sgd"))
    if not all(isinstance(name, str) and name in kinds for name in names):  # told as a mistake
        return shared
    known, others = (kinds[name].model_fields.keys() for name in names)
    lost = others - known
    return shared | {"training": {k: v for k, v in theirs.items() if k not in lost}}


def _over(shared: dict, own: dict) -> dict:
    """`own` laid over `shared`, key by key; what is in `WHOLE` is replaced as a whole."""
    merged = dict(shared)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(shared.get(key), dict)
        whole = key in WHOLE or (both and perturbations.another_kind(shared[key], value))
        merged[key] = _over(shared[key], value) if both and not whole else value
        if instead := INSTEAD.get(key):
            merged = {k: v for k, v in merged.items() if k != instead or k in own}
    return merged


def _key(raw: dict, location: tuple) -> str:
    """The key as it stands in the file: a model's section may come from the top of the file, and
    an option from its sweep.
    """
    keys = [str(part) for part in location]
    swept = keys[1] if keys[0] == "models" and keys[1:2] and keys[1] in raw.get("sweep", ()) else ""
    if swept and (key := sweep.place(raw["sweep"], swept, ".".join(keys[2:]))):
        return key
    if len(keys) > 2 and keys[0] == "models" and keys[2] in SHARED:
        own: Any = raw["models"].get(keys[1])
        for part in keys[2:]:
            if not isinstance(own, dict) or part not in own:
                shared = keys[2] in raw
                keys = keys[2:] if shared else keys
                break
            own = own[part]
            if part in WHOLE:
                break
    if swept and keys[:2] == ["models", swept]:
        keys[1] = raw["sweep"][swept]["of"]
    # A key of odd characters is quoted, so that a message stays one line.
    return ".".join(key if re.fullmatch(r"[\w-]+", key, re.ASCII) else repr(key) for key in keys)


def _explain(path: Path, raw: dict, detail: dict) -> str:
    """One line for one of pydantic's errors."""
    kind, context = detail["type"], detail.get("ctx", {})
    location = detail["loc"]
    # The tag of a discriminated union is a step of the location that the file does not have.
    tag = _place_of_tag(location)
    if tag and len(location) > tag:
        location = location[:tag] + location[tag + 1 :]
    if location[:1] == ("name",):
        return f"{path}: the file's name {path.stem!r} names the study: it {NAMES}"
    if location[:1] == ("models",) and location[2:] == ("[key]",):
        named = location[1]
        quotes = "" if isinstance(named, str) else "; write it in quotes"
        return f"{path}: {_key(raw, location[:2])}: a model's name {NAMES}{quotes}"
    key = _key(raw, location[:-1] if location[-1] == "[key]" else location)
    ask = ""
    if location == ("data", "images", "sha256"):
        ask = f"; `twophase data {path} --digest` prints it"
    if kind == "missing":
        return f"{path}: {key}: is missing{ask}"
    if kind in ("extra_forbidden", "invalid_key"):
        allowed = ", ".join(_allowed_keys(location[:-1], detail["loc"]))
        return f"{path}: {key}: no such key; allowed here: {allowed}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{path}: {key} = {show(detail['input'])}: must be a section: keys with values"
    if kind == "list_type":
        value = show(detail["input"])
        such = value.strip("'") if isinstance(detail["input"], int | float | str) else "0, 1"
        return f"{path}: {key} = {value}: must be a list, such as [{such}]"
    if kind == "string_pattern_mismatch":
        return f"{path}: {key}: must match {context['pattern']}{ask}"
    message = detail["msg"].replace("Input should be", "must be").replace("Input tag", "the tag")
    message = re.sub(r"^(List|Dictionary|String) should have", "must have", message)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = context["discriminator"].strip("'")
        others = f"; or give `{OTHERWISE[tag]}`" if tag in OTHERWISE else ""
        if kind == "union_tag_not_found":
            return f"{path}: {key}.{tag}: is missing{others}"
        # Of the networks of others the program itself writes the tag.
        kinds = TAGGED[location[-1] if location[-1] in TAGGED else "perturbation"].items()
        own = (*networks.OF_OTHERS, perturbations.OwnKick)
        tags = [repr(each) for each, kind in kinds if not issubclass(kind, own)]
        message = f"must be one of {', '.join(tags)}{others}"
        return f"{path}: {_key(raw, (*location, tag))} = {show(detail['input'][tag])}: {message}"
    return f"{path}: {key} = {show(detail['input'])}: {message}{ask}"


def _place_of_tag(location: tuple) -> int | None:
    """Where in a location the tag of a discriminated union stands, if it comes that far."""
    if location[:1] == ("models",) and location[2:4] == ("chaos", "perturbations"):
        return 5
    if location[:1] == ("models",) and location[2:4] == ("chaos", "perturbation"):
        return 4
    place = {"data": 2, "models": 3}.get(location[0])
    return (
        place if place and location[place - 1 : place] and location[place - 1] in TAGGED else None
    )


def _allowed_keys(location: tuple, tagged: tuple) -> list[str]:
    """The keys of the section at `location`; `tagged` is the location with tags."""
    if not location:
        return [key for key in Study.model_fields if key != "name"] + list(SHARED)
    place = _place_of_tag(tagged)
    if place == len(location) < len(tagged) - 1:
        section = location[-1] if location[-1] in TAGGED else "perturbation"
        return _keys(TAGGED[section][tagged[place]])
    record: Any = Study
    for part in location:
        if record is Study and part == "models":
            record = {"models": Model}
        elif isinstance(record, dict):
            (record,) = record.values()
        else:
            record = _record_of(record.model_fields[part].annotation)
            record = {part: get_args(record)[1]} if get_args(record) else record
    return _keys(record)


def _keys(record: type[Record]) -> list[str]:
    """The keys of a record, as a study file has them."""
    fields = record.model_fields.items()
    if issubclass(record, networks.OfImageSize):  # which the study's images say
        fields = [(name, field) for name, field in fields if name != "image_size"]
    return [field.alias or name for name, field in fields]


def _record_of(annotation: Any) -> Any:
    """The record, or the records by name, in an annotation `Record` or `Record | None`."""
    if get_origin(annotation) is not dict and get_args(annotation):
        return next(arg for arg in get_args(annotation) if arg is not type(None))
    return annotation


def _mistakes(study: Study, raw: dict, folder: Path) -> Iterator[str]:
    """What is wrong between keys that are each right by themselves."""
    if study.name in RESERVED:
        yield f"the file's name {study.name!r} names the study: it must be another than this"
    if len(set(study.seeds)) < len(study.seeds):
        yield f"seeds = {study.seeds}: a seed stands twice"
    yield from _apart(study, raw)
    yield from _needless(study, raw)
    for option, line in study.data.mistakes(None):
        yield f"data.{option}{line}" if line.startswith(":") else f"data.{option} {line}"
    for option, line in datasets.mistakes(study.data.images, folder):
        yield f"data.images.{option}{line}" if line[0] == ":" else f"data.images.{option} {line}"
    for name, model in study.models.items():
        for section, record in model.sections().items():
            for option, line in record.mistakes(model):
                key = _key(raw, ("models", name, section, *option.split(".")))
                yield f"{key}{line}" if line.startswith(":") else f"{key} {line}"
        for option, line in _unfit(study, model, folder):
            key = _key(raw, ("models", name, *option.split(".")))
            yield f"{key}{line}" if line.startswith(":") else f"{key} {line}"
    for place, line in own.mistakes(study, folder):
        yield f"{_key(raw, place)}{line}" if line.startswith(":") else f"{_key(raw, place)} {line}"
    kernels = [model.kernel for model in study.models.values() if model.kernel]
    if study.sweep and not all(kernel.keep for kernel in kernels):
        yield "kernel.keep = False: models of a sweep share states; leave it out"
    if study.compute.precision == "tf32" and study.compute.device != "cuda":
        yield "compute.precision = 'tf32': exists on device cuda only; must be 'float32'"


def _needless(study: Study, raw: dict) -> Iterator[str]:
    """Sections that say more of one that no model has, or not the model that they are under."""
    for section, needed in NEEDS.items():
        without = [name for name, model in study.models.items() if not getattr(model, needed)]
        asked = [(n, raw["models"][n] or {}) for n in without]
        asked = [("models", n, section) for n, own in asked if own.get(section, False) is not False]
        if len(without) == len(study.models) and raw.get(section, False) is not False:
            asked.append((section,))
        for keys in asked:
            yield f"{_key(raw, keys)}: needs section {needed}, which is missing; give both or none"


def _apart(study: Study, raw: dict) -> Iterator[str]:
    """The user's files in several folders: one process imports what lies beside them, and Python
    takes the second folder's module for the first one's, if they have the same name.
    """
    images = study.data.images
    files = {("data", "images"): getattr(images, "file", None)}
    files |= {("data", "images", "task"): images.task.file} if tasks.own(images.task) else {}
    for name, model in study.models.items():
        files["models", name, "network"] = getattr(model.network, "file", None)
        for key, kind in model.chaos.own_keys().items() if model.chaos else ():
            files["models", name, "chaos", *key] = getattr(kind, "file", None)
    files |= {keys: each.file for keys, each in own.every(study)}
    files = {keys: file for keys, file in files.items() if file}
    first = next(iter(files.values()), "")
    for keys, file in files.items():
        if Path(file).parent != Path(first).parent:
            yield (
                f"{_key(raw, (*keys, 'file'))} = {show(file)}: must lie in the same folder as "
                f"{show(first)}; files of one study share what they import"
            )


def _unfit(study: Study, model: Model, folder: Path) -> Iterator[tuple[str, str]]:
    """Options of a model that do not fit the images, or what lies in the study's `folder`."""
    images, network = study.data.images, model.network
    if "image_size" in network.model_fields_set:
        yield (
            "network.image_size",
            f"= {show(network.image_size)}: the images say it; leave it out",
        )
    elif images.form == "images" and network.image_size not in (None, images.image_size):
        yield (
            "network.architecture",
            f"= '{network.architecture}': takes images of {network.image_size} pixels, "
            f"data.images.source '{images.source}' has {images.image_size}; "
            "must be one for any size or for that one",
        )
    for option, line in networks.mistakes(network, folder, images):
        yield f"network.{option}", line
    for key, kind in model.chaos.own_keys().items() if model.chaos else ():
        for option, line in perturbations.mistakes(kind, folder):
            yield ".".join(("chaos", *key, option)), line
    for option, line in model.kernel.misfits(images.task) if model.kernel else ():
        yield f"kernel.{option}", line
    yield from misfits(model, images.train_examples, images.test_examples, images.smallest_class)
