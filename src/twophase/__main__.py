"""Command line: `twophase <command> <study file> ...`, one command for each stage; without
installing, `python -m twophase ...`.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twophase.commands.discard import discard
from twophase.errors import Problem, RunError, StudyError
from twophase.figures import FORMATS, asked
from twophase.study import noted, stages, studyfile
from twophase.study.model import STUDIES, Study
from twophase.study.run import Run, runs
from twophase.study.stages import missing

LOOKS = ("format", "width", "panel", "style", "caption")  # of a figure; without them its own files
# Commands beside the stages: what they do, their arguments, and the function that does it.
COMMANDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "summary": (
        "Mean and range of a table over seeds and directions.",
        ("table", "fingerprint"),
        "stages.summary:summary",
    ),
    "summaries": (
        "Make all summaries that are not there.",
        ("fingerprint",),
        "stages.summary:summaries",
    ),
    "figure": (
        "Draw a figure of the study.",
        ("figure", "folder", *LOOKS),
        "figures.drawing:draw",
    ),
    "redraw": (
        "Draw a figure from the measurements published beside a study file.",
        ("file", "figure", "folder", *LOOKS),
        "figures.drawing:redraw",
    ),
    "figures": (
        "Draw the figures that are not current, and list all with digests of what they are of.",
        ("file", "folder"),
        "figures.manifest:draw_all",
    ),
    "publish": (
        "Copy a finished study's tables, with where they come from, to paper/measurements.",
        ("file", "partial"),
        "commands.publish:publish",
    ),
    "next": (
        "Do the next seeds of a long study within the minutes given, and publish each.",
        ("file", "minutes", "first"),
        "commands.next:next_seeds",
    ),
    "plan": (
        "Say what is left to do, and the hours, memory and disk that it takes.",
        ("file", "cores"),
        "commands.plan:plan",
    ),
    "status": (
        "Say how far a study is: what runs, what has ended, what waits.",
        (),
        "commands.status:status",
    ),
    "adopt": (
        "Take over results of older code, after a sample of the work has given the same bits.",
        ("sample",),
        "commands.adopt:adopt",
    ),
}
LOOKING = ("plan", "status")  # commands that leave nothing
RUN = "Do all stages of a run that are not done yet, one after another."
PROVENANCE = "Say where a result or figure comes from, and whether it is current."
NEW = "Write a study file for a network and a folder of pictures, with all that can be guessed."
SCHEMA = "Print a JSON schema of study files, from which editors complete and check them."
ARGUMENTS: dict[str, dict] = {
    "model": {"required": True, "help": "name of the model in the study"},
    "seed": {"required": True, "type": int, "help": "seed of the base run"},
    "part": {"type": int, "default": 1, "help": "which part of the forks to do (default: 1)"},
    "parts": {"type": int, "default": 1, "help": "number of parts of the forks (default: 1)"},
    "keep-minutes": {
        "type": float,
        "default": 5.0,
        "help": "minutes of work between two states that are kept by time (default: 5)",
    },
    "table": {"required": True, "choices": list(stages.SUMMARISED)},
    "figure": {"required": True, "help": "name of the figure, such as fig3"},
    "folder": {
        "required": True,
        "type": Path,
        "help": "where to write, for example figures/digits",
    },
    "format": {"choices": FORMATS, "help": "one file, of this format, in place of the usual ones"},
    "width": {"type": float, "help": "inches, such as 3.25 for a column (default: 7.2)"},
    "panel": {"help": "draw one panel, by its letter"},
    "style": {"type": Path, "help": "a matplotlib style sheet, used after the project's looks"},
    "caption": {"action": "store_true", "help": "write the caption into the picture, too"},
    "cores": {
        "type": int,
        "help": "cores that the jobs will share (default: all of this machine)",
    },
    "minutes": {
        "type": float,
        "required": True,
        "help": "minutes that it may take; what is stopped then is resumed by the same command",
    },
    "first": {
        "type": int,
        "help": "seeds that every model gets before any gets more (default: all)",
    },
    "sample": {
        "type": float,
        "default": 0.02,
        "help": "share of each stage's work that is done again (default: 0.02)",
    },
    "partial": {
        "action": "store_true",
        "help": "only the runs that have ended; the others are published later",
    },
    "digest": {
        "action": "store_true",
        "help": "only print the line `sha256: ...` that names the images in a folder or tar",
    },
    "fingerprint": {
        "help": "fail unless this stands in the name of what is to be written: the study or the "
        "code may have changed since the workflow was planned",
    },
}


def parser() -> argparse.ArgumentParser:
    """The commands, their arguments and help."""
    top = argparse.ArgumentParser(
        prog="twophase",
        description="Run one stage of a study. Snakemake does this for you, in the right order.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")

    def add(name: str, text: str, arguments: tuple[str, ...]) -> None:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("file", type=Path, help="study file: workflow/config/<study>.yaml")
        for argument in arguments:
            if argument != "file":
                command.add_argument(f"--{argument}", **ARGUMENTS[argument])

    for name, stage in stages.STAGES.items():
        arguments = ("model", "seed") if stage.scope == "run" else ()
        arguments += ("part", "parts") if stage.shared else ()
        arguments += ("keep-minutes",) if stage.keeps_time else ()
        arguments += ("digest",) if name == "data" else ()
        add(name, stage.help, (*arguments, "fingerprint"))
    add("run", RUN, ("model", "seed", "keep-minutes", "fingerprint"))
    for name, (text, arguments, _) in COMMANDS.items():
        add(name, text, arguments)
    command = commands.add_parser("provenance", help=PROVENANCE, description=PROVENANCE)
    command.add_argument("file", type=Path, help="a table, checkpoint, kernel or figure")
    commands.add_parser("schema", help=SCHEMA, description=SCHEMA)
    command = commands.add_parser("new", help=NEW, description=NEW)
    command.add_argument("file", type=Path, help="study file to write: <study>.yaml")
    command.add_argument("--network", required=True, help="<file>.py:<builder> of your network")
    command.add_argument("--images", required=True, help="folder or tar with train/<class>/<file>")
    return top


def run(arguments: argparse.Namespace) -> None:
    """Run one command; its modules are imported only now, so that light ones start fast."""
    _own_code()
    os.environ.pop("MPLBACKEND", None)  # figures need none, and the user's may not exist here
    if arguments.command == "provenance":
        from twophase.commands.provenance import describe

        print(describe(arguments.file))
        return
    if arguments.command == "schema":
        from twophase.commands.schema import schema

        print(json.dumps(schema(), indent=2))
        return
    if arguments.command == "new":
        file = _function("commands.new:new")(arguments.file, arguments.network, arguments.images)
        print(f"{file}: written; next: twophase check {file}, twophase plan {file}, and")
        print(f"snakemake --cores 2 figures/{file.stem}/all")
        return
    digest = getattr(arguments, "digest", False)
    study = studyfile.load(arguments.file, digest=not digest)
    if arguments.command != "redraw":
        _in_place(arguments.file)
    if digest:
        _function("stages.data:digest")(study)
        return
    if arguments.command in stages.STAGES:
        work = _stage(study, arguments)
    elif arguments.command == "run":
        _whole_run(study, arguments)
        return
    else:
        _, names, place = COMMANDS[arguments.command]
        _there(study, arguments)
        if arguments.command == "summary":
            _expect(arguments, stages.summary_table(study, arguments.table).maker.fingerprint)
        if arguments.command == "summaries":
            _expect(arguments, stages.summaries_fingerprint(study))
        positional = [name for name in names if name not in ("fingerprint", *LOOKS)]
        values = [getattr(arguments, name) for name in positional]
        looks = {name: getattr(arguments, name) for name in LOOKS if name in names}
        if "style" in looks:
            looks["style_sheet"] = looks.pop("style")
        function = _function(place)
        work = functools.partial(function, study, *values, **looks)
        if arguments.command in LOOKING:
            work()
            return
    try:
        _work(arguments.command, study, work)
    except RunError as error:
        hint = noted.hint(arguments.file) if arguments.command == "data" else ""
        raise RunError(f"{error}{hint}") from None
    if stage := stages.STAGES.get(arguments.command):
        own = [Run(study, arguments.model, arguments.seed)] if stage.scope == "run" else runs(study)
        discard(own)


def _work(command: str, study: Study, work: Callable[[], object], before: float = 0) -> float:
    """Do the work of a command and say what it took; `before` are seconds that do not count.

    Returns the processor time of this process, in seconds.
    """
    from twophase.store.origin import ORIGIN, origin

    ORIGIN.update(origin({} if command == "data" else study.compute.model_dump()))
    started = time.process_time()
    work()
    ended = time.process_time()
    print(
        f"{command}: processor time {started - before:.2f} s to start, "
        f"{ended - started:.2f} s at work",
        file=sys.stderr,
    )
    return ended


def _whole_run(study: Study, arguments: argparse.Namespace) -> None:
    """The stages that a run lacks, in one process: starting Python and PyTorch takes seconds."""
    each = _chosen(study, arguments, runs(study))
    _expect(arguments, stages.run_fingerprint(each))
    spent, names = 0.0, missing(each)
    if "base" in names:
        _begin(each, arguments.file)
    print(f"stages: {', '.join(names)}", file=sys.stderr)  # read by `logs.several`
    with _importing():
        functions = [stages.imported(name) for name in names]
    for name, function in zip(names, functions, strict=True):
        options = {}
        if stages.STAGES[name].keeps_time:
            options["keep_minutes"] = arguments.keep_minutes
        spent = _work(name, study, functools.partial(function, each, **options), spent)
        discard([each])


def _begin(each: Run, file: Path) -> None:
    """Leave a record of when the base run began."""
    from twophase.study.beginning import begin

    begin(each, file)


def _in_place(file: Path) -> None:
    """Raise `StudyError` unless the study lies where Snakemake finds it."""
    wanted = STUDIES / f"{file.stem}.yaml"
    if not (wanted.exists() and wanted.samefile(file)):
        raise StudyError(
            f"{file}: must be {wanted} in the folder that the command runs in, which gets the "
            f"results and is {Path.cwd()} now: copy it there, or run the command in its checkout"
        )


def _own_code() -> None:
    """Raise `StudyError` if the code that runs is not that of the checkout that it runs in."""
    own, running = Path("src/twophase"), Path(stages.__file__).parents[1]
    if own.exists() and not own.samefile(running):
        raise StudyError(
            f"{running}: this code runs, not {own} of this folder; say `PYTHONPATH=src python -m "
            "twophase ...`, or activate the environment that was made for this checkout"
        )


def _there(study: Study, arguments: argparse.Namespace) -> None:
    """Raise `StudyError` if the study has no such table or figure."""
    for option, allowed in (("table", stages.tables_of), ("figure", asked)):
        value = getattr(arguments, option, None)
        if value is not None and value not in allowed(study):
            raise StudyError(
                f"{arguments.file}: --{option} {value}: no model has the section for it; "
                f"must be one of {', '.join(allowed(study))}"
            )


def _function(place: str) -> Callable:
    module, _, name = place.partition(":")
    with _importing():
        return getattr(importlib.import_module(f"twophase.{module}"), name)


@contextmanager
def _importing() -> Iterator[None]:
    """No search for garbage while modules are imported, nor later among what they hold, which stays
    to the end: a second of processor time with PyTorch.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _stage(study: Study, arguments: argparse.Namespace) -> Callable[[], None]:
    """The work of a stage, after its arguments have been checked against the study."""
    name, stage = arguments.command, stages.STAGES[arguments.command]
    with _importing():
        do = stages.imported(name)  # now: what it imports tells which GPU there is
    first = stages.runs_of(study, name)
    if not first:
        raise StudyError(f"{arguments.file}: no model has the section {stage.section}")
    if stage.scope == "study":
        _expect(arguments, stages.job_fingerprint(name, first[0]))
        return functools.partial(do, study)
    each = _chosen(study, arguments, first)
    _expect(arguments, stages.job_fingerprint(name, each))
    if name == "base":
        _begin(each, arguments.file)
    options = {}
    if stage.shared:
        if not 1 <= arguments.part <= arguments.parts:
            raise StudyError(
                f"--part {arguments.part}: must be from 1 to --parts {arguments.parts}"
            )
        options |= {"part": arguments.part, "parts": arguments.parts}
    if stage.keeps_time:
        options["keep_minutes"] = arguments.keep_minutes
    return functools.partial(do, each, **options)


def _chosen(study: Study, arguments: argparse.Namespace, there: list[Run]) -> Run:
    """The run that the arguments name, one of those that are there."""
    for option, allowed in {
        "model": list(dict.fromkeys(each.name for each in there)),
        "seed": study.seeds,
    }.items():
        value = getattr(arguments, option)
        if value not in allowed:
            listed = ", ".join(map(str, allowed))
            raise StudyError(f"{arguments.file}: --{option} {value}: must be one of {listed}")
    return Run(study, arguments.model, arguments.seed)


def _expect(arguments: argparse.Namespace, fingerprint: str) -> None:
    if arguments.fingerprint not in (None, fingerprint):
        raise StudyError(
            f"{arguments.file}: asks for {arguments.command}-{fingerprint} now, not for "
            f"{arguments.command}-{arguments.fingerprint}: the study or the code changed since the "
            "workflow was planned; run the same command again"
        )


def main() -> int:
    """Run the command line; a mistake of the user's ends in one line on stderr and status 1."""
    # SIGTERM, as SLURM and `kill` send it, ends like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(parser().parse_args())
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last kept state", file=sys.stderr)
        return 130
    except (Problem, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
