"""What Snakemake has no option for: all places where we reach into it.

`tests/test_patches.py` has a trial of each, which fails when Snakemake changes there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from snakemake import cli
from snakemake.logging import logger
from snakemake.workflow import Workflow


def targets() -> list[str]:
    """The targets of the command line: rules, and files as the rules name them."""
    found = cli.get_argument_parser().parse_known_args()[0].targets
    return [os.path.relpath(each) if os.path.isabs(each) else each for each in found]


def forget_dates(workflow: Workflow) -> None:
    """Keep Snakemake from comparing dates, and from comparing with what it remembers of earlier
    runs: results may be copied, unpacked, or written by a machine whose clock is ahead.
    """

    async def unchecked(*_: object) -> None:
        """That a job's output is younger than its input."""

    workflow.dag_settings.rerun_triggers = frozenset()
    workflow.dag.check_output_mtime = unchecked


def make_again(workflow: Workflow, files: Iterable[Path]) -> None:
    """Have files made although they are there: they are not what they should be."""
    if workflow.is_main_process:  # one that Snakemake started for a single job does just that
        workflow.dag.forcefiles.update(map(str, files))


def asked_again(workflow: Workflow) -> frozenset[str]:
    """The files, and rules, that the command line has made although they are there."""
    return frozenset(map(str, workflow.dag.forcefiles | workflow.dag.forcerules))


def say_through(handler: Callable[[logging.Handler], logging.Handler]) -> None:
    """Let `handler(own)` say what Snakemake's own handler would on the terminal, if it is there."""
    for own in list(logger.handlers):
        if own.name == "DefaultStreamHandler":
            logger.removeHandler(own)
            logger.addHandler(handler(own))
