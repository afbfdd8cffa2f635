# What all rules share. Which jobs are left, and what each waits for, says src/twophase/jobs.py.
import sys
from functools import cache, wraps
from pathlib import Path

from snakemake.resources import Resource

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from twophase import figures, jobs
from twophase.commands import patches, run_this_checkout
from twophase.errors import StudyError
from twophase.study import stages, studyfile
from twophase.study.chaos import forks
from twophase.study.model import NAME, STUDIES
from twophase.study.run import Run

run_this_checkout(Path(workflow.basedir))
STUDY = f"{STUDIES}/{{study}}.yaml"
# Braces of a folder's name would stand for wildcards.
CONDA = f"{workflow.basedir}/envs/conda.yaml".replace("{", "{{").replace("}", "}}")
OF_STUDY = "results/{study}"
OF_RUN = "results/{study}/{model}/seed{seed}"


wildcard_constraints:
    study=NAME,
    model=NAME,
    seed=r"\d+",
    part=r"\d+",
    parts=r"\d+",
    fingerprint="[0-9a-f]{8}",


def plainly(function):
    """`function`, but a mistake in a study file or in code ends the run with one line about it."""

    @wraps(function)
    def wrapped(*arguments):
        try:
            return function(*arguments)
        except StudyError as error:
            sys.exit(str(error))

    return wrapped


@cache
@plainly
def load(name):
    """The study called `name`."""
    return studyfile.load(STUDY.format(study=name))


def studies():
    """The studies of config.yaml, checked."""
    names = config.get("studies")
    if not isinstance(names, list) or not names:
        sys.exit(
            f"workflow/config/config.yaml: studies = {names}: must be a list of studies, such as "
            f"[{names if isinstance(names, str) else 'digits'}]"
        )
    return [load(str(name)).name for name in names]


@cache
@plainly
def jobs_of(study):
    """A study's jobs, by each file that shows the end of one."""
    cores, again = workflow.resource_settings.cores, patches.asked_again(workflow)
    found = jobs.jobs(load(study), config, cores, patches.targets(), again)
    ends = [(job, end) for job in found for end in job.ends]
    patches.make_again(workflow, [end for job, end in ends if job.left and end.exists()])
    return {str(end): job for job, end in ends}


def job_of(file, wildcards):
    """The job whose end `file` shows. None where Snakemake was started for a single job: what that
    waits for is there.
    """
    patches.forget_dates(workflow)
    if not workflow.is_main_process:
        return None
    if job := jobs_of(wildcards.study).get(file):
        return job
    study, name = STUDY.format(study=wildcards.study), Path(file).stem
    if Path(file).parts[0] == "figures" and name not in figures.asked(load(wildcards.study)):
        sys.exit(f"{study}: has no section that {name} shows")
    sys.exit(f"{file}: the study and the code ask for other files now; see `twophase plan {study}`")


def waits(end, *_):
    """Input function where `end` is an output: the files that the job waits for.

    Of a job that has ended, only those that are there: what it lacks is no reason to run it again.
    """

    def inputs(wildcards):
        job = job_of(end.format(**wildcards), wildcards)
        if job is None or job.left:
            return job.waits if job else []
        return [ancient(file) for file in job.waits if file.exists()]

    return inputs


def formatted_inputs(wildcards):
    """A figure that is drawn; one of other options or code is drawn again in this format, too."""
    study = load(wildcards.study)
    drawn = f"figures/{study.name}/{wildcards.figure}.pdf"
    file = Path(drawn).with_suffix(f".{wildcards.format}")
    job = job_of(drawn, wildcards)
    if job is None or figures.is_current(file, figures.made_by(study, wildcards.figure)):
        return drawn if job and job.left else ancient(drawn)
    patches.make_again(workflow, [file])
    return drawn


def does(wildcards, output):
    """What a job does, in words."""
    job = job_of(output[0], wildcards)
    return jobs.said(job) if job else Path(output[0]).name


def stage_of(wildcards, output):
    """The stage whose job leaves this output, by its name; or `run`."""
    file = Path(output[0])
    made = (file.parent if hasattr(wildcards, "part") else file).name.partition("-")[0]
    return stages.STAGE_OF.get(made, made)


def options(wildcards, output):
    """What the command of a run's stage is told beside the run."""
    stage, found = stage_of(wildcards, output), []
    if stage == "run" or stages.STAGES[stage].keeps_time:
        found = ["--keep-minutes", str(config.get("keep_minutes", 5))]
    if hasattr(wildcards, "part"):
        found += ["--part", wildcards.part, "--parts", wildcards.parts]
    return found


def tables_of(stage):
    """The tables of a run's stage, which show its end."""
    tables = stages.STAGES[stage].tables
    return [f"{OF_RUN}/{table}-{{fingerprint}}.parquet" for table in tables]


def memory(wildcards, rulename):
    """MB that a job of a stage asks for, as the table of stages says."""
    return row_of(rulename).memory_mb


def minutes(wildcards, rulename):
    """Minutes that a job of a stage asks for; a job of several forks asks for the time of each."""
    row = row_of(rulename)
    count = len(forks(run_of(wildcards))) if row.shared else 1
    return row.minutes * -(-count // int(getattr(wildcards, "parts", 1)))


def row_of(rule):
    """The stage of a rule; of whole runs, which are short, the one that asks for most."""
    rows = [row for row in stages.STAGES.values() if not row.shared]
    most = max(rows, key=lambda row: (row.minutes, row.memory_mb))
    return stages.STAGES.get(rule, most)


def run_of(wildcards):
    """The run that a path names."""
    return Run(load(wildcards.study), wildcards.model, int(wildcards.seed))


def on_any_device():
    """What a job that computes asks for: the memory and minutes of its stage, and if its study is on
    CUDA, in place of these and of the profile's default-resources, config's gpu_resources.
    """

    def on_cuda(value, otherwise):
        # On the command line, which a profile is part of, all values are text.
        value = int(value) if str(value).isdecimal() else value

        def resource(wildcards, rulename, **known):
            if load(wildcards.study).compute.device == "cuda":
                return value
            return otherwise.evaluate(wildcards, rulename=rulename, **known).value

        return resource

    asked = {"mem_mb": memory, "runtime": minutes}
    others = dict(workflow.resource_settings.default_resources or {})
    others |= {name: Resource(name, value) for name, value in asked.items()}
    for name, value in (config.get("gpu_resources") or {"gpu": 1}).items():
        # A resource that is None is not asked for.
        asked[name] = on_cuda(value, others.get(name, Resource(name, None)))
    return asked


def threads_of(wildcards):
    """PyTorch's threads, from the study; Snakemake only plans with this number."""
    return load(wildcards.study).compute.threads
