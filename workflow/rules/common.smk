# What all rules share: the study that a path names, what its jobs read, and whether what lies there
# is current. Dates decide nothing: a result's name says what made it, a figure says so itself.
import os
import sys
from functools import cache, wraps
from pathlib import Path

from snakemake import cli
from snakemake.settings.enums import Quietness
from snakemake.resources import Resource

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from twophase.commands import display
from twophase import figures
from twophase.study import stages, studyfile
from twophase.commands import jobs, manifest, run_this_checkout
from twophase.errors import StudyError
from twophase.figures import drawing
from twophase.study.stages import before_in_sweep
from twophase.study.chaos import forks
from twophase.study.model import NAME, STUDIES
from twophase.study.run import Run
from twophase.tables import published_study
from twophase.writeup import page, pdf

run_this_checkout(Path(workflow.basedir))
STUDY = f"{STUDIES}/{{study}}.yaml"
# Braces of a folder's name would stand for wildcards.
CONDA = f"{workflow.basedir}/envs/conda.yaml".replace("{", "{{").replace("}", "}}")
RUN = "results/{study}/{model}/seed{seed}"


wildcard_constraints:
    study=NAME,
    model=NAME,
    seed=r"\d+",
    part=r"\d+",
    parts=r"\d+",
    fingerprint="[0-9a-f]{8}",


def studies():
    """The studies of config.yaml, checked."""
    names = config.get("studies")
    if not isinstance(names, list) or not names:
        sys.exit(
            f"workflow/config/config.yaml: studies = {names}: must be a list of studies, such as "
            f"[{names if isinstance(names, str) else 'digits'}]"
        )
    return [load(str(name)).name for name in names]


def check_targets():
    """End the run, with a line on the targets that there are, if it is asked for another."""
    if not workflow.is_main_process:
        return
    # The workflow does not have them yet.
    for target in asked():
        file = target if os.path.isabs(target) else os.path.relpath(target)
        if not workflow.is_rule(target) and not any(r.is_producer(file) for r in workflow.rules):
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
        display.install(" ".join(asked()) or "figures/all", products)


def products():
    """What the targets leave to look at; behind a study's figures, also the write-up."""
    found, writeup = [], []
    for target in map(Path, asked() or ["figures/all"]):
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


def plainly(function):
    """`function`, but a mistake in a study file or in code ends the run with one line about it."""

    @wraps(function)
    def wrapped(*arguments):
        try:
            return function(*arguments)
        except StudyError as error:
            sys.exit(str(error))

    return wrapped


def forget_dates():
    """Keep Snakemake from comparing dates, and from comparing with what it remembers of earlier
    runs: results may be copied, unpacked, or written by a machine whose clock is ahead.
    """

    async def unchecked(*_):
        """That a job's output is younger than its input."""

    workflow.dag_settings.rerun_triggers = frozenset()
    workflow.dag.check_output_mtime = unchecked


@cache
@plainly
def load(name):
    """The study called `name`."""
    forget_dates()
    return studyfile.load(STUDY.format(study=name))


def run_of(wildcards):
    """The base run that a path names."""
    return Run(load(wildcards.study), wildcards.model, int(wildcards.seed))


def make_again(files):
    """Have files made although they are there: they are not what they should be."""
    if workflow.is_main_process:
        workflow.dag.forcefiles.update(map(str, files))


def needed(files, there):
    """`files` as the input of a job: if its outputs are there and current, no reason to run it.

    Snakemake looks at what a job says of itself only if none that it depends on runs; else what
    runs must be plain input, or a forced job stays undone.
    """
    return [ancient(file) for file in files] if there else files


def inputs_of(stage):
    """Input function: the files that show that what a run's stage reads is there."""

    @plainly
    def inputs(wildcards):
        run, row = run_of(wildcards), stages.STAGES[stage]
        tables = [stages.run_table(run, table).path for table in row.tables]
        forced = workflow.dag.forcefiles.intersection(map(str, tables))
        ended = not (row.shared or forced) and all(table.exists() for table in tables)
        found = [stages.data_file(run.study).path]
        if row.keeps_time and not ended:
            found.append(stages.check_mark(run.study).path)
        for before in row.reads:
            if before.name != "data":
                found += files_of(before.name, run, ended, bool(forced))
        if not ended:
            for before, other in before_in_sweep(stage, run):
                found += files_of(before, other, not stages.STAGES[before].shared)
        return needed(found, ended)

    return inputs


def inputs_of_all_runs(stage):
    """The same for a stage of all runs of a study."""

    @plainly
    def inputs(wildcards):
        study, found = load(wildcards.study), []
        for run in stages.runs_of(study, stage):
            if in_whole_runs(study) and stages.missing(run):
                found.append(whole_run(run))
            else:
                reads = stages.STAGES[stage].reads
                found += [file for before in reads for file in files_of(before.name, run, False)]
        return [stages.data_file(study).path, *found]

    return inputs


@plainly
def check_inputs(wildcards):
    """What the trial of a study's networks reads."""
    study = load(wildcards.study)
    return needed([stages.data_file(study).path], stages.check_mark(study).path.exists())


@plainly
def whole_inputs(wildcards):
    """The files that a job of all stages of a run reads; training waits for the trial."""
    run = run_of(wildcards)
    missing = stages.missing(run)
    trains = any(stages.STAGES[stage].keeps_time for stage in missing)
    tried = [stages.check_mark(run.study).path] if trains else []
    before = [other for stage in missing for _, other in before_in_sweep(stage, run)]
    others = dict.fromkeys(before)
    waits = [whole_run(other) for other in others if stages.missing(other)]
    return [stages.data_file(run.study).path, *tried, *waits]


def files_of(stage, run, ended, forced=False):
    """The files of a run's jobs of `stage`. If what needs it has `ended`, its parts may be gone. If
    that is `forced`, it needs all of them, also those that are not kept.
    """
    row = stages.STAGES[stage]
    missing = not ended and stages.lacking(stage, run)
    if forced:
        missing = [part for part in row.parts(run) if not part.path.exists()]
    if row.shared:
        files = shares_of(stage, run, missing) if missing else []
    else:
        files = [stages.run_table(run, table).path for table in row.tables]
    if missing:
        make_again(files)
    return files


@plainly
def shares_of(stage, run, missing):
    """One file for each job that shares the run's missing parts with others."""
    forks = config.get("forks_per_job", "auto")
    # A cluster has no number of cores: Snakemake ends a run that asks for it.
    count = jobs.fork_jobs(run, forks, workflow.cores if forks == "auto" else 1)
    fingerprint = stages.job_fingerprint(stage, run)
    folder = Path(RUN.format(study=run.study.name, model=run.name, seed=run.seed))
    return [
        folder / f"{stage}-{fingerprint}" / f"{part}of{count}.done"
        for part, _ in jobs.shares(run, count, missing)
    ]


def asked():
    """The targets of the command line."""
    return cli.get_argument_parser().parse_known_args()[0].targets


def in_whole_runs(study):
    """Whether a job does all stages of a run of this study: config.yaml says so, and all figures of
    the study are asked for.

    Each job takes seconds to start: for a short study with many runs more than is left to gain.
    """
    names = config.get("whole_runs") or []
    if not isinstance(names, list):
        sys.exit(f"whole_runs = {names!r}: must be a list of studies")
    every = {"figures/all", "all_studies", f"figures/{study.name}/all"}
    return study.name in names and (not asked() or bool(every.intersection(asked())))


def whole_run(run):
    """What a job of all stages of a run leaves."""
    folder = RUN.format(study=run.study.name, model=run.name, seed=run.seed)
    return f"{folder}/run-{stages.run_fingerprint(run)}.done"


def files_of_tables(study, tables):
    """The files that show that these tables of a study are there: themselves, or what a job of a
    whole run, or of all runs, leaves.
    """
    found = []
    for table in tables:
        file = table.path
        if "seed" in table.identity and not file.exists():
            run, stage = Run(study, table.identity["model"], table.identity["seed"]), table.command
            if stages.STAGES[stage].scope == "study":
                fingerprint = stages.job_fingerprint(stage, run)
                file = f"results/{study.name}/{stage}-{fingerprint}.done"
            elif in_whole_runs(study):
                file = whole_run(run)
        found.append(file)
    return list(dict.fromkeys(found))


def figure_inputs(figure):
    """Input function: the tables of a figure. A figure of other options or code is drawn again."""

    @plainly
    def inputs(wildcards):
        study, folder = load(wildcards.study), Path("figures") / wildcards.study
        if figure not in figures.asked(study):
            sys.exit(f"{STUDY.format(study=study.name)}: has no section that {figure} shows")
        current = figures.current(folder, figure, figures.made_by(study, figure))
        if not current:
            make_again(folder / name for name in figures.files(figure))
        return needed(files_of_tables(study, figures.tables(study, figure).values()), current)

    return inputs


@plainly
def summary_inputs(wildcards):
    """The tables that a summary is made of."""
    study, table = load(wildcards.study), wildcards.table
    there = stages.summary_table(study, table).path.exists()
    runs = stages.runs_of(study, stages.STAGE_OF[table])
    tables = [stages.run_table(run, table) for run in runs]
    return needed(files_of_tables(study, tables), there)


@plainly
def study_figures(wildcards):
    """The files of all figures of a study. A manifest of other figures is written again."""
    study, folder = load(wildcards.study), Path("figures") / wildcards.study
    current = manifest.current(study, Path(STUDY.format(study=study.name)), folder)
    if not current:
        make_again([folder / "manifest.json", folder / "all"])
    drawn = [folder / name for figure in figures.asked(study) for name in figures.files(figure)]
    return needed(drawn, current)


@plainly
def published(name):
    """The study published under this name, with its file."""
    forget_dates()
    return published_study(name)


@plainly
def published_inputs(wildcards):
    """The published tables of a figure. A figure of other tables or code is drawn again."""
    study, file = published(wildcards.study)
    there = [name for name in drawing.redrawable(study, file) if name != "findings"]
    if wildcards.figure not in there:
        sys.exit(
            f"{file.parent}: {wildcards.figure} cannot be drawn; these can: {', '.join(there)}"
        )
    tables = drawing.published_tables(study, file, wildcards.figure)
    folder = Path("paper/figures") / study.name
    maker = drawing.redrawn_by(study, file, wildcards.figure)
    if not figures.current(folder, wildcards.figure, maker):
        make_again(folder / name for name in figures.files(wildcards.figure))
    return [file, *(table.path for table in tables.values())]


def writeup_inputs(_):
    """What the write-up is made from. One of other tables or code is executed again."""
    forget_dates()
    if not page.current():
        make_again([page.PAGE, page.NOTEBOOK])
    return page.read_from()


def pdf_inputs(_):
    """The page that the PDF is of. A PDF of another page is set again."""
    forget_dates()
    if not pdf.current():
        make_again([pdf.PDF])
    return [page.PAGE, page.NOTEBOOK]


def resources_of(stage):
    """What a job of a stage asks for: memory and time as the table of stages says, and if its study
    is on CUDA, in place of these and of the profile's default-resources, config's gpu_resources.
    """
    row = stages.STAGES[stage]

    def minutes(wildcards):
        # A job of several forks asks for the time of each.
        shared = forks(run_of(wildcards)) if row.shared else [None]
        return row.minutes * -(-len(shared) // int(getattr(wildcards, "parts", 1)))

    def on_cuda(value, otherwise):
        # On the command line, which a profile is part of, all values are text.
        value = int(value) if str(value).isdecimal() else value

        def resource(wildcards, **known):
            if load(wildcards.study).compute.device == "cuda":
                return value
            return otherwise.evaluate(wildcards, **known).value

        return resource

    asked = {"mem_mb": row.memory_mb, "runtime": minutes}
    others = dict(workflow.resource_settings.default_resources or {})
    others |= {name: Resource(name, value) for name, value in asked.items()}
    for name, value in (config.get("gpu_resources") or {"gpu": 1}).items():
        # A resource that is None is not asked for.
        asked[name] = on_cuda(value, others.get(name, Resource(name, None)))
    return asked


def largest_stage():
    """The stage of a run that asks for most time and memory; studies in whole runs are short."""
    rows = {stage: row for stage, row in stages.STAGES.items() if not row.shared}
    return max(rows, key=lambda stage: (rows[stage].minutes, rows[stage].memory_mb))


def threads_of(wildcards):
    """PyTorch's threads, from the study; Snakemake only plans with this number."""
    return load(wildcards.study).compute.threads
