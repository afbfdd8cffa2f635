"""Compare the jobs that two versions of the code plan, and which of them waits for which.

    PYTHONPATH=tests python -m trials.dag <other checkout> [study ...] [--states nothing ...]

For all studies of workflow/config, from nothing, half done in several ways, and finished: results
and figures are made up, files that say what they should, so that this takes minutes. Said is where
the jobs of this version are others, after those that one job now does together (all summaries, all
figures of a study in whole runs) are taken for one; and the numbers of jobs.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from trials.kill import ROOT

# Runs in a checkout: for each state, makes up a finished study by the code there, deletes what the
# state lacks, and prints the jobs that a dry run plans, with the pairs that wait for each other.
PLAN = """
import json, os, re, sys
from pathlib import Path
from snakemake import cli
from snakemake.dag import DAG
from twophase import figures
try:
    from twophase.figures import manifest
    from twophase.study import stages, studyfile
except ImportError:  # before the house
    from twophase import stages, studyfile
    from twophase.commands import manifest
name, states = sys.argv[1], json.loads(sys.argv[2])
file, folder = Path(f"workflow/config/{name}.yaml"), Path(f"figures/{name}")
study = studyfile.load(file)
results = [result.path for result in stages.every(study)]
made = {folder / each: figures.made_by(study, figure).encode() + figures.ENDS[Path(each).suffix]
        for figure in figures.asked(study) for each in figures.files(figure)}
made[folder / "manifest.json"] = json.dumps({"made_by": manifest.made_by(study, file)}).encode()
made |= dict.fromkeys([*results, folder / "all"], b"")
folder.mkdir(parents=True, exist_ok=True)
for parent in {path.parent for path in results}:
    parent.mkdir(parents=True, exist_ok=True)

def said(job):
    known = [f"{k}={v}" for k, v in job.wildcards_dict.items() if k not in ("fingerprint", "study")]
    return " ".join([job.rule.name, *known])

async def postprocess(self, *given, **known):
    await own(self, *given, **known)
    jobs = list(self.needrun_jobs())
    waits = [(said(b), said(j)) for j in jobs for b in self.dependencies[j] if self.needrun(b)]
    Path("planned.json").write_text(json.dumps([sorted(map(said, jobs)), sorted(waits)]))

own, DAG.postprocess = DAG.postprocess, postprocess
plans = {}
for state, gone in states.items():
    for path, content in made.items():
        if re.search(gone, re.sub("-[0-9a-f]{8}", "", str(path))):
            path.unlink(missing_ok=True)
        elif not path.exists():
            path.write_bytes(content)
    if not (child := os.fork()):
        sys.argv[1:] = ["--dry-run", "--quiet", "all", "--cores", "2", f"figures/{name}/all"]
        sys.exit(cli.main(sys.argv[1:]))
    os.waitpid(child, 0)
    plans[state] = json.loads(Path("planned.json").read_text())
Path("plans.json").write_text(json.dumps(plans))
"""
# States of a study: which files of a finished one are gone, by their names without fingerprints.
STATES = {
    "nothing": ".",
    "trained": r"^figures|^results/[^/]+/\w+_summary|seed\d+/(?!base|training)",
    "trained and forked": r"^figures|^results/[^/]+/\w+_summary|seed\d+/(?!base|training|fork)",
    "one seed": r"^figures|_summary|seed(?!0/)",
    "tables": r"^figures|_summary|safetensors|seed\d+/\w+/",
    "no figures": "^figures",
    "no summaries": r"^figures|_summary",
    "no figure 3": r"^figures/[^/]+/(fig3|all|manifest)",
    "a fork and its comparisons": r"seed0/(fork/t0-0+/direction-1|chaos\.|barrier_path\.)",
    "a kernel and the cone's tables": r"seed0/(kernel/t-0+\.|cone\.|kernel_(dist|proj)\w+\.)",
    "finished": "^$",
}


def plans(version: Path, study: str, states: dict[str, str]) -> dict[str, list]:
    """What a dry run of a version plans in each state of a study: its jobs, and who waits."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("workflow", "src", "envs"):
            (folder / name).symlink_to(version.resolve() / name)
        # The Snakefile must lie in the folder that it runs in.
        (folder / "Snakefile").write_text((version / "Snakefile").read_text())
        run = subprocess.run(
            [sys.executable, "-c", PLAN, study, json.dumps(states)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": "src"},
            capture_output=True,
            text=True,
        )
        if run.returncode:
            raise RuntimeError(run.stdout + run.stderr)
        return json.loads((folder / "plans.json").read_text())


def together(plan: list) -> tuple[Counter, set[tuple[str, str]]]:
    """A plan in which all summaries are one job, and all figures with their list another."""
    jobs, waits = plan

    def one(job: str) -> str:
        rule = job.split()[0]
        figure = re.fullmatch(r"fig\d|s\d|findings|study_figures", rule)
        return "figures" if figure else "summaries" if rule.startswith("summar") else job

    return Counter(set(map(one, jobs))), {(one(a), one(b)) for a, b in waits if one(a) != one(b)}


def main() -> None:
    """Say where the plans of two versions differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("studies", nargs="*")
    parser.add_argument("--states", nargs="+", choices=STATES, default=list(STATES))
    arguments = parser.parse_args()
    states = {state: STATES[state] for state in arguments.states}
    known = [
        p.stem for p in sorted((ROOT / "workflow/config").glob("*.yaml")) if p.stem != "config"
    ]
    for study in arguments.studies or known:
        before, after = (plans(version, study, states) for version in (arguments.other, ROOT))
        for state in states:
            (theirs, their_waits), (ours, our_waits) = (together(p[state]) for p in (before, after))
            numbers = f"{len(before[state][0])} and {len(after[state][0])} jobs"
            exactly = (
                "equal" if before[state] == after[state] else "equal but for jobs that are one"
            )
            same = theirs == ours and their_waits == our_waits
            print(f"{study}, {state}: {numbers}, {exactly if same else 'DIFFERENT'}", flush=True)
            for sign, lacks in (("-", theirs - ours), ("+", ours - theirs)):
                print("".join(f"    {sign} {job}\n" for job in sorted(lacks)), end="")
            for sign, lacks in (("-", their_waits - our_waits), ("+", our_waits - their_waits)):
                if theirs == ours:
                    print("".join(f"    {sign} {a} -> {b}\n" for a, b in sorted(lacks)), end="")


if __name__ == "__main__":
    main()
