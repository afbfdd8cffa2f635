"""What stands in titles and captions: networks, images and perturbations in words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from twophase.figures import style
from twophase.figures.panels import Page, Panel
from twophase.study import tasks
from twophase.study.model import Model, Study
from twophase.study.perturbations import Kind
from twophase.study.sweep import label
from twophase.study.tasks import Words

NETWORKS = {
    "vgg16": "VGG-16",
    "vgg_small": "VGG",
    "resnet20": "ResNet-20",
    "resnet8": "ResNet-8",
    "resnet18": "ResNet-18",
    "mlp": "MLP",
    "vit": "ViT",
    "gpt": "GPT",
}
SMALL = ("vgg_small", "vit", "gpt")
IMAGES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
# Options that change what a network is, as a title says them.
OPTIONS = {
    "width": "{:g} × width",
    "activation": "{}",
    "norm": "norm: {}",
    "wide_head": "4096-wide head",
    "dropout": "dropout\xa0{:g}",
}
TRANSITIONS = {"chaos": "the end of chaos (diamond)",
               "cone": "when the kernel is half-way into its later cone (dot)"}  # fmt: skip
NO_TRANSITION = {"chaos": "no end of chaos is marked", "cone": "no way into a cone is marked"}


def network(model: Model, told: Iterable[str] = ()) -> str:
    """A network in words, such as "VGG (small, 0.5 × width)"; with the options `told` even where
    they are at their defaults.
    """
    asked = model.network
    name = getattr(asked, "torchvision", None) or getattr(asked, "builder", "").split(":")[-1]
    name = name or NETWORKS.get(asked.architecture, asked.architecture)
    given = asked.options() | {key: getattr(asked, key) for key in told}
    said = ["small"] * (asked.architecture in SMALL)
    said += [text.format(given[key]) for key, text in OPTIONS.items() if key in given]
    said = [each.replace(" × width", " wide") for each in said] if name == "ViT" else said
    if "batch_norm" in given:
        said.append("batch norm" if given["batch_norm"] else "no batch norm")
    return name + f" ({', '.join(said)})" * bool(said)


def images(study: Study) -> str:
    """The images of a study in words."""
    asked = study.data.images
    place = Path(getattr(asked, "path", "")).name.partition(".")[0]
    name = getattr(asked, "dataset", None) or getattr(asked, "function", None) or place
    known = IMAGES.get(asked.source) or IMAGES.get(name.split("-")[0].lower())
    return (known or name or asked.source).replace("$", r"\$")  # never mathematics


def words(study: Study) -> Words:
    """What the study's task is called."""
    found = tasks.words(study.data.images.task)
    if study.data.images.form == "images":
        return found
    return found._replace(disagreement=found.disagreement.replace("test images", "test examples"))


def axis(study: Study, label: str) -> str:
    """A label in the units of the study's task, from that of classification."""
    said = words(study)
    label = label.replace("(nats)", f"({said.unit})")
    return label.replace("disagreement (share)", f"disagreement ({said.measure})")


def option(key: str) -> str:
    """What is swept, in words: "batch size" of "training.batch_size"."""
    return key.rpartition(".")[2].replace("_", " ")


def titles(study: Study) -> dict[str, str]:
    """A title for each model: its network and images, and what tells it from others."""
    found = {}
    for name, model in study.models.items():
        swept = study.sweep[name].values if name in study.sweep else {}
        told = {f"network.{key}": key for key in (*OPTIONS, "batch_norm")}
        own = [told[key] for key in swept if key in told]
        others = [f"{option(k)}\xa0{label(v)}" for k, v in swept.items() if k not in told]
        found[name] = ", ".join([network(model, own), images(study), *others])
    alike = [title for title in found.values() if list(found.values()).count(title) > 1]
    return {n: f"{title} ({n})" if title in alike else title for n, title in found.items()}


def perturbed(study: Study, every: bool = False) -> str:
    """What forks got, as the options say it: those of the main perturbation, or of `every` one."""
    return " or ".join(dict.fromkeys(called(*each) for each in _kinds(study, every)))


def then(study: Study, every: bool = False) -> str:
    """What forks saw after that; of the main perturbation, or of `every` one."""
    if all(kind.same_batches for _, kind in _kinds(study, every)):
        return "saw the same batches"
    return "saw the same batches, unless these are what differs"


def _kinds(study: Study, every: bool) -> list[tuple[str, Kind]]:
    """The names and kinds of each model's main perturbation, or of all."""
    found = [list(m.chaos.kinds().items()) for m in style.models(study, "chaos").values()]
    return [kind for kinds in found for kind in kinds[: None if every else 1]]


def called(name: str, perturbation: Kind) -> str:
    """A perturbation in words, with its name if it has one."""
    return f"{name} ({noise(perturbation)})" if name else noise(perturbation)


def noise(perturbation: Kind) -> str:
    """A perturbation in words; other options in those of its options."""
    given = perturbation.model_dump(exclude={"kind", "size", "relative", "function"})
    fields = type(perturbation).model_fields
    others = {
        k: v for k, v in given.items() if v != fields[k].get_default(call_default_factory=True)
    }
    others |= others.pop("arguments", {})  # of a function of the user's own
    told = f" ({', '.join(f'{k}: {plain(v)}' for k, v in others.items())})" * bool(others)
    return perturbation.words() + told


def plain(value: Any) -> str:
    """An option's value; of a list its entries."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def every(study: Study, forks: bool = False) -> str:
    """What thick and thin lines are."""
    seeds = len(study.seeds)
    directions = sorted({m.chaos.directions for m in style.models(study, "chaos").values()})
    several = forks and directions != [1]
    if seeds == 1 and not several:
        return f"Lines: one run, seed {study.seeds[0]}."
    text = f"{seeds} seed{'s' * (seeds > 1)}"
    if several:
        text += f" × {' or '.join(map(str, directions))} perturbation directions"
    return (
        f"Thick lines: means, on logarithmic axes medians, over {text}. Thin lines: each run; "
        "where these would be many, a band from the smallest to the largest."
    )


def rates(study: Study) -> str:
    """How the learning rate changes, where a figure shows it."""
    trained = [model.training for model in study.models.values()]
    said = ["Dotted: the learning rate is divided by 10."] * any(t.lr_drops for t in trained)
    for kind in dict.fromkeys(t.schedule.kind for t in trained if t.schedule):
        if kind in ("cosine", "linear"):
            said.append(f"The learning rate falls as {'half a ' * (kind == 'cosine')}{kind}.")
    return " ".join(said)


def transitions(study: Study, marks: style.Transitions) -> str:
    """What the bars on axes of iterations mark, and why one is not there."""
    each = [(name, what, time) for name, own in marks.items() for what, time in own.items()]
    found = {what for _, what, time in each if not isinstance(time, str)}
    if not found:
        return ""
    shown, told = titles(study), (TRANSITIONS[what] for what in TRANSITIONS if what in found)
    said = [
        f"Along the top: {' and '.join(told)}, mean over seeds and 95 % interval, or with no sign "
        "where all seeds lie."
    ]
    said += [f"{shown[n]}: {NO_TRANSITION[w]} ({t})." for n, w, t in each if isinstance(t, str)]
    return " ".join(said)


def page(
    study: Study,
    rows: list[list[Panel]],
    *sentences: str,
    marks: style.Transitions | None = None,
    forks: bool | None = None,
) -> Page:
    """A page with its caption: the study's title, the sentences that are not empty, what panels say
    of themselves, then what lines are (of `forks`, or of base runs; not said if it is None) and
    what marks on axes of iterations are.
    """
    panels = [panel for row in rows for panel in row]
    values = np.concatenate([[], *(panel.values for panel in panels)])
    lost = int((~np.isfinite(values)).sum())
    said = [" ".join(study.title.split()).rstrip(".") + ".", *sentences]
    said += dict.fromkeys(panel.also for panel in panels)
    said += [f"Not drawn: {lost} of {len(values)} values that are not finite."] * bool(lost)
    said += [every(study, forks)] * (forks is not None)
    if marks is not None:
        said += [rates(study), transitions(study, marks)]
    return Page(rows, " ".join(each.strip() for each in said if each.strip()))
