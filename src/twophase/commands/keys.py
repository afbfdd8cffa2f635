"""A sentence and an example for each key that a study file may say, by the record that has it.

The reference of the study file and the schema for editors show them. A key that records share
stands with the record that they inherit it from. A field may say both itself, by the `description`
and `examples` of pydantic's `Field`, and then needs no line here.
"""

from __future__ import annotations

from typing import Any, get_args

from twophase.study.records import Record

KEYS: dict[str, dict[str, tuple[str, Any]]] = {
    "Study": {
        "title": ("What the study is, for the captions of its figures.", "Digits, two networks"),
        "data": (
            "Images, and how training augments them; or other examples.",
            {
                "images": {"source": "digits", "test_examples": 500},
                "augmentation": {"shift": 1, "flip": False},
            },
        ),
        "models": (
            "The networks by names of your choice, each with what differs from shared sections.",
            {"vgg": {"network": {"architecture": "vgg_small"}}},
        ),
        "seeds": (
            "One base run of each model for each; a seed says initialisation and all SGD noise.",
            [0, 1, 2],
        ),
        "compute": (
            "The machine's part in a result.",
            {"device": "cpu", "threads": 1, "precision": "float32"},
        ),
        "sweep": (
            "Options of models, each with a list of values: one model for every combination.",
            {"training.lr": [0.01, 0.02]},
        ),
        "figures": (
            "Figures of your own, by names of your choice.",
            {"growing": {"file": "mine.py", "function": "growing", "tables": ["chaos"]}},
        ),
    },
    "OwnFunction": {
        "file": ("A file beside the study file, or in a folder there.", "mine.py"),
        "function": ("The function's name; without a file, `module:function`.", "apart"),
        "options": ("What the function takes by name.", {"order": 2}),
    },
    "OwnStage": {
        "at": ("The iterations of the states that it gets; all that are kept.", [0, 100]),
    },
    "OwnFigure": {
        "tables": ("The tables that it gets, summaries too.", ["chaos", "chaos_summary"]),
    },
    "Model": {
        "network": ("The network.", {"architecture": "resnet20"}),
        "training": (
            "How base runs and forks are trained. The loss is the mean of the task's over the "
            "batch.",
            {"iterations": 500, "lr": 0.04},
        ),
        "evaluation": (
            "On how many examples losses and accuracies are measured.",
            {"train_examples": 500, "test_examples": 500},
        ),
        "chaos": ("Perturbed forks, compared with their base run.", {"forks": [0, 100]}),
        "sizes": ("The same forks after perturbations of other sizes.", {"values": [1e-6, 1e-3]}),
        "kernel": ("Tangent kernels along the base runs, and their distances.", {"every": 25}),
        "across_seeds": ("Angles between kernels of different seeds; it has no keys.", {}),
        "linearized": ("Linearised training from some iterations on.", {"switches": [0, 100]}),
        "curvature": ("How sharply the training loss bends.", {"every": 50, "examples": 200}),
        "trajectory": ("The base run's way through its parameters; it has no keys.", {}),
        "growth": ("How base run and forks part, step by step.", {"forks": [0], "steps": 50}),
        "matching": ("Barriers after a permutation of the fork's units.", {"sweeps": 100}),
        "measures": (
            "Measures of your own, by names of your choice.",
            {"apart": {"file": "mine.py", "function": "apart"}},
        ),
        "stages": (
            "Stages of your own, by names of your choice.",
            {"norms": {"file": "mine.py", "function": "norms"}},
        ),
    },
    "Data": {
        "images": (
            "Where the images come from, or other examples: a source.",
            {"source": "digits", "test_examples": 500},
        ),
        "statistics": (
            "Each channel's mean and deviation; without it, those of the training images.",
            {"mean": [0.5], "std": [0.25]},
        ),
        "augmentation": ("How training changes images, if any.", {"shift": 1, "flip": False}),
    },
    "Statistics": {
        "mean": ("Mean of each channel, where 0 is black and 1 white.", [0.49, 0.48, 0.45]),
        "std": ("Standard deviation of each channel, in the same unit.", [0.25, 0.24, 0.26]),
    },
    "Augmentation": {
        "shift": ("Pixels of zero padding around an image, before a random crop of its size.", 4),
        "flip": ("Whether half of the images, at random, are mirrored left to right.", True),
        "cutout": ("Side of a square around a random pixel that is set to 0; 0 for none.", 8),
    },
    "Evaluation": {
        "train_examples": ("How many of the first training examples are used.", 2000),
        "test_examples": ("How many of the first test examples are used.", 2000),
    },
    "Perturbation": {
        "kind": (
            "What `size` is: standard deviation of every entry (`std`), L2 norm of the whole "
            "(`l2`), that norm over the norm of the parameters (`relative`), or standard deviation "
            "over that of the initial entries of the same tensor (`initial`).",
            "std",
        ),
        "size": ("How large the Gaussian noise is.", 1e-7),
        "only": (
            "Patterns of names; only parameters that match one get noise. Without it, all do.",
            ["*.bias", "layers.0.*"],
        ),
    },
    "Step": {
        "size": ("The L2 norm of the step.", 1e-3),
        "relative": ("Whether `size` is over the norm of the parameters that may change.", True),
        "only": ("Patterns of names; only parameters that match one may change.", ["*.weight"]),
    },
    "Hessian": {
        "examples": ("Training examples that the loss is of; all, if there are fewer.", 512),
    },
    "Ulp": {
        "only": ("Patterns of names of the parameters that the entry may be of.", ["*.weight"]),
    },
    "OwnKick": {
        "kind": ("May be left out.", "own"),
        "file": ("The file beside the study file that has the function.", "my_kick.py"),
        "function": ("Its name; without a file `module:function` of a package.", "kick"),
        "options": ("What the function is called with.", {"size": 0.1}),
    },
    "Chaos": {
        "forks": ("The t0: iterations at which a copy of the base run is perturbed.", [0, 100]),
        "compare": ("The t1: iterations at which forks and base run are compared.", [200, 500]),
        "follow": (
            "The t1 after each t0: so many iterations later; `compare` may be [].",
            [50, 400],
        ),
        "directions": ("How many perturbations of each kind and size, from each t0.", 2),
        "control": ("The t0 from which there is also a fork without perturbation.", [0]),
        "perturbation": (
            "What differs from t0 on, where it is one thing.",
            {"kind": "std", "size": 1e-7},
        ),
        "perturbations": (
            "Several of them by names of your choice, in the place of `perturbation`.",
            {"gauss": {"kind": "std", "size": 1e-7}, "order": {"kind": "order"}},
        ),
        "barrier_points": ("Points on the straight path between two networks, with its ends.", 11),
        "barrier_refine": ("How many points more are put around the largest gap of a path.", 8),
        "recalibrated": (
            "Whether the barrier is also measured with batch norm's statistics measured anew.",
            True,
        ),
        "barrier_batch_norm": (
            "Batch norm's running statistics on that path: `interpolate` takes them from the line "
            "between those of the two ends, as the weights; `recalibrate` measures them anew at "
            "every point, on the training examples of `evaluation`. Without batch norm the two are "
            "the same.",
            "interpolate",
        ),
        "barrier_threshold": (
            "Above this barrier (nats, or the unit of the task's loss) base run and fork count as "
            "parted; only figures and claims use it.",
            0.1,
        ),
    },
    "Sizes": {
        "values": ("The sizes, of the kind of `chaos.perturbation`.", [1e-6, 1e-5, 1e-4]),
        "forks": ("Some of `chaos.forks`; without it, all of them.", [0]),
        "perturbation": (
            "Which of `chaos.perturbations`; without it, the first that has a size.",
            "gauss",
        ),
    },
    "Kernel": {
        "every": ("Iterations between two kernels.", 25),
        "until": ("The last iteration with a kernel, a multiple of `every`.", 500),
        "times": (
            "Iterations of kernels, one by one, in the place of `every` and `until`.",
            [0, 9, 90],
        ),
        "keep": ("Whether kernels are kept once their tables are there.", False),
        "examples_per_class": ("Training examples of each class that the kernel is of.", 4),
        "examples": ("The same where the task has no classes: so many in all.", 100),
        "projection": ("Random directions of the outputs that the kernel is of.", 8),
        "kind": (
            "`full` for all pairs of examples and classes, `trace` for the trace over classes, "
            "`pseudo` for the sum of logits.",
            "full",
        ),
        "references": ("The tau of S(t, tau), multiples of `every`.", [0, 100]),
        "intervals": ("The dt of S(t, t + dt), multiples of `every`.", [25, 50]),
    },
    "Linearized": {
        "switches": ("Iterations from which the linearised network is trained.", [0, 100, 300]),
    },
    "Curvature": {
        "every": ("Iterations between two measurements.", 50),
        "examples": ("Training examples of the Hessian's largest eigenvalue.", 500),
        "batches": ("Batches that batch sharpness is the mean over.", 4),
        "lanczos_steps": ("Steps of Lanczos for that eigenvalue.", 12),
    },
    "Growth": {
        "forks": ("Iterations from which base run and forks are trained side by side.", [0, 300]),
        "steps": ("How many iterations.", 100),
        "examples": ("Training examples that their outputs and gates are compared on.", 100),
        "perturbations": (
            "Standard deviations of Gaussian noise; `ulp`, one unit in the last place of one "
            "parameter; `noise`, no perturbation but other SGD noise; names of "
            "`chaos.perturbations`.",
            ["1e-7", "ulp"],
        ),
        "precisions": ("Precisions in which both are trained.", ["float32"]),
    },
    "Matching": {
        "compare": ("Some of `chaos.compare`; without it, the last of them.", [500]),
        "sweeps": ("How often, at most, the search for a permutation goes over all layers.", 100),
    },
    "Compute": {
        "device": ("Processor or GPU.", "cpu"),
        "threads": ("PyTorch's threads for each job; more than one changes rounding.", 1),
        "precision": (
            "On a GPU, `tf32` computes convolutions in TF32, but never kernels.",
            "float32",
        ),
    },
    "Digits": {
        "test_examples": ("How many of the 1,797 digits are for test.", 500),
    },
    "CIFAR10": {
        "folder": ("Where its files are, or are downloaded to.", "data/cifar10"),
    },
    "Counted": {
        "classes": ("How many classes there are; compared with what is found.", 10),
        "train_examples": ("How many training images; compared with what is found.", 50000),
        "test_examples": ("How many test images; compared with what is found.", 10000),
    },
    "Pictures": {
        "image_size": ("Height and width of the images in pixels, after `resize`.", 32),
        "resize": ("Whether pictures are scaled and cut to that size.", True),
        "pad": ("Whether pictures are made square with black first.", True),
    },
    "ImageFolder": {
        "path": ("The folder, or a tar of it, from where Snakemake runs.", "data/mine.tar.xz"),
        "sha256": ("Which images these are: `twophase data <study> --digest` prints it.", "0" * 64),
    },
    "TorchvisionSet": {
        "dataset": ("The name of the class in `torchvision.datasets`.", "SVHN"),
        "options": ("What else that class takes.", {"background": True}),
        "folder": ("Where its files are.", "data/svhn"),
        "download": ("Whether torchvision downloads them if they are not there.", True),
        "splits": ("What the class calls training and test.", ["train", "test"]),
        "channels": ("3 for RGB, 1 for grey.", 3),
        "sha256": ("Which images these are: `twophase data <study> --digest` prints it.", "0" * 64),
    },
    "OfFunction": {
        "file": ("The file beside the study file that has the function.", "my_images.py"),
        "function": ("Its name; without a file `module:function` of a package.", "blobs"),
        "options": ("What the function is called with.", {"noise": 0.1}),
        "sha256": ("Which examples these are, if the function reads files.", "0" * 64),
        "task": (
            "What is to be learnt: `classification`, `regression`, or your own.",
            "regression",
        ),
    },
    "FunctionOfArrays": {
        "channels": ("Channels of the images.", 1),
        "image_size": ("Height and width of the images in pixels.", 16),
    },
    "Vectors": {
        "features": ("How many numbers a vector has.", 10),
    },
    "Sequences": {"length": ("How many tokens a sequence has.", 64)},
    "Tokens": {
        "vocabulary": ("How many different tokens there are.", 100),
    },
    "Text": {
        "path": ("The text file, from where Snakemake runs.", "data/tinyshakespeare.txt"),
        "sha256": ("Which text this is: `twophase data <study> --digest` prints it.", "0" * 64),
        "tokens": ("What a token is: `characters` of the text, or `bytes` of the file.", "bytes"),
        "test_share": ("How much of the text, at its end, is for test.", 0.1),
    },
    "OwnTask": {
        "file": ("The file beside the study file that has the functions.", "my_task.py"),
        "loss": ("The function `loss(out, labels)`: the loss of each example.", "absolute_error"),
        "prediction": ("The function `prediction(out)`, of which disagreement is.", "nearest"),
        "outputs": ("The function `outputs(out)` (n, k) that the kernel is of.", "last"),
        "unit": ("The unit of the loss, on the axes of figures.", "mm"),
    },
    "Changed": {
        "norm": ("What takes the place of batch norm, where the network has it.", "group"),
        "init": ("How weights are drawn: as the network's own file says, or so.", "kaiming_fan_in"),
    },
    "VGG16": {
        "batch_norm": ("Whether batch norm follows each convolution.", True),
        "wide_head": ("ImageNet's two layers of 4096 units before the last.", False),
        "width": ("A factor on the channels of all convolutions.", 0.25),
        "activation": ("What follows each layer.", "gelu"),
        "pooling": ("What ends each block of convolutions.", "average"),
        "head_init": ("How the last layer is drawn: N(0, 0.01), or as convolutions.", "normal"),
        "dropout": ("Share of the wide head's units that training sets to zero.", 0.5),
    },
    "SmallVGG": {
        "batch_norm": ("Whether batch norm follows each convolution.", True),
        "width": ("A factor on the channels of all convolutions.", 0.5),
        "activation": ("What follows each layer.", "silu"),
        "pooling": ("What ends each block of convolutions.", "average"),
        "head_init": (
            "How the last layer is drawn: N(0, 0.01), or as convolutions.",
            "kaiming_fan_out",
        ),
    },
    "ResNet": {
        "architecture": ("This network, of 20 layers or 8.", "resnet20"),
        "width": ("A factor on all channels.", 2),
        "activation": ("What follows each layer.", "relu"),
    },
    "ResNet18": {
        "width": ("A factor on all channels.", 0.25),
        "activation": ("What follows each layer.", "relu"),
        "norm": ("What takes the place of batch norm.", "group"),
        "init": ("How weights are drawn: as the network's own file says, or so.", "pytorch"),
    },
    "MLP": {
        "widths": ("Units of each hidden layer.", [256, 256]),
        "activation": ("What follows each hidden layer.", "relu"),
        "dropout": ("Share of the hidden units that training sets to zero.", 0.1),
        "init": ("How weights are drawn: as PyTorch does, or so.", "kaiming_fan_in"),
    },
    "ViT": {
        "patch": ("Height and width of a patch in pixels.", 4),
        "width": ("Entries of a patch's vector, a multiple of `heads`.", 64),
        "depth": ("Number of blocks.", 4),
        "heads": ("Attention heads of each block.", 4),
        "expansion": ("How many times as wide each block's hidden layer is.", 2),
        "activation": ("What follows that layer.", "gelu"),
        "dropout": ("Share of a block's entries that training sets to zero.", 0.1),
    },
    "GPT": {
        "width": ("Entries of a token's vector, a multiple of `heads`.", 64),
        "depth": ("Number of blocks.", 2),
        "heads": ("Attention heads of each block.", 4),
        "expansion": ("How many times as wide each block's hidden layer is.", 4),
        "activation": ("What follows that layer.", "gelu"),
        "dropout": ("Share of a block's entries that training sets to zero.", 0.1),
    },
    "Torchvision": {
        "architecture": ("May be left out.", "torchvision"),
        "torchvision": ("The name of the builder in `torchvision.models`.", "resnet18"),
        "options": ("What else that builder takes.", {"zero_init_residual": True}),
    },
    "Own": {
        "architecture": ("May be left out.", "own"),
        "file": ("The file beside the study file that has the builder.", "my_network.py"),
        "same_weights": ("Whether every seed may start from the same weights.", True),
        "builder": ("Its name; without a file `module:function` of a package.", "build"),
        "options": ("What the builder is called with.", {"depth": 3}),
    },
    "Schedule": {
        "kind": ("What follows the warm-up.", "cosine"),
        "warmup": ("Iterations in which the learning rate rises to `lr`.", 100),
        "until": ("Iteration at which it has fallen; without it, the end of training.", 5000),
        "end_factor": ("What it falls to, as a share of `lr`.", 0.01),
    },
    "Training": {
        "iterations": ("How many steps.", 500),
        "batch_size": ("Examples of each step.", 128),
        "lr": ("Learning rate.", 0.1),
        "weight_decay": (
            "What, times the parameters, is added to the gradient; with adamw to the step.",
            1e-4,
        ),
        "lr_drops": ("Iterations at which `lr` is divided by 10.", [400, 600]),
        "schedule": ("How `lr` changes, in place of `lr_drops`.", {"kind": "cosine"}),
        "drop_last": ("Whether the last, smaller batch of each epoch is left out.", True),
    },
    "SGD": {
        "optimizer": ("May be left out.", "sgd"),
        "momentum": ("Share of the last step that is made again.", 0.9),
        "nesterov": ("Whether momentum is Nesterov's.", True),
    },
    "Adam": {
        "betas": ("Decay of the means of the gradient and of its square.", [0.9, 0.999]),
        "eps": ("What is added to the root of the second.", 1e-8),
    },
}


# What tells records of a kind apart, where a record has but one value.
TAGS = {
    "source": "This source.",
    "architecture": "This network.",
    "optimizer": "This optimizer.",
    "kind": "This perturbation.",
}


def told(record: type[Record], key: str) -> tuple[str, Any] | None:
    """What a key of a record is, and an example; None if nobody has said it."""
    field = record.model_fields.get(key)
    if field and field.description and field.examples:
        return field.description, field.examples[0]
    for kind in record.mro():
        if key in KEYS.get(kind.__name__, {}):
            return KEYS[kind.__name__][key]
    values = get_args(field.annotation) if field and key in TAGS else ()
    return (TAGS[key], values[0]) if len(values) == 1 else None
