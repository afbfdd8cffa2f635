"""Command line: `python -m twophase <stage> <study file> ...`, one command for each stage."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from twophase import artifacts, paths, provenance, study
from twophase.errors import Problem, StudyError
from twophase.figures import FIGURES


class Stage(NamedTuple):
    """A command: `function` of `module` is called with the study and the values of `arguments`."""

    help: str
    module: str
    function: str
    arguments: tuple[str, ...] = ()
    # The file written last, as a function of the same values; none where --folder names it.
    output: Callable[..., Path] | None = None


RUN = ("model", "seed")
STAGES = {
    "data": Stage(
        "Bring the data set into its canonical file.", "sources", "prepare_data", (), paths.data
    ),
    "base": Stage("Train one model from one seed.", "base", "train_base", RUN, paths.training),
    "fork": Stage(
        "Perturb a base run at t0 and train on.",
        "fork",
        "train_forks",
        (*RUN, "t0"),
        paths.perturbation,
    ),
    "chaos": Stage(
        "Compare forks with their base run.", "chaos", "compare_forks", RUN, paths.chaos
    ),
    "kernel": Stage(
        "Compute the tangent kernels along a base run.",
        "kernel",
        "compute_kernels",
        RUN,
        paths.kernel_norm,
    ),
    "cone": Stage(
        "Measure the distances between a run's kernels.",
        "cone",
        "measure_cone",
        RUN,
        paths.kernel_distance,
    ),
    "linearized": Stage(
        "Train the linearised network from each switch.",
        "linearized",
        "train_linearized",
        RUN,
        paths.linearized,
    ),
    "summary": Stage(
        "Mean and range of a table over seeds and directions.",
        "summary",
        "summarize",
        ("table",),
        paths.summary,
    ),
    "figure": Stage("Draw a figure of the study.", "figures", "draw", ("figure", "folder")),
    "findings": Stage(
        "Say in numbers what the study shows.", "findings", "write_findings", ("folder",)
    ),
    "manifest": Stage(
        "List the figures with the digests of what they are made from.",
        "manifest",
        "write_manifest",
        ("file", "folder"),
    ),
}
ARGUMENTS: dict[str, dict] = {
    "model": {"help": "name of the model in the study"},
    "seed": {"type": int, "help": "seed of the base run"},
    "t0": {"type": int, "help": "iteration of the perturbation"},
    "table": {"choices": list(paths.RUN_TABLES)},
    "figure": {"choices": FIGURES},
    "folder": {"type": Path, "help": "where to write, for example figures/digits"},
}


def parser() -> argparse.ArgumentParser:
    """The commands, their arguments and help."""
    top = argparse.ArgumentParser(
        prog="python -m twophase",
        description="The stages of a study. Each reads what earlier stages wrote under results/ "
        "of the working directory and writes its own; Snakemake runs them in order.",
    )
    commands = top.add_subparsers(dest="stage", required=True, metavar="stage")
    for name, stage in STAGES.items():
        command = commands.add_parser(name, help=stage.help, description=stage.help)
        command.add_argument("file", type=Path, help="study file: workflow/config/<study>.yaml")
        for argument in stage.arguments:
            if argument != "file":
                command.add_argument(f"--{argument}", required=True, **ARGUMENTS[argument])
        if stage.output:
            command.add_argument(
                "--expect",
                type=Path,
                help="fail unless this is the file to be written: the study or the code may have "
                "changed since the workflow was planned",
            )
    return top


def run(arguments: argparse.Namespace) -> None:
    """Run one stage; its modules are imported only now, so that light stages start fast."""
    plan = study.load(arguments.file)
    _check(plan, arguments)
    stage = STAGES[arguments.stage]
    values = [getattr(arguments, name) for name in stage.arguments]
    written = stage.output(plan, *values) if stage.output else None
    if written and arguments.expect and arguments.expect != written:
        raise StudyError(
            f"{arguments.expect}: is not what {arguments.file} asks for now ({written}): the "
            "study or the code changed since the workflow was planned; run the same command again"
        )
    function = getattr(importlib.import_module(f"twophase.{stage.module}"), stage.function)
    artifacts.ORIGIN.update(provenance.origin(plan, stage.module))
    started = time.process_time()
    function(plan, *values)
    work = time.process_time() - started
    print(
        f"{arguments.stage}: processor time {started:.2f} s to start, {work:.2f} s at work",
        file=sys.stderr,
    )


def _check(plan: study.Study, arguments: argparse.Namespace) -> None:
    """Refuse a model, seed or t0 that the study does not have."""
    allowed: dict[str, list] = {"model": list(plan.models), "seed": plan.seeds}
    model = plan.models.get(getattr(arguments, "model", ""))
    if model:
        allowed["t0"] = model.chaos.forks
    for name, values in allowed.items():
        value = getattr(arguments, name, None)
        if value is not None and value not in values:
            listed = ", ".join(map(str, values))
            raise StudyError(f"{arguments.file}: --{name} {value}: must be one of {listed}")


def main() -> int:
    """Run the command line; a mistake of the user's ends in one line on stderr and status 1."""
    try:
        run(parser().parse_args())
    except (Problem, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
