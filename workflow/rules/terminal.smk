# What the terminal is told: of targets that there are not, how far a run is, and what it left.
import re

from snakemake.settings.enums import Quietness

from twophase.commands import display
from twophase.commands.reasons import reasons

# The names of figures that are not the package's.
OWN_FIGURE = rf"(?!(?:{'|'.join(figures.FIGURES)}|all|manifest)\b)[A-Za-z]\w*"


def is_made(target):
    """Whether a rule makes a target; of figures that are not the package's, if the study has it."""
    own = re.fullmatch(rf"figures/(?P<study>{NAME})/(?P<figure>{OWN_FIGURE})\.\w+", target)
    if own and own["figure"] not in [*figures.PANELS, *load(own["study"]).figures]:
        return False
    return workflow.is_rule(target) or any(rule.is_producer(target) for rule in workflow.rules)


def check_targets():
    """End the run, with a line on the targets that there are, if it is asked for another."""
    if not workflow.is_main_process:
        return
    for target in patches.targets():
        if not is_made(target):
            names = ", ".join(studyfile.known(Path(STUDY)))
            files = ", ".join(figures.files(figure)[0] for figure in figures.FIGURES)
            sys.exit(
                f"{target}: no rule makes this; ask for figures/all, figures/<study>/all, one of a "
                f"study's figures ({files}), or paper/figures/<study>/all. A study is a file in "
                f"{STUDIES} (now: {names}), whose name {studyfile.NAMES}"
            )


def say_little():
    """Show one line for the whole run, unless Snakemake's own words are asked for."""
    told = workflow.output_settings
    own_words = told.verbose or told.dryrun or told.printshellcmds or told.debug_dag
    if workflow.is_main_process and not own_words and set(told.quiet or []) <= {Quietness.HOST}:
        display.install(" ".join(patches.targets()) or "figures/all", products)


def products():
    """What the targets leave to look at; behind a study's figures, also the write-up."""
    found, writeup = [], []
    for target in map(Path, patches.targets() or ["figures/all"]):
        folders = [target.parent] if target.name == "all" else []
        if target in (Path("figures/all"), Path("all_studies")):
            folders = [Path("figures") / study for study in studies()]
        for folder in folders:
            first = [folder / "fig3.png", *sorted(folder.glob("*.png"))]
            found += [file for file in first if file.exists()][:1] + [folder / "findings.md"]
        found += [target] if not folders else []
        if folders and not writeup:
            how = "" if page.PAGE.exists() else f" (snakemake --cores 1 {page.PAGE})"
            writeup = [f"claims and verdicts: {page.PAGE}{how}"]
    return [str(file) for file in found if file.exists()] + writeup


def say_why():
    """In a dry run, say which options and code make results others than those that lie there."""
    if workflow.is_main_process and workflow.output_settings.dryrun:
        for target in patches.targets() or ["figures/all"]:
            parts = Path(target).parts
            named = parts[1:2] if len(parts) > 2 and parts[0] in ("figures", "results") else ()
            for name in studies() if target in jobs.ALL else named:
                for line in reasons_of(name):
                    print(f"{name}: {line}", file=sys.stderr)


@plainly
def reasons_of(name):
    """Why results of a study are made again, line by line."""
    return list(reasons(load(name)))
