"""A study: one YAML file that says everything about an experiment, checked as a whole.

`load` returns a `Study`. Sections at the top of the file hold for every model; a model may
override any key of them under its own name (`models.resnet.training.lr`). This module imports
no PyTorch, because the Snakefile reads it each time a job starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from twophase.errors import StudyError


def _number(value: object) -> object:
    # YAML 1.1 reads `1e-3` (no dot) as a string; it plainly means a number here.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Number, Field(gt=0)]
# Bounded, so that a slip of the keyboard cannot ask for more files than there is memory to name.
MOST = 10_000_000
Count = Annotated[int, Field(ge=1, le=MOST)]
Iteration = Annotated[int, Field(ge=0, le=MOST)]
Iterations = Annotated[list[Iteration], Field(min_length=1)]


class Record(BaseModel):
    """A section of the study: no unknown keys, no silent conversions, no changes afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Augmentation(Record):
    """Random crop after zero padding by `shift` pixels, and random horizontal flip."""

    shift: Annotated[int, Field(ge=0)]
    flip: bool


class Digits(Record):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels; they ship with the package."""

    source: Literal["digits"]
    test_examples: Annotated[int, Field(ge=10, le=1000)]
    channels: ClassVar[int] = 1
    image_size: ClassVar[int] = 8

    @property
    def train_examples(self) -> int:
        """All that are not test examples."""
        return 1797 - self.test_examples

    @property
    def smallest_class(self) -> int:
        """Training examples of the rarest class, the digit 8, of which there are 174 in all."""
        return 174 * self.train_examples // 1797


class CIFAR10(Record):
    """CIFAR-10, downloaded to `folder` unless it is there."""

    source: Literal["cifar10"]
    folder: str
    channels: ClassVar[int] = 3
    image_size: ClassVar[int] = 32
    train_examples: ClassVar[int] = 50_000
    test_examples: ClassVar[int] = 10_000
    smallest_class: ClassVar[int] = 5_000


class ImageFolder(Record):
    """A folder or (compressed) tar with images `train/<class>/<file>` and `test/<class>/<file>`.

    `sha256` is the digest of what `sha256sum` prints for `train/<class>/<file>` and the others in
    the order of their names: it says which images these are, wherever they lie.
    """

    source: Literal["folder"]
    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    channels: ClassVar[int] = 3
    image_size: Count
    classes: Annotated[int, Field(ge=2)]
    train_examples: Count
    test_examples: Count

    @property
    def smallest_class(self) -> int:
        """Training examples of the rarest class, at most."""
        return self.train_examples // self.classes


class Data(Record):
    """Where the images come from, and how training augments them."""

    images: Annotated[Digits | CIFAR10 | ImageFolder, Field(discriminator="source")]
    augmentation: Augmentation


class VGG16(Record):
    """VGG-16: 13 convolutions and one linear layer, or ImageNet's 4096-wide head."""

    architecture: Literal["vgg16"]
    batch_norm: bool = True
    wide_head: bool = False


class SmallVGG(Record):
    """VGG for 8 x 8 images: 16-16 | 32-32 | 64-64-64."""

    architecture: Literal["vgg_small"]
    batch_norm: bool = False


class ResNet(Record):
    """CIFAR ResNets with batch norm: 20 layers (16-32-64), or 8 layers (8-16-32)."""

    architecture: Literal["resnet20", "resnet8"]


class Training(Record):
    """SGD with momentum. `lr` is divided by 10 at each iteration in `lr_drops`."""

    iterations: Count
    batch_size: Count
    lr: Positive
    momentum: Annotated[Number, Field(ge=0, lt=1)]
    weight_decay: Annotated[Number, Field(ge=0)]
    lr_drops: list[Count]


class Evaluation(Record):
    """How many examples losses and accuracies are measured on (the first ones of each split)."""

    train_examples: Count
    test_examples: Count


class Perturbation(Record):
    """Gaussian noise on every parameter.

    `std`: elementwise standard deviation; `l2`: norm of the whole; `relative`: norm over the norm
    of the parameters.
    """

    kind: Literal["std", "l2", "relative"]
    size: Positive


class Chaos(Record):
    """Forks at every t0 of `forks`, compared with the base run at every later t1 of `compare`.

    `control` names the forks that are also run with a perturbation of zero.
    """

    forks: Iterations
    compare: Iterations
    directions: Annotated[int, Field(ge=1, le=1000)]
    control: list[Iteration]
    perturbation: Perturbation
    barrier_points: Annotated[int, Field(ge=3)]
    barrier_batch_norm: Literal["interpolate", "recalibrate"]
    barrier_threshold: Positive


class Kernel(Record):
    """Kernels every `every` iterations up to `until`, and the distances drawn from them.

    `references` are the tau of S(t, tau); `intervals` the dt of S(t, t + dt).
    """

    every: Count
    until: Count
    examples_per_class: Count
    kind: Literal["full", "trace", "pseudo"]
    references: Iterations
    intervals: Annotated[list[Count], Field(min_length=1)]


class Linearized(Record):
    """Train normally to each of `switches`, then the linearised network to the last iteration."""

    switches: Iterations


class Compute(Record):
    """Where and how numbers are computed; part of what makes a result."""

    device: Literal["cpu", "cuda"]
    threads: Count
    precision: Literal["float32", "tf32"]


class Model(Record):
    """One network of the study with the sections that hold for it."""

    network: Annotated[VGG16 | SmallVGG | ResNet, Field(discriminator="architecture")]
    training: Training
    evaluation: Evaluation
    chaos: Chaos
    kernel: Kernel
    linearized: Linearized

    def compare_points(self, t0: int) -> list[int]:
        """Iterations t1 at which the forks from t0 are compared with the base run."""
        return [t1 for t1 in self.chaos.compare if t1 > t0]

    def directions(self, t0: int) -> list[str]:
        """Directions of the forks from t0; the zero perturbation is the direction `control`."""
        control = ["control"] if t0 in self.chaos.control else []
        return [str(d) for d in range(1, self.chaos.directions + 1)] + control

    def kernel_steps(self) -> list[int]:
        """Iterations t whose kernel is computed."""
        return list(range(0, self.kernel.until + 1, self.kernel.every))

    def checkpoints(self) -> list[int]:
        """Iterations at which the base run keeps its state: every one that a later stage reads."""
        wanted = {0, self.training.iterations, *self.chaos.forks, *self.chaos.compare}
        return sorted(wanted | {*self.kernel_steps(), *self.linearized.switches})


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class Study(Record):
    """A whole study; `name` is the stem of its file."""

    name: Name
    title: str
    data: Data
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]
    compute: Compute


SHARED = ("training", "evaluation", "chaos", "kernel", "linearized")
# Height and width of the images that a VGG takes, one pixel for its last layer.
IMAGE_SIZE = {"vgg16": 32, "vgg_small": 8}
# Sections of which there are several kinds, told apart by one key.
TAGGED = {
    "images": get_args(Data.model_fields["images"].annotation),
    "network": get_args(Model.model_fields["network"].annotation),
}


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def load(path: str | Path) -> Study:
    """Read and check the study file at `path`.

    Raises `StudyError` with one line per mistake: file, key, value, what is allowed.
    """
    # The file is read again only when it has changed: the Snakefile asks for it many times.
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    return _parse(path, text)


@lru_cache
def _parse(path: Path, text: str) -> Study:
    try:
        raw = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise StudyError(f"{path}:{line} not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: must be a mapping of sections, is {_show(raw)}")
    if "name" in raw:
        raise StudyError(f"{path}: name = {_show(raw['name'])}: the file's own name says it")

    merged = {key: value for key, value in raw.items() if key not in SHARED} | {"name": path.stem}
    if isinstance(raw.get("models"), dict):
        shared = {key: raw[key] for key in SHARED if key in raw}
        merged["models"] = {
            model: _merge(shared, own) if isinstance(own, dict) else own
            for model, own in raw["models"].items()
        }
    try:
        study = Study.model_validate(merged)
    except ValidationError as error:
        lines = dict.fromkeys(_explain(path, raw, detail) for detail in error.errors())
        raise StudyError("\n".join(lines)) from None
    contradictions = dict.fromkeys(_contradictions(study, raw))
    if contradictions:
        raise StudyError("\n".join(f"{path}: {line}" for line in contradictions))
    return study


def _merge(shared: dict, own: dict) -> dict:
    """`own` laid over `shared`, key by key; `network` is always replaced as a whole."""
    merged = dict(shared)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(shared.get(key), dict)
        merged[key] = _merge(shared[key], value) if both and key != "network" else value
    return merged


def _key(raw: dict, location: tuple) -> str:
    """The key as it stands in the file: a model's section may come from the top of the file."""
    keys = [str(part) for part in location]
    if len(keys) > 2 and keys[0] == "models" and keys[2] in SHARED:
        own: Any = raw["models"].get(keys[1])
        for part in keys[2:]:
            if not isinstance(own, dict) or part not in own:
                shared = keys[2] in raw
                keys = keys[2:] if shared else keys
                break
            own = own[part]
    # A key of odd characters is quoted, so that a message stays one line.
    return ".".join(key if re.fullmatch(r"[\w-]+", key, re.ASCII) else repr(key) for key in keys)


def _explain(path: Path, raw: dict, detail: dict) -> str:
    """One line for one of pydantic's errors."""
    kind, context = detail["type"], detail.get("ctx", {})
    # The tag of a discriminated union is a step of the location that the file does not have.
    steps = zip(detail["loc"], ("", *detail["loc"]), strict=False)
    location = tuple(part for part, before in steps if before not in TAGGED)
    if location[:1] == ("name",):
        return (
            f"{path}: the file's name '{path.stem}' names the study: it must start with a "
            "small letter and hold only small letters, digits, '_' and '-'"
        )
    key = _key(raw, location)
    if kind == "missing":
        return f"{path}: {key}: is missing"
    if kind in ("extra_forbidden", "invalid_key"):
        allowed = ", ".join(_allowed_keys(location[:-1], detail["loc"], raw))
        return f"{path}: {key}: no such key; allowed here: {allowed}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{path}: {key} = {_show(detail['input'])}: must be a section: keys with values"
    if kind == "string_pattern_mismatch":
        return f"{path}: {key}: must match {context['pattern']}"
    message = detail["msg"].replace("Input should be", "must be").replace("Input tag", "the tag")
    message = re.sub(r"^(List|Dictionary) should have", "must have", message)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = context["discriminator"].strip("'")
        if kind == "union_tag_not_found":
            return f"{path}: {key}.{tag}: is missing"
        message = f"must be one of {context['expected_tags']}"
        return f"{path}: {key}.{tag} = {_show(detail['input'][tag])}: {message}"
    return f"{path}: {key} = {_show(detail['input'])}: {message}"


def _allowed_keys(location: tuple, tagged: tuple, raw: dict) -> list[str]:
    """The keys of the section at `location`."""
    if not location:
        return [key for key in Study.model_fields if key != "name"] + list(SHARED)
    if location[-1] in TAGGED:
        tag = tagged[len(location)]
        for record in TAGGED[location[-1]]:
            if any(
                tag in getattr(f.annotation, "__args__", ()) for f in record.model_fields.values()
            ):
                return list(record.model_fields)
    record: Any = Study
    for part in location:
        if record is Study and part == "models":
            record = {"models": Model}
        elif isinstance(record, dict):
            record = Model
        else:
            record = record.model_fields[part].annotation
    return list(record.model_fields)


def _show(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _contradictions(study: Study, raw: dict) -> Iterator[str]:
    """What is wrong between keys that are each right by themselves."""
    if len(set(study.seeds)) < len(study.seeds):
        yield f"seeds = {study.seeds}: a seed stands twice"
    for name, model in study.models.items():

        def key(section: str, option: str, name: str = name) -> str:
            return _key(raw, ("models", name, section, option))

        last, chaos, kernel = model.training.iterations, model.chaos, model.kernel
        grids = {
            ("chaos", "forks"): chaos.forks,
            ("chaos", "compare"): chaos.compare,
            ("chaos", "control"): chaos.control,
            ("training", "lr_drops"): model.training.lr_drops,
            ("kernel", "references"): kernel.references,
            ("kernel", "intervals"): kernel.intervals,
            ("linearized", "switches"): model.linearized.switches,
        }
        for (section, option), grid in grids.items():
            if grid != sorted(set(grid)):
                yield f"{key(section, option)} = {_show(grid)}: must rise, each value once"
        for t0 in chaos.forks:
            if t0 >= last:
                yield (
                    f"{key('chaos', 'forks')} = {t0}: forks at or after the end of training; "
                    f"must be less than training.iterations = {last}"
                )
            elif not model.compare_points(t0):
                yield (
                    f"{key('chaos', 'forks')} = {t0}: no compare point follows this fork; "
                    f"chaos.compare ends at {max(chaos.compare)}"
                )
        for t1 in chaos.compare:
            if t1 > last:
                yield (
                    f"{key('chaos', 'compare')} = {t1}: lies after the end of training; "
                    f"must be at most training.iterations = {last}"
                )
            elif t1 <= min(chaos.forks):
                yield (
                    f"{key('chaos', 'compare')} = {t1}: no fork reaches this point; "
                    f"must be more than the first fork, {min(chaos.forks)}"
                )
        for t0 in sorted(set(chaos.control) - set(chaos.forks)):
            yield (
                f"{key('chaos', 'control')} = {t0}: is not a fork; "
                f"must be among chaos.forks = {chaos.forks}"
            )
        for drop in model.training.lr_drops:
            if drop >= last:
                yield (
                    f"{key('training', 'lr_drops')} = {drop}: lies after the end of training; "
                    f"must be less than training.iterations = {last}"
                )
        if kernel.until > last:
            yield (
                f"{key('kernel', 'until')} = {kernel.until}: lies after the end of training; "
                f"must be at most training.iterations = {last}"
            )
        if kernel.until % kernel.every:
            yield (
                f"{key('kernel', 'until')} = {kernel.until}: is not a kernel checkpoint; "
                f"must be a multiple of kernel.every = {kernel.every}"
            )
        if kernel.until < 2 * kernel.every:
            yield (
                f"{key('kernel', 'until')} = {kernel.until}: leaves fewer than three kernels; "
                f"must be at least twice kernel.every = {kernel.every}"
            )
        for tau in kernel.references:
            if tau % kernel.every == 0 and tau <= kernel.until:
                continue
            yield (
                f"{key('kernel', 'references')} = {tau}: is not a kernel checkpoint; "
                f"must be a multiple of kernel.every = {kernel.every}, "
                f"at most kernel.until = {kernel.until}"
            )
        for dt in kernel.intervals:
            if dt % kernel.every or dt > kernel.until:
                yield (
                    f"{key('kernel', 'intervals')} = {dt}: joins no two kernel checkpoints; "
                    f"must be a multiple of kernel.every = {kernel.every}, "
                    f"at most kernel.until = {kernel.until}"
                )
        for switch in model.linearized.switches:
            if switch >= last:
                yield (
                    f"{key('linearized', 'switches')} = {switch}: leaves no iteration to train; "
                    f"must be less than training.iterations = {last}"
                )
        images, architecture = study.data.images, model.network.architecture
        size = IMAGE_SIZE.get(architecture, images.image_size)
        if images.image_size != size:
            yield (
                f"models.{name}.network.architecture = '{architecture}': takes images of {size} "
                f"pixels, data.images.source '{images.source}' has {images.image_size}; "
                "must be 'resnet20' or 'resnet8', or one for that size"
            )
        train = images.train_examples
        sizes = {"train_examples": train, "test_examples": images.test_examples}
        for option, size in sizes.items():
            asked = getattr(model.evaluation, option)
            if asked > size:
                yield f"{key('evaluation', option)} = {asked}: must be at most {size}, all of them"
        if kernel.examples_per_class > images.smallest_class:
            yield (
                f"{key('kernel', 'examples_per_class')} = {kernel.examples_per_class}: must be at "
                f"most {images.smallest_class}, the training examples of the rarest class"
            )
        if model.training.batch_size > train:
            yield (
                f"{key('training', 'batch_size')} = {model.training.batch_size}: "
                f"must be at most {train}, the number of training examples"
            )
    if study.compute.precision == "tf32" and study.compute.device != "cuda":
        yield "compute.precision = 'tf32': exists on device cuda only; must be 'float32'"
