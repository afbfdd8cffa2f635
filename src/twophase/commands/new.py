"""Command `new`: a study file for a network and a folder of pictures."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from twophase.datasets import survey
from twophase.errors import Problem, StudyError
from twophase.store.code import imported_files
from twophase.study import assumed, functions, noted, studyfile
from twophase.study.datasets import ImageFolder
from twophase.study.model import STUDIES
from twophase.study.networks import GIVEN

SMALL = 32  # pixels that larger pictures, and those of several sizes, are scaled to
LARGEST = 64  # pixels of pictures that are taken as they are
EPOCHS, FEWEST, MOST = 20, 200, 2000  # of training, and the iterations that these may be

TEXT = """\
# {builder} on the pictures in {path}: written by `twophase new`, to be changed as you like.
# What it does not say is assumed, such as batches of {batch}; `twophase plan {file}` lists it.
title: {title}
models:
  {name}:                          # a name of your choice; others may follow
    network: {network}             # options of the builder: `options: {{width: 16}}`
seeds: {seeds}                     # one base run each; intervals need three or more
# Some {epochs} epochs of SGD with momentum; the rate is a first guess.
training: {{iterations: {iterations}, lr: 0.05}}
# Copies are perturbed at t0 (forks), and compared with the run itself at t1 (compare).
chaos: {{forks: {forks}, compare: {compare}}}
# Tangent kernels along each base run, every so many iterations.
kernel: {{every: {every}, until: {until}}}
data:
  images: {images}
"""


def new(file: Path, network: str, images: str) -> Path:
    """Write a commented study `file` for `network`, such as `my_network.py:builder`, and the
    pictures in the folder or tar `images`; the file, in workflow/config.

    A network's file that lies elsewhere is copied beside the study. Raises `StudyError` if there is
    such a study already, if the builder or its file cannot be used, `RunError` if the pictures
    cannot.
    """
    file = STUDIES / file if file.parent == Path() else file
    if file.suffix != ".yaml" or file.parent != STUDIES:
        raise StudyError(f"{file}: must be {STUDIES}/<study>.yaml, or <study>.yaml alone")
    if file.exists():
        raise StudyError(f"{file}: is there already; choose another name, or delete it")
    if not STUDIES.is_dir():
        raise StudyError(f"{STUDIES}: no such folder in {Path.cwd()}; run this in a checkout")
    section, builder, copied = _network(network)
    try:
        file.write_text(_text(file, section, builder, images), encoding="utf-8")
        studyfile.load(file)
    except Problem:
        for made in (file, *copied):
            made.unlink(missing_ok=True)
        raise
    return file


def _text(file: Path, network: str, builder: str, images: str) -> str:
    """The study file for a section `network` and the pictures in `images`."""
    said = _images(images)
    batch = min(assumed.BATCH, said["train_examples"])
    iterations = min(MOST, max(FEWEST, EPOCHS * said["train_examples"] // batch // 100 * 100))
    chaos, kernel = (assumed.GRIDS[name]({}, iterations, said) for name in ("chaos", "kernel"))
    text = TEXT.format(
        file=file,
        path=images,
        builder=builder,
        batch=batch,
        title=_word(f"{builder} on {Path(images).name}"),
        name=builder.strip("_"),
        network=network,
        seeds=assumed.SEEDS,
        epochs=max(1, iterations * batch // said["train_examples"]),
        iterations=iterations,
        **{key: chaos[key] for key in ("forks", "compare")},
        **{key: kernel[key] for key in ("every", "until")},
        images=_section(said),
    )
    return re.sub(r"(?<=\S) {2,}#", "  #", text)


def _network(asked: str) -> tuple[str, str, list[Path]]:
    """The section `network`, the builder's name, and the file that was copied beside the study."""
    place, _, builder = asked.rpartition(":")
    if not place or not builder:
        line = "must be <file>.py:<builder>, or <module>:<builder> of an installed package"
        raise StudyError(f"--network {asked}: {line}")
    copied: list[Path] = []
    if not place.endswith(".py"):
        section, checked = f"{{builder: {_word(asked)}}}", (None, asked)
    else:
        given, beside = Path(place), STUDIES / Path(place).name
        inside = given.is_file() and given.resolve().is_relative_to(STUDIES.resolve())
        if inside:
            beside = STUDIES / given.resolve().relative_to(STUDIES.resolve())
        elif given.is_file() and beside.exists() and given.read_bytes() != beside.read_bytes():
            raise StudyError(f"--network {asked}: {beside} is another file; rename one of the two")
        elif given.is_file() and not beside.exists():
            copied = [_copied(given, beside)]
        name = str(beside.relative_to(STUDIES))
        section, checked = f"{{file: {_word(name)}, builder: {builder}}}", (name, builder)
    for option, line in functions.mistakes("builder", *checked, {}, STUDIES, GIVEN):
        for made in copied:
            made.unlink()
        said = f"{option}{line}" if line[0] == ":" else f"{option} {line}"
        raise StudyError(f"--network {asked}: {said}")
    return section, builder, copied


def _copied(given: Path, beside: Path) -> Path:
    """A copy of a network's file beside the study, if it needs no file but itself."""
    place = functions.place(str(given.absolute()), "")
    others = [path.name for path in imported_files(place).values() if path != given.absolute()]
    near = [name for name in others if (given.parent / name).exists()]
    if near:
        line = f"imports {', '.join(near)} beside it; put these files into {STUDIES} together"
        raise StudyError(f"--network {given}: {line}")
    shutil.copyfile(given, beside)
    return beside


def _images(path: str) -> dict[str, str | int | bool]:
    """The keys of the section `data.images`, but for its source."""
    asked = ImageFolder(source="folder", path=path, image_size=SMALL, sha256=64 * "0")
    are, sizes = survey.survey(asked), survey.sizes(asked)
    pixels = {side for size in sizes for side in size}
    said: dict[str, str | int | bool] = {"path": path, "image_size": SMALL, "resize": True}
    if len(pixels) == 1 and max(pixels) <= LARGEST:
        said = {"path": path, "image_size": pixels.pop()}
    return said | {key: are[key] for key in (*noted.NUMBERS, "sha256")}


def _section(said: dict[str, str | int | bool]) -> str:
    """The section `data.images`; the digest on a line of its own."""
    words = [f"{key}: {_word(value)}" for key, value in said.items()]
    return "{source: folder, " + ", ".join(words[:-1]) + ",\n           " + words[-1] + "}"


def _word(value: str | int | bool) -> str:
    """A value as YAML has it, also between braces."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z./][\w ./-]*|[0-9a-f]{64}", value)
    return value if plain else json.dumps(value)
