"""Plant faults in the code, one at a time, and see which of them the tests catch.

    python tests/trials/plant.py --output planted.csv

Each fault of `faults/*.yaml` is a slip as a person makes it: a text of the code (`find`), what is
put in its place (`put`), and the tests that must fail then (`by`), as names of functions, behind
them a case in brackets. A fault says neither in which file its text lies nor in which its tests do:
code and tests may move. The checkout is copied; there the fault is put in, the tests are run, and
it is taken out again. A test that fails without any fault catches nothing: first all of them must
pass in the copy as it is. Tests run in forks of a process that has imported what is slow to import.

Status 1 if a fault was missed. `planted.md` tells what was caught when the faults were written.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
import forked  # noqa: E402

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).with_name("faults")
CODE = ("src/**/*.py", "workflow/**/*.smk", "Snakefile")
IMPORTED = (*forked.LIGHT, *forked.HEAVY, "hypothesis", "pytest", "xdist")
LIMIT = 1800  # seconds, for a test that a fault makes run for ever


class Fault(NamedTuple):
    """A fault: the area and name under which it is known, and what `faults/<area>.yaml` says."""

    area: str
    name: str
    find: str
    put: str
    by: list[str]


class Outcome(NamedTuple):
    """What came of one: whether a test failed, the first that did, and how long it took."""

    fault: Fault
    caught: bool
    by: str
    seconds: float


def table() -> list[Fault]:
    """All faults."""
    return [
        Fault(file.stem, name, **said)
        for file in sorted(FAULTS.glob("*.yaml"))
        for name, said in yaml.safe_load(file.read_text(encoding="utf-8")).items()
    ]


def code(root: Path = ROOT) -> dict[Path, str]:
    """The text of each file of code."""
    return {file: file.read_text(encoding="utf-8") for each in CODE for file in root.glob(each)}


def place(fault: Fault, texts: dict[Path, str]) -> Path:
    """The one file whose text holds the fault's, once. Raises `LookupError` otherwise."""
    counts = {file: n for file, text in texts.items() if (n := text.count(fault.find))}
    if sum(counts.values()) != 1:
        there = ", ".join(f"{file.name} ({n})" for file, n in counts.items())
        raise LookupError(
            f"{FAULTS.name}/{fault.area}.yaml: {fault.name}: find = {fault.find!r}: must be in the "
            f"code once, is in {there or 'no file'}"
        )
    return next(iter(counts))


def known_tests() -> dict[str, str]:
    """What pytest calls each function that is a test, by its name."""
    return {
        name: f"{file.relative_to(ROOT)}::{name}"
        for file in sorted(ROOT.glob("tests/**/test_*.py"))
        for name in re.findall(r"^def (test_\w+)\(", file.read_text(encoding="utf-8"), re.M)
    }


def nodes(fault: Fault, known: dict[str, str]) -> list[str]:
    """What pytest calls the tests that must catch a fault. Raises `LookupError` if one is none."""
    names = {test: test.partition("[")[0] for test in fault.by}
    for test, name in names.items():
        if name not in known:
            raise LookupError(
                f"{FAULTS.name}/{fault.area}.yaml: {fault.name}: by = {test!r}: must be the name "
                "of a test, with a case in brackets if need be; no file of tests has it"
            )
    return [known[name] + test.removeprefix(name) for test, name in names.items()]


def checkout(folder: Path) -> Path:
    """Copy all files that git does not ignore to `folder`."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
    found = subprocess.run(
        [*listed, "--exclude-standard"], capture_output=True, text=True, check=True
    )
    for name in filter(None, found.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def tried(folder: Path, tests: list[str]) -> tuple[int, str]:
    """Run tests in a checkout until one fails: pytest's status, and the test that failed.

    Raises `RuntimeError` if they could not be run.
    """
    alone = {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    options = ["-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider"]
    words = ["pytest", *options, f"--basetemp={folder.parent / 'pytest'}", *tests]
    try:
        run = forked.run(IMPORTED, folder, os.environ | alone, *words, limit=LIMIT)
    except TimeoutError:
        return 1, "does not end"
    failed = re.search(r"^(?:FAILED|ERROR) (\S+?\.py(?:::\w+)?)", run.stdout, re.M)
    # 2: a file of tests cannot even be imported.
    if run.returncode not in (0, 1, 2) or (run.returncode and not failed):
        raise RuntimeError(f"{' '.join(tests)}: cannot be run:\n{run.stdout}{run.stderr}")
    return run.returncode, failed[1] if failed else ""


def attempt(fault: Fault, tests: list[str], folder: Path) -> Outcome:
    """Plant a fault in a copy of the checkout, run tests there, and take it out again."""
    began = time.monotonic()
    file = place(fault, code(folder))
    text = file.read_text(encoding="utf-8")
    _put(file, text.replace(fault.find, fault.put))
    status, by = tried(folder, tests)
    _put(file, text)
    return Outcome(fault, status != 0, by.removeprefix("tests/"), time.monotonic() - began)


def _put(file: Path, text: str) -> None:
    """Write a file of code, and leave no bytecode of what stood there within the same second."""
    file.write_text(text, encoding="utf-8")
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
        compiled.unlink()


def must_pass(faults: list[Fault], folder: Path) -> None:
    """Exit if a test that is to catch a fault fails without one."""
    known = known_tests()
    tests = sorted({node for fault in faults for node in nodes(fault, known)})
    status, by = tried(folder, tests)
    if status:
        sys.exit(f"{by}: fails without any fault")
    print(f"without a fault all pass that {len(faults)} faults name", flush=True)


def write(file: Path, outcomes: list[Outcome]) -> None:
    """The outcomes as CSV, or as a table in Markdown."""
    head = ["area", "fault", "in place of", "stands", "caught", "by", "seconds"]
    rows = [
        [o.fault.area, o.fault.name, o.fault.find, o.fault.put]
        + ["yes" if o.caught else "no", o.by, f"{o.seconds:.0f}"]
        for o in outcomes
    ]
    with file.open("w", encoding="utf-8", newline="") as out:
        if file.suffix != ".md":
            csv.writer(out).writerows([head, *rows])
            return
        for row in [head, ["---"] * len(head), *rows]:
            cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
            out.write(f"| {' | '.join(cells)} |\n")


def main() -> int:
    """Plant the faults that are asked for; status 1 if one is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--list", action="store_true", help="print the faults and plant none")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="faults or areas, by their names")
    parser.add_argument("--tests", nargs="+", metavar="FILE", help="run these in place of `by`")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a table, as .csv or .md")
    arguments = parser.parse_args()
    faults = table()
    if arguments.only:
        faults = [f for f in faults if {f.area, f.name} & set(arguments.only)]
        if not faults:
            parser.error(f"--only: no fault is called {' or '.join(arguments.only)}; see --list")
    if arguments.list:
        texts = code()
        for fault in faults:
            print(f"{fault.area}: {fault.name} ({place(fault, texts).relative_to(ROOT)})")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        return planted(faults, arguments, checkout(Path(scratch) / "checkout"))


def planted(faults: list[Fault], arguments: argparse.Namespace, folder: Path) -> int:
    """Plant faults in a copy of the checkout, one at a time; status 1 if one is missed."""
    if not arguments.tests:
        must_pass(faults, folder)
    outcomes, known = [], known_tests()
    for fault in faults:
        outcome = attempt(fault, arguments.tests or nodes(fault, known), folder)
        outcomes.append(outcome)
        word = "caught" if outcome.caught else "MISSED"
        print(f"{word} {fault.area}: {fault.name}; {outcome.by} ({outcome.seconds:.0f} s)")
        sys.stdout.flush()
        if arguments.output:
            write(arguments.output, outcomes)
    missed = sum(not outcome.caught for outcome in outcomes)
    print(f"{len(outcomes)} faults planted, {len(outcomes) - missed} caught, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
