"""Command line: `python -m twophase <stage> <study file> ...`, one command for each stage."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from twophase import paths, study
from twophase.artifacts import ArtifactError


def parser() -> argparse.ArgumentParser:
    """The commands, their arguments and help."""
    top = argparse.ArgumentParser(
        prog="python -m twophase",
        description="The stages of a study. Each reads what earlier stages wrote under results/ "
        "of the working directory and writes its own; Snakemake runs them in order.",
    )
    stages = top.add_subparsers(dest="stage", required=True, metavar="stage")

    def stage(name: str, help: str, *arguments: str) -> argparse.ArgumentParser:
        command = stages.add_parser(name, help=help, description=help)
        command.add_argument("study", type=Path, help="study file: workflow/config/<study>.yaml")
        for argument in arguments:
            command.add_argument(f"--{argument}", required=True, **OPTIONS[argument])
        return command

    run = ("model", "seed")
    stage("data", "Bring the data set into its canonical file.")
    stage("base", "Train one model from one seed; keep its checkpoints.", *run)
    stage("fork", "Perturb a base run at t0 and train on.", *run, "t0")
    stage("chaos", "Compare the forks of a base run with it.", *run)
    stage("kernel", "Compute the tangent kernels along a base run.", *run)
    stage("cone", "Measure distances between the kernels of a base run.", *run)
    stage("linearized", "Train the linearised network from each switch.", *run)
    stage("summary", "Mean and range of a table over seeds and directions.", "table")
    stage("figure", "Draw a figure of the study.", "figure", "folder")
    stage("findings", "Say in numbers what the study shows.", "folder")
    stage("manifest", "List figures with the digests of what they are made from.", "folder")
    for command in stages.choices.values():
        command.add_argument(
            "--expect",
            type=Path,
            help="fail unless this is the file to be written: the study or the code may have "
            "changed since the workflow was planned",
        )
    return top


OPTIONS: dict[str, dict] = {
    "model": {"help": "name of the model in the study"},
    "seed": {"type": int, "help": "seed of the base run"},
    "t0": {"type": int, "help": "iteration of the perturbation"},
    "table": {"choices": sorted(paths.RUN_TABLES), "help": "name of the table"},
    "figure": {"choices": [f"fig{n}" for n in range(1, 7)], "help": "name of the figure"},
    "folder": {"type": Path, "help": "where to write, for example figures/digits"},
}


def run(arguments: argparse.Namespace) -> None:
    """Run one stage. Each imports what it needs, so that light stages start fast."""
    plan = study.load(arguments.study)
    _check_arguments(plan, arguments)
    match arguments.stage:
        case "data":
            from twophase.data import prepare_data

            prepare_data(plan)
        case "base":
            from twophase.base import train_base

            train_base(plan, arguments.model, arguments.seed)
        case "fork":
            from twophase.fork import train_forks

            train_forks(plan, arguments.model, arguments.seed, arguments.t0)
        case "chaos":
            from twophase.chaos import compare_forks

            compare_forks(plan, arguments.model, arguments.seed)
        case "kernel":
            from twophase.kernel import compute_kernels

            compute_kernels(plan, arguments.model, arguments.seed)
        case "cone":
            from twophase.cone import measure_cone

            measure_cone(plan, arguments.model, arguments.seed)
        case "linearized":
            from twophase.linearized import train_linearized

            train_linearized(plan, arguments.model, arguments.seed)
        case "summary":
            from twophase.summary import summarize

            summarize(plan, arguments.table)
        case "figure":
            from twophase.figures import draw

            draw(plan, arguments.figure, arguments.folder)
        case "findings":
            from twophase.findings import write_findings

            write_findings(plan, arguments.folder)
        case "manifest":
            from twophase.manifest import write_manifest

            write_manifest(plan, arguments.study, arguments.folder)


def _check_arguments(plan: study.Study, arguments: argparse.Namespace) -> None:
    allowed: dict[str, list] = {"model": list(plan.models), "seed": plan.seeds}
    model = plan.models.get(getattr(arguments, "model", ""))
    if model:
        allowed["t0"] = model.chaos.forks
    for name, values in allowed.items():
        value = getattr(arguments, name, None)
        if value is not None and value not in values:
            listed = ", ".join(map(str, values))
            raise study.StudyError(f"{arguments.study}: --{name} {value}: must be one of {listed}")
    written = output(plan, arguments)
    if arguments.expect and written and arguments.expect != written:
        raise study.StudyError(
            f"{arguments.expect}: is not what {arguments.study} asks for now ({written}): the "
            "study or the code changed since the workflow was planned; run the same command again"
        )


def output(plan: study.Study, arguments: argparse.Namespace) -> Path | None:
    """The file that the stage writes last, for stages whose path the study determines."""
    match arguments.stage:
        case "data":
            return paths.data(plan)
        case "base":
            return paths.training(plan, arguments.model, arguments.seed)
        case "fork":
            return paths.perturbation(plan, arguments.model, arguments.seed, arguments.t0)
        case "chaos":
            return paths.chaos(plan, arguments.model, arguments.seed)
        case "kernel":
            return paths.kernel_norm(plan, arguments.model, arguments.seed)
        case "cone":
            return paths.kernel_distance(plan, arguments.model, arguments.seed)
        case "linearized":
            return paths.linearized(plan, arguments.model, arguments.seed)
        case "summary":
            return paths.summary(plan, arguments.table)
    return None


def main() -> int:
    """Run the command line; a mistake of the user's ends in one line on stderr and status 1."""
    try:
        run(parser().parse_args())
    except (study.StudyError, ArtifactError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
