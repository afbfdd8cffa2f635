"""Compare the jobs that two versions of the code plan, and which of them waits for which.

    PYTHONPATH=tests python -m trials.dag <folder of the other version> [study ...]

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

# Makes up a finished study in the folder that it runs in, by the code there.
FINISH = """
import json, sys
from pathlib import Path
from twophase import figures
try:
    from twophase.figures import manifest
    from twophase.study import stages, studyfile
except ImportError:
    from twophase import stages, studyfile
    from twophase.commands import manifest
name = sys.argv[1]
file, folder = Path(f"workflow/config/{name}.yaml"), Path(f"figures/{name}")
study = studyfile.load(file)
for result in stages.every(study):
    result.path.parent.mkdir(parents=True, exist_ok=True)
    result.path.touch()
folder.mkdir(parents=True, exist_ok=True)
for figure in figures.asked(study):
    for each in figures.files(figure):
        maker = figures.made_by(study, figure).encode()
        (folder / each).write_bytes(maker + figures.ENDS[Path(each).suffix])
made = {"made_by": manifest.made_by(study, file)}
(folder / "manifest.json").write_text(json.dumps(made))
(folder / "all").touch()
"""
# Prints the jobs that a dry run plans, and the pairs of them that wait for each other.
PLAN = """
import json, sys
from snakemake import cli
from snakemake.dag import DAG
def name(job):
    said = [f"{k}={v}" for k, v in job.wildcards_dict.items() if k not in ("fingerprint", "study")]
    return " ".join([job.rule.name, *said])
async def postprocess(self, *given, **known):
    await own(self, *given, **known)
    jobs = [job for job in self.needrun_jobs()]
    waits = [(name(b), name(j)) for j in jobs for b in self.dependencies[j] if self.needrun(b)]
    with open("planned.json", "w") as file:
        json.dump([sorted(map(name, jobs)), sorted(waits)], file)
own, DAG.postprocess = DAG.postprocess, postprocess
sys.exit(cli.main(["--dry-run", "--quiet", "all", "--cores", "2", *sys.argv[1:]]))
"""
FINGERPRINT = re.compile("-[0-9a-f]{8}")
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


def files(folder: Path) -> dict[Path, str]:
    """All results and figures, with their names without fingerprints."""
    found = [p for top in ("results", "figures") for p in (folder / top).rglob("*") if p.is_file()]
    return {path: FINGERPRINT.sub("", str(path.relative_to(folder))) for path in found}


def python(folder: Path, code: str, *arguments: str) -> None:
    """Run code in a checkout."""
    environment = os.environ | {"PYTHONPATH": "src"}
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stdout + run.stderr)


def plans(version: Path, study: str) -> dict[str, list]:
    """What a dry run of a version plans in each state of a study: its jobs, and who waits."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("Snakefile", "workflow", "src", "envs"):
            (folder / name).symlink_to(version.resolve() / name)
        # The Snakefile must lie in the folder that it runs in.
        (folder / "Snakefile").unlink()
        (folder / "Snakefile").write_text((version / "Snakefile").read_text())
        for state, gone in STATES.items():
            python(folder, FINISH, study)
            for path, name in files(folder).items():
                if re.search(gone, name):
                    path.unlink()
            python(folder, PLAN, f"figures/{study}/all")
            found[state] = json.loads((folder / "planned.json").read_text())
    return found


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
    arguments = parser.parse_args()
    known = [
        p.stem for p in sorted((ROOT / "workflow/config").glob("*.yaml")) if p.stem != "config"
    ]
    for study in arguments.studies or known:
        before, after = (plans(version, study) for version in (arguments.other, ROOT))
        for state in STATES:
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
