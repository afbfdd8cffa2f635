"""Which results an edit of the code makes stale."""

import re

import pytest
from staleness import (
    ALL,
    CHAOS,
    CONE,
    FIGURES,
    KERNEL,
    LINEARIZED,
    MATCHING,
    OWN_MEASURES,
    OWN_STAGES,
    SIZES,
    SUMMARIES,
    TRAINED,
    TRAINING,
    add,
    append,
    cells,
    differing,
    option,
    replace,
    results_of,
)


def comment_everywhere(package):
    """Other comments, docstrings and empty lines in every module."""
    for file in package.rglob("*.py"):
        text = re.sub(r'^( *)"""(?=\w)', r'\1"""Said otherwise: ', file.read_text(), flags=re.M)
        text = re.sub(r"^( +)return ", r"\1# It ends.\n\n\1return ", text, flags=re.M)
        file.write_text(text + "\n# The end.\n")
    assert "# It ends." in (package / "training/loop.py").read_text()


A_RECORD = 'class Mine(Record):\n    """Mine."""\n\n    {}: Literal["mine"]\n\n\n'
MATRIX = {
    "add a measure": ([add("measures/mine.py")], set()),
    "add a measure that chaos takes": (
        [
            add("measures/mine.py"),
            replace(
                "stages/chaos.py", "import torch\n", "import torch\nimport twophase.measures.mine\n"
            ),
        ],
        CHAOS,
    ),
    "add a network": (
        [
            add("networks/mine.py"),
            replace(
                "study/networks.py",
                "Network = Annotated[",
                A_RECORD.format("architecture") + "Network = Annotated[Mine | ",
            ),
        ],
        set(),
    ),
    "edit another network": ([append("networks/vgg.py", "\nx = 1\n")], set()),
    "edit the own network": ([append("networks/resnet.py", "\nx = 1\n")], TRAINED),
    "edit what networks share": ([append("networks/layers.py", "\nx = 1\n")], TRAINED),
    "edit what networks are changed by": ([append("networks/variants.py", "\nx = 1\n")], TRAINED),
    "edit other networks": (
        [append(f"networks/{file}.py", "\nx = 1\n") for file in ("resnet18", "own", "vit")],
        set(),
    ),
    "add a data source": (
        [
            add("datasets/mine.py"),
            replace(
                "study/datasets.py",
                "Images = Annotated[",
                A_RECORD.format("source") + "Images = Annotated[Mine | ",
            ),
        ],
        set(),
    ),
    "edit another data source": ([append("datasets/folder.py", "\nx = 1\n")], set()),
    "edit the own data source": ([append("datasets/digits.py", "\nx = 1\n")], ALL),
    "add an optimizer": (
        [
            add("optimizers/mine.py"),
            replace(
                "study/optimizers.py",
                "Optimizer = Annotated[",
                A_RECORD.format("optimizer").replace("Record", "Training")
                + "Optimizer = Annotated[Mine | ",
            ),
        ],
        set(),
    ),
    "edit another optimizer": ([append("optimizers/adamw.py", "\nx = 1\n")], set()),
    "edit the own optimizer": ([append("optimizers/sgd.py", "\nx = 1\n")], TRAINED),
    "add options with defaults": (
        [
            option("study/data.py", "Augmentation"),
            option("study/base.py", "Evaluation"),
            option("study/perturbations.py", "Perturbation"),
            option("study/chaos.py", "Chaos"),
            option("study/kernel.py", "Kernel"),
            option("study/linearized.py", "Linearized"),
            option("study/compute.py", "Compute"),
            option("study/networks.py", "ResNet"),
            option("study/datasets.py", "Digits"),
            option("study/optimizers.py", "Training"),
        ],
        set(),
    ),
    "edit a figure": ([append("figures/fig3.py", "\nx = 1\n")], {"fig3"}),
    "edit the findings": ([append("figures/findings.py", "\nx = 1\n")], {"findings"}),
    "edit the estimators of transitions": (
        [append("estimators/phases.py", "\nx = 1\n")],
        FIGURES,
    ),
    "edit the figures' style": ([append("figures/style.py", "\nx = 1\n")], FIGURES),
    "edit how figures are drawn": ([append("figures/drawing.py", "\nx = 1\n")], FIGURES),
    "edit comments and docstrings": ([comment_everywhere], set()),
    "edit the loop": ([append("training/loop.py", "\nx = 1\n")], TRAINED),
    "edit batches": ([append("training/batches.py", "\nx = 1\n")], TRAINED),
    "edit the networks' noise": ([append("training/noise.py", "\nx = 1\n")], TRAINED),
    "edit the machine's settings": ([append("training/machine.py", "\nx = 1\n")], TRAINED),
    "edit evaluation": (
        [append("training/evaluation.py", "\nx = 1\n")],
        TRAINING | CHAOS | LINEARIZED | MATCHING | OWN_MEASURES | OWN_STAGES | results_of("growth"),
    ),
    "edit the kernel engine": ([append("entk/__init__.py", "\nx = 1\n")], KERNEL),
    "edit the kernel engine's rules": ([append("entk/layers.py", "\nx = 1\n")], KERNEL),
    "edit the kernel engine's check": ([append("entk/check.py", "\nx = 1\n")], KERNEL),
    "edit the barrier": (
        [append("measures/barrier.py", "\nx = 1\n")],
        CHAOS | MATCHING | results_of("growth"),
    ),
    "edit the permutation": ([append("measures/permutation.py", "\nx = 1\n")], MATCHING),
    "edit the kernels' measures": (
        [append("measures/kernel.py", "\nx = 1\n")],
        CONE | results_of("trajectory"),
    ),
    "edit the distance of networks": (
        [append("measures/distance.py", "\nx = 1\n")],
        CHAOS | results_of("trajectory", "growth"),
    ),
    "edit the tasks": ([append("training/tasks.py", "\nx = 1\n")], ALL),
    "edit stage data": ([append("stages/data.py", "\nx = 1\n")], ALL),
    "edit the perturbation": (
        [append("training/perturbation.py", "\nx = 1\n")],
        {"fork state", *CHAOS, *OWN_MEASURES} | results_of("growth", "matching"),
    ),
    "edit the own kind of perturbation": (
        [append("perturbations/gaussian.py", "\nx = 1\n")],
        {"fork state", *CHAOS, *OWN_MEASURES} | results_of("growth", "matching"),
    ),
    "edit other kinds of perturbation": (
        [append(f"perturbations/{file}.py", "\nx = 1\n") for file in ("gradient", "own", "order")],
        set(),
    ),
    "add a kind of perturbation": (
        [
            add("perturbations/mine.py"),
            replace(
                "study/perturbations.py",
                "# What a function of the user's own may ask for",
                A_RECORD.format("kind") + "# What a function of the user's own may ask for",
            ),
            replace(
                "study/perturbations.py",
                "    Perturbation | Gradient",
                "    Mine | Perturbation | Gradient",
            ),
        ],
        set(),
    ),
    "edit stage base": ([append("stages/base.py", "\nx = 1\n")], TRAINING),
    "edit stage fork": (
        [append("stages/fork.py", "\nx = 1\n")],
        {"fork state", *CHAOS, *MATCHING, *OWN_MEASURES},
    ),
    "edit stage chaos": ([append("stages/chaos.py", "\nx = 1\n")], CHAOS),
    "edit stage sizes": ([append("stages/sizes.py", "\nx = 1\n")], SIZES),
    "edit stage kernel": ([append("stages/kernel.py", "\nx = 1\n")], KERNEL),
    "edit stage cone": ([append("stages/cone.py", "\nx = 1\n")], CONE),
    "edit stage across_seeds": (
        [append("stages/across_seeds.py", "\nx = 1\n")],
        results_of("across_seeds"),
    ),
    "edit stage trajectory": (
        [append("stages/trajectory.py", "\nx = 1\n")],
        results_of("trajectory"),
    ),
    "edit stage curvature": ([append("stages/curvature.py", "\nx = 1\n")], results_of("curvature")),
    "edit stage matching": ([append("stages/matching.py", "\nx = 1\n")], MATCHING),
    "edit stage linearized": ([append("stages/linearized.py", "\nx = 1\n")], LINEARIZED),
    "edit stage growth": ([append("stages/growth.py", "\nx = 1\n")], results_of("growth")),
    "edit stage own_measures": ([append("stages/own_measures.py", "\nx = 1\n")], OWN_MEASURES),
    "edit stage own_stages": (
        [append("stages/own_stages.py", "\nx = 1\n")],
        OWN_STAGES | OWN_MEASURES,  # which calls functions as that does
    ),
    "edit the user's own functions": (
        [append("../own.py", "\nx = 1\n")],
        OWN_STAGES | OWN_MEASURES,
    ),
    # Figure s1 shows single runs.
    "edit stage summary": (
        [append("stages/summary.py", "\nx = 1\n")],
        SUMMARIES | FIGURES - {"s1"},
    ),
    "edit progress bars, commands and where results lie": (
        [
            append("training/progress.py", "\nx = 1\n"),
            append("study/stage.py", "\nx = 1\n"),
            append("study/base.py", "\nx = 1\n"),
            append("__main__.py", "\nx = 1\n"),
            append("commands/publish.py", "\nx = 1\n"),
        ],
        set(),
    ),
}


@pytest.mark.parametrize("change", MATRIX)
def test_the_matrix(change, unedited, edited):
    edits, stale = MATRIX[change]
    for edit in edits:
        edit(edited / "twophase")
    assert differing(cells(edited), unedited) == stale
