"""The write-up's methods: what each study set, in words."""

from __future__ import annotations

from twophase.figures import names
from twophase.study import networks, studyfile
from twophase.study.kernel import Kernel
from twophase.study.model import Model, Study
from twophase.study.optimizers import Training
from twophase.writeup.sources import Source
from twophase.writeup.text import counted, name_of, number, table

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
INITS = {
    "kaiming_fan_in": "Kaiming normal, fan-in",
    "kaiming_fan_out": "Kaiming normal, fan-out",
    "pytorch": "as PyTorch does",
}
# What networks begin with where a study says nothing: that of the authors' earlier code.
AT_FIRST = {"vgg": "kaiming_fan_out", "resnet": "kaiming_fan_in", "resnet18": "kaiming_fan_in",
            "mlp": "kaiming_fan_in"}  # fmt: skip
SMALL_HEAD = "last layer normal with deviation 0.01"
KERNELS = {"full": "all outputs", "trace": "traced over outputs", "pseudo": "of their sum"}


def settings(sources: list[Source]) -> str:
    """What was set: a row for each source, in words."""
    rows = []
    for source in sources:
        study = studyfile.load(source.file)
        model = source.model
        rows.append(
            [
                name_of(source),
                f"{network(model)}; {initialisation(model)}",
                f"{names.images(study)}; {augmentation(study)}".replace(r"\$", "$"),
                training(model.training),
                precision(study),
                source.withheld or seeds(source),
                perturbations(model) if model.chaos else "–",
                kernel(model.kernel) if model.kernel else "–",
            ]
        )
    head = [
        "Study, model", "Network, initialisation", "Images, augmentation", "Training", "Numbers",
        "Seeds × directions", "Perturbation", "Kernel",
    ]  # fmt: skip
    return table(head, rows, "settings")


def network(model: Model) -> str:
    """The network with all options that a study gave."""
    told = {*names.OPTIONS, "batch_norm", "init", "head_init", "builder", "file", "torchvision"}
    given = model.network.options(exclude=networks.BESIDE)
    others = [f"{key} {names.plain(value)}" for key, value in given.items() if key not in told]
    return ", ".join([names.network(model), *others[1:]])  # the first is the architecture


def initialisation(model: Model) -> str:
    """How the weights are drawn."""
    asked = model.network
    family, init = getattr(asked, "family", ""), getattr(asked, "init", "default")
    said = INITS.get(AT_FIRST.get(family, "") if init == "default" else init, "as its code does")
    small = init == "default" and getattr(asked, "head_init", "") == "normal"
    return said + f", {SMALL_HEAD}" * small


def augmentation(study: Study) -> str:
    """What is done with training images."""
    asked = study.data.augmentation
    said = [f"crop after padding by {counted(asked.shift, 'pixel')}"] * bool(asked.shift)
    said += ["flip"] * asked.flip + [f"cut-out of {number(asked.cutout)} pixels"] * bool(
        asked.cutout
    )
    return "random " + ", ".join(said) if said else "not augmented"


def training(asked: Training) -> str:
    """The optimizer with its options, the learning rate and how it changes, batch and length."""
    said = [OPTIMIZERS[asked.optimizer]]
    if asked.optimizer == "sgd":
        said += [f"{'Nesterov ' * asked.nesterov}momentum {number(asked.momentum)}"]
    else:
        said += [f"betas {' and '.join(map(number, asked.betas))}"]
    said += [
        f"weight decay {number(asked.weight_decay)}",
        f"learning rate {number(asked.lr)}, {schedule(asked)}",
        f"batches of {number(asked.batch_size)}",
        f"{number(asked.iterations)} iterations",
    ]
    return ", ".join(said)


def schedule(asked: Training) -> str:
    """How the learning rate changes."""
    own, drops = asked.schedule, " and ".join(map(number, asked.lr_drops))
    rises = f"risen to within {number(own.warmup)} iterations, then " if own and own.warmup else ""
    if drops:
        return f"{rises}divided by ten at {drops}"
    if own is None or not own.falls:
        return f"{rises}constant"
    end = number(own.until or asked.iterations)
    return f"{rises}falling to {number(own.end_factor)} of it at {end} ({own.kind})"


def precision(study: Study) -> str:
    """Where and how numbers are computed."""
    asked = study.compute
    where = "GPU" if asked.device == "cuda" else f"CPU, {counted(asked.threads, 'thread')}"
    return f"{asked.precision}, {where}"


def perturbations(model: Model) -> str:
    """What forks get; the first is that of verdicts."""
    kinds = model.chaos.kinds().items()
    return "; ".join(f"{name}: {names.noise(k)}" if name else names.noise(k) for name, k in kinds)


def seeds(source: Source) -> str:
    """How many seeds there are, and for how many directions each is perturbed."""
    chaos = source.model.chaos
    return number(source.seeds) + (f" × {number(chaos.directions)}" if chaos else "")


def kernel(asked: Kernel) -> str:
    """Of which inputs and outputs the kernel is."""
    of = KERNELS.get(asked.kind, asked.kind)
    if asked.projection:
        of += f" in {counted(asked.projection, 'random direction')}"
    if asked.examples:
        return f"{counted(asked.examples, 'example')}, {of}"
    return f"{counted(asked.examples_per_class, 'example')} of each class, {of}"
