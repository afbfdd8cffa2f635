"""When a base run began: at which commit of the checkout, and what differed from it.

The record of a base run's beginning lies beside its results and in no table, whose bytes must not
depend on it. With it a reader can see that rules were registered before the run was there.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from twophase.store.artifacts import sha256, whole_file
from twophase.store.code import imported_files
from twophase.store.history import CODE, commit, git
from twophase.store.paths import run_folder
from twophase.study import stages
from twophase.study.base import base_state
from twophase.study.functions import place
from twophase.study.model import Study
from twophase.study.own import every as functions_of
from twophase.study.run import Run
from twophase.study.stage import unfinished

RULES = (Path("paper/claims.yaml"), Path("paper/registration"))
RECORD = "record.json"  # the name under which a record is published, beside its run's tables


def own_files(study: Study) -> dict[Path, Path]:
    """The files of the study's own networks, perturbations, images, task and functions, without
    which it cannot be read, and where they lie beside the study: code from elsewhere lies there,
    too, and is found there first.
    """
    found = {}
    models = study.models.values()
    images = study.data.images
    own = [images, images.task, *(model.network for model in models)]
    own += [kind for model in models if model.chaos for kind in model.chaos.kinds().values()]
    own += [each for _, each in functions_of(study)]
    for file in (getattr(each, "file", None) for each in own):
        for name, path in imported_files(place(file, "")).items() if file else ():
            folder = Path(file).parent
            inner = Path(*name.split("."))
            inner = inner / path.name if path.stem == "__init__" else inner.with_suffix(path.suffix)
            found[path] = path if path.is_relative_to(folder) else folder / inner
    return found


def changed(study: Study, file: Path) -> list[str]:
    """The files that the commit has not, or has with other content, of those that say what comes
    out: the code, the study's file and its own files, the claims and their registration. All of
    them, where git cannot say.
    """
    paths = [CODE, *(p.absolute() for p in (file, *own_files(study), *RULES))]
    top = git("rev-parse", "--show-toplevel", folder=CODE)
    if top is None:
        return []
    # What git is told to ignore is not in the commit either.
    asked = ["status", "--porcelain", "--untracked-files=all", "--ignored", "-z", "--no-renames"]
    inside = [path for path in paths if path.resolve().is_relative_to(Path(top).resolve())]
    outside = [str(path) for path in paths[1:] if path not in inside and path.exists()]
    # Of a link git knows where it leads, and not what is there.
    where = ["--", *dict.fromkeys(str(p) for path in inside for p in (path, path.resolve()))]
    said = git(*asked, *where, folder=CODE)
    seen = git("ls-files", "-vz", "--full-name", *where, folder=CODE)
    if said is None or seen is None:
        return sorted(map(str, [*inside, *outside]))
    names = [line[3:] for line in said.split("\0") if line and "__pycache__" not in line]
    # Those that git is told not to look at (`update-index --assume-unchanged`, `--skip-worktree`).
    left = [line[2:] for line in seen.split("\0") if line[:1].islower() or line[:1] == "S"]
    names += [name for name in left if (Path(top) / name).exists()]
    return sorted({*names, *outside})


def record_file(run: Run) -> Path:
    """Where the record of a base run lies: by its options alone, so that results which were adopted
    from older code keep theirs; models of a sweep that share a base run share it.
    """
    options = base_state(run, 0).maker.options[:8]
    return run_folder(run.shared) / f"record.{options}.json"


def begin(run: Run, file: Path) -> None:
    """Write the record of a base run: commit, what differs from it, the study's digest, the time.

    It is never written again, nor if the run has begun already: then there is none, for it is not
    known when it began.
    """
    record, first = record_file(run), base_state(run, 0)
    begun = (first.path, unfinished(first).path, stages.run_table(run, "training").path)
    if record.exists() or any(path.exists() for path in begun):
        return
    said = {
        "commit": commit(),
        "changed": changed(run.study, file),
        "study": sha256(file),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with whole_file(record) as temporary:
        temporary.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
