"""Images as people have them: each is read as torchvision reads it, or refused by its name."""

import io
import os
import struct
import tarfile
import warnings
import zlib

import numpy as np
import pytest
import torch
import torchvision
from conftest import read_images
from PIL import Image

from twophase import stages
from twophase.batches import load_data
from twophase.datasets import ImageFolder, folder
from twophase.errors import ArtifactError, Problem, RunError, StudyError
from twophase.stages.base import base
from twophase.stages.data import data, digest
from twophase.store.artifacts import read_header
from twophase.study import Model, Run
from twophase.studyfile import load

rng = np.random.default_rng(0)
SIZE = 6


def encoded(pixels, format="png", **options):
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, format, **options)
    return out.getvalue()


def picture(channels=3, size=(SIZE, SIZE)):
    return rng.integers(0, 256, (*size, channels), dtype=np.uint8)


def png16(values):
    """A PNG with 16 bits: values (height, width, 1 or 3)."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    kind = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def plain():
    """Two classes of small RGB images."""
    names = [
        f"{split}/{label}/{k}.png"
        for split in ("train", "test")
        for label in "ab"
        for k in range(3)
    ]
    return {name: encoded(picture()) for name in names}


def write(root, files):
    for name, content in files.items():
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    return root


def tarred(root, file, mode="w"):
    """The folder `root` as `tar -c` packs it, links and all."""
    with tarfile.open(file, mode) as archive:
        archive.add(root, "somewhere")
    return file


def options(path, **changed):
    """The study's section; the digest is that of what is there, as a user would paste it."""
    found = {"source": "folder", "path": str(path), "sha256": 64 * "0", "image_size": SIZE}
    asked = ImageFolder(**(found | changed))
    return asked.model_copy(update={"sha256": folder.digest(asked)})


def read(path, **changed):
    return read_images(options(path, **changed))


def as_torchvision(root, tensors):
    """Whether images and labels are those of torchvision's `ImageFolder`, whatever their order."""
    for split in ("train", "test"):
        theirs = torchvision.datasets.ImageFolder(root / split)
        ours = zip(tensors[f"{split}_images"], tensors[f"{split}_labels"], strict=True)
        found = sorted((image.permute(1, 2, 0).numpy().tobytes(), int(y)) for image, y in ours)
        if found != sorted((np.asarray(image).tobytes(), y) for image, y in theirs):
            return False
    return True


def rotated():
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    return encoded(image, "jpeg", exif=exif)


def see_through():
    image = Image.fromarray(picture(1)[..., 0]).quantize(5)
    return encoded(image, transparency=bytes([0, 100, 200, 255, 255]))


KINDS = {
    "grey": lambda: encoded(picture(1)[..., 0]),
    "grey and alpha": lambda: encoded(Image.fromarray(picture(2), "LA")),
    "alpha": lambda: encoded(picture(4)),
    "palette": lambda: encoded(Image.fromarray(picture()).quantize(7)),
    "palette and transparency": see_through,
    "one bit": lambda: encoded(Image.fromarray(picture(1)[..., 0] > 127)),
    "CMYK": lambda: encoded(Image.fromarray(picture(4), "CMYK"), "tiff"),
    "CMYK, JPEG": lambda: encoded(Image.fromarray(picture(4), "CMYK"), "jpeg"),
    "YCbCr": lambda: encoded(Image.fromarray(picture(), "YCbCr"), "tiff"),
    "on its side": rotated,
    "PPM": lambda: encoded(picture(), "ppm"),
    "BMP": lambda: encoded(picture(), "bmp"),
    "WebP": lambda: encoded(picture(), "webp", lossless=True),
    "two pages": lambda: encoded(
        Image.fromarray(picture()), "tiff", save_all=True, append_images=[Image.new("RGB", (3, 3))]
    ),
    "16 bits, three colours": lambda: png16(rng.integers(0, 65536, (SIZE, SIZE, 3))),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Palette images with Transparency", "ignore:'mode' parameter")
def test_each_kind_of_picture_is_read_as_torchvision_reads_it(kind, tmp_path):
    # A reader goes by content, not by suffix.
    files = plain() | {"train/a/odd.png": KINDS[kind](), "test/b/odd.jpg": KINDS[kind]()}
    assert as_torchvision(tmp_path, read(write(tmp_path, files)))


def deep(values, kind):
    if kind == "png":
        return png16(values[..., None])
    if kind == "pgm":
        return b"P5 %d %d 65535\n" % values.shape[::-1] + values.astype(">u2").tobytes()
    image = Image.fromarray(values.astype("<u2" if kind == "tiff" else ">u2"))
    return encoded(image, "tiff", **({"compression": "tiff_lzw"} if kind == "tiff" else {}))


@pytest.mark.parametrize("kind", ["png", "tiff", "tiff, most significant byte first", "pgm"])
def test_of_16_bits_the_upper_eight_are_taken(kind, tmp_path):
    values = rng.integers(0, 65536, (SIZE, SIZE))
    values[0, :4] = [0, 255, 256, 65535]
    suffix = kind.split(",")[0]
    files = plain() | {"train/a/x.png": encoded(Image.new("RGB", (SIZE, SIZE)))}
    files[f"train/a/deep.{suffix}"] = deep(values, kind)
    images = read(write(tmp_path, files))["train_images"]
    expected = torch.from_numpy(values // 256).byte().expand(3, -1, -1)
    assert (images == expected).all(dim=(1, 2, 3)).sum() == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_of_which_few_are_used_are_refused(channels, tmp_path):
    files = {name: png16(rng.integers(0, 4096, (SIZE, SIZE, channels))) for name in plain()}
    with pytest.raises(
        RunError, match=r"(train|test)/[ab]/\d\.png: its pixels have 16 bits.*6\.2%"
    ):
        read(write(tmp_path, files))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_scale_are_refused_by_name(dtype, tmp_path):
    values = (rng.random((SIZE, SIZE)) * 1000).astype(dtype)
    files = plain() | {"test/b/odd.tif": encoded(values, "tiff")}
    with pytest.raises(RunError, match=r"test/b/odd\.tif: has (float|32-bit integer) pixels"):
        read(write(tmp_path, files))


def test_damaged_bytes_are_refused_in_one_line_or_read():
    contents = [make() for make in KINDS.values()]
    contents.append(deep(rng.integers(0, 65536, (SIZE, SIZE)), "tiff"))
    refused = []
    for trial in range(600):
        content = bytearray(contents[trial % len(contents)])
        for place in rng.integers(0, len(content), rng.integers(1, 6)):
            content[place] = rng.integers(256)
        try:
            with warnings.catch_warnings(action="ignore"):
                folder._decoded(bytes(content[: rng.integers(1, 2 * len(content))]))
        except folder.Refused as error:
            refused.append(str(error))
    assert 100 < len(refused) < 600
    assert not any("\n" in line for line in refused)


@pytest.fixture(params=["folder", "tar"])
def packed(request, tmp_path):
    """A function that gives a folder as it is, or as a tar."""
    if request.param == "folder":
        return lambda root: root
    return lambda root: tarred(root, tmp_path / "images.tar.xz", "w:xz")


def test_links_are_followed(packed, tmp_path):
    files = plain()
    files["shelf/9.png"] = encoded(picture())
    files["all/c/0.png"], files["all/c/1.png"] = encoded(picture()), encoded(picture())
    root = write(tmp_path / "linked", files)
    (root / "train/a/soft.png").symlink_to("../../shelf/9.png")
    (root / "train/a/soft of soft.png").symlink_to("soft.png")
    os.link(root / "shelf/9.png", root / "test/b/hard.png")
    for split in ("train", "test"):
        (root / split / "c").symlink_to(os.path.join("..", "all", "c"))
    tensors = read(packed(root))
    assert len(tensors["train_labels"]) == 6 + 2 + 2
    assert as_torchvision(root, tensors)
    assert options(packed(root)).sha256 == options(root).sha256


def test_a_whole_split_may_be_a_link(packed, tmp_path):
    root = write(tmp_path / "linked", {f"version 1/{name}": x for name, x in plain().items()})
    for split in ("train", "test"):
        (root / split).symlink_to(f"version 1/{split}")
    tensors = read(packed(root))
    assert len(tensors["train_labels"]) == 6  # each image once, though two paths lead to it
    assert as_torchvision(root, tensors)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("train/a/gone.png", "nowhere.png"),
        ("train/c", "../elsewhere"),
        ("train/a/round.png", "round.png"),
        ("train/a/above", ".."),
        ("train/a/crossed", "../b"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(link, target, packed, tmp_path):
    root = write(tmp_path / "linked", plain())
    (root / link).symlink_to(target)
    (root / "train/b/crossed").symlink_to("../a")
    with pytest.raises(RunError, match=f"{link}.*: cannot be followed"):
        read(packed(root))


def test_a_link_out_of_a_tar_is_refused(tmp_path):
    (tmp_path / "outside.png").write_bytes(encoded(picture()))
    for target in (
        str(tmp_path / "outside.png"),
        "../../../../outside.png",
        "../../../outside.png",
    ):
        root = write(tmp_path / "linked", plain())
        (root / "train/a/out.png").symlink_to(target)
        expected = (
            r"train/a/out\.png: cannot be followed \((it leads out|the archive does not hold)"
        )
        with pytest.raises(RunError, match=expected):
            read(tarred(root, tmp_path / "x.tar"))
        (root / "train/a/out.png").unlink()


def test_a_tar_of_links_to_links_ends(tmp_path):
    """Each link goes through the one before twice: 2^60 steps for who follows them one by one."""
    with tarfile.open(tmp_path / "bomb.tar", "w") as archive:
        for k in range(1, 60):
            member = tarfile.TarInfo(f"train/a/{k}")
            member.type, member.linkname = tarfile.SYMTYPE, f"{k - 1}/../{k - 1}"
            archive.addfile(member)
        member = tarfile.TarInfo("train/a/0")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    with pytest.raises(RunError, match="holds 0 images in train/"):
        read(tmp_path / "bomb.tar")


def test_of_members_with_one_name_the_last_counts(tmp_path):
    root = write(tmp_path / "images", plain())
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(root, ".")
        write(root, {"train/a/0.png": encoded(picture())})
        archive.add(root / "train/a/0.png", "./train/a/0.png")
    assert as_torchvision(root, read(tmp_path / "x.tar"))


def test_what_systems_and_tools_leave_behind_is_passed_over(packed, tmp_path):
    clean = write(tmp_path / "clean", plain())
    root = write(tmp_path / "images", plain())
    for name in clean.rglob("*.png"):
        (root / name.relative_to(clean)).write_bytes(name.read_bytes())
    junk = [
        "train/.ipynb_checkpoints/0.png",
        "train/a/.ipynb_checkpoints/0-checkpoint.png",
        "__MACOSX/train/a/._0.png",
        "train/a/._0.png",
        "._train",
        "train/.DS_Store",
        "train/a/Thumbs.db",
        "train/__MACOSX/x.png",
        "README.md",
    ]
    write(root, dict.fromkeys(junk, b"no image"))
    tensors, expected = read(packed(root)), read(clean)
    assert all(torch.equal(tensors[key], expected[key]) for key in expected)


def test_files_with_one_stem_are_two_images(tmp_path):
    write(tmp_path, plain() | {"train/a/0.jpg": encoded(picture(), "jpeg")})
    tensors = read(tmp_path)
    assert len(tensors["train_labels"]) == 7
    assert as_torchvision(tmp_path, tensors)


def test_images_may_lie_deeper(packed, tmp_path):
    root = write(tmp_path / "deep", plain() | {"train/a/images/x.png": encoded(picture())})
    assert as_torchvision(root, read(packed(root)))


@pytest.mark.parametrize(
    "name", [b"caf\xe9", "caf\u00e9".encode(), b"two\nlines", "雪".encode(), b"\xff"]
)
def test_any_name_of_a_class_is_read(name, packed, tmp_path):
    files = plain()
    for split in ("train", "test"):
        files[f"{split}/{os.fsdecode(name)}/0.png"] = encoded(picture())
    root = write(tmp_path / "named", files)
    tensors = read(packed(root))
    assert sorted(set(tensors["test_labels"].tolist())) == [0, 1, 2]
    assert as_torchvision(root, tensors)


def test_a_damaged_image_of_an_odd_name_is_named_on_one_line(packed, tmp_path):
    root = write(tmp_path / "named", plain() | {"train/a/x\n\udce9.png": b"no image"})
    with pytest.raises(RunError, match=r"train/a/x\\n\\udce9\.png: cannot be decoded") as caught:
        read(packed(root))
    assert "\n" not in str(caught.value)


def test_a_class_without_training_images_is_refused_by_a_file(tmp_path):
    write(tmp_path, plain() | {"test/aa/odd.png": encoded(picture())})
    with pytest.raises(RunError, match=r"test/aa/odd\.png: no image in train/ is of this class"):
        read(tmp_path)
    (tmp_path / "test/aa").rename(tmp_path / "train/aa")
    assert sorted(set(read(tmp_path)["train_labels"].tolist())) == [0, 1, 2]


def test_a_class_whose_files_are_no_images_is_refused_by_a_file(tmp_path):
    write(tmp_path, plain() | {"train/c/x.gif": b"", "test/c/0.png": encoded(picture())})
    with pytest.raises(RunError, match=r"train/c/x\.gif: is no image"):
        read(tmp_path)


def test_two_folders_with_one_image_are_refused(tmp_path):
    write(tmp_path, {f"{set}/{name}": x for name, x in plain().items() for set in ("old", "new")})
    with pytest.raises(RunError, match=r"holds test/a/0\.png twice"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, r"holds 0 images in train/"),
        ({"train/a/0.png": b""}, r"holds 0 images in test/"),
        ({"train/a/0.png": b"", "test/a/0.png": b""}, r"holds one class, a;"),
    ],
)
def test_sets_that_are_none_are_refused(files, expected, tmp_path):
    with pytest.raises(RunError, match=expected):
        read(write(tmp_path, files))


def test_no_tar_is_refused_in_one_line(tmp_path):
    for name, content in (("x.zip", b"PK\3\4" + bytes(99)), ("x.txt", b"hello\n" * 99), ("x", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunError, match="cannot be read") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_pictures_of_other_shapes_are_resized_padded_or_refused(tmp_path):
    colour = np.array([250, 100, 0], dtype=np.uint8)
    wide = np.zeros((SIZE, 2 * SIZE, 3), dtype=np.uint8) + colour
    wide[:, : SIZE // 2] = wide[:, -SIZE // 2 :] = 7  # what a cut takes away
    small = np.zeros((SIZE - 2, SIZE, 3), dtype=np.uint8) + colour
    files = plain()

    def only(content, **fit):
        images = read(write(tmp_path, files | {"train/a/odd.png": content}), **fit)["train_images"]
        plain_ones = read(write(tmp_path, files | {"train/a/odd.png": files["train/a/0.png"]}))
        kept = {image.numpy().tobytes() for image in plain_ones["train_images"]}
        (odd,) = [i for i in images if i.numpy().tobytes() not in kept]
        return odd.permute(1, 2, 0).numpy()

    with pytest.raises(RunError, match=r"odd\.png: has 12 x 6 pixels; .*image_size = 6"):
        only(encoded(wide))
    with pytest.raises(RunError, match=r"odd\.png: has 12 x 6 pixels"):
        only(encoded(wide), pad=True)
    assert (only(encoded(wide), resize=True) == colour).all()
    both = only(encoded(wide), resize=True, pad=True)
    assert not both[0].any()
    assert not both[-1].any()
    assert (both[SIZE // 2, SIZE // 2] == colour).all()
    padded = only(encoded(small), pad=True)
    assert not padded[0].any()
    assert not padded[-1].any()
    assert (padded[1:-1] == colour).all()
    large = only(encoded(np.repeat(np.repeat(picture(), 3, 0), 3, 1)), resize=True)
    assert large.shape == (SIZE, SIZE, 3)
    with pytest.raises(RunError, match=r"odd\.png: has 6 x 4 pixels"):
        only(encoded(small))


def test_resizing_is_torchvisions(tmp_path):
    for shape in ((30, 30), (17, 40), (41, 12)):
        image = Image.fromarray(picture(size=shape))
        ours = folder._fitted(image, options(write(tmp_path, plain()), resize=True))
        theirs = torchvision.transforms.functional
        resized = theirs.center_crop(theirs.resize(image, SIZE), SIZE)
        # Theirs rounds the scaled picture's longer side to whole pixels, and then cuts whole ones.
        assert np.abs(ours - np.asarray(resized).transpose(2, 0, 1).astype(int)).mean() < 12


@pytest.fixture
def study(raw, write_study, tmp_path, monkeypatch):
    """A function that gives the study of some images, with ResNet-8; sections may be changed."""
    monkeypatch.chdir(tmp_path)

    def make(files, **sections):
        write(tmp_path / "images", files)
        images = {"source": "folder", "path": "images", "image_size": SIZE}
        raw["data"]["images"] = images
        raw["models"] = {"resnet": {"network": {"architecture": "resnet8"}}}
        raw["training"] |= {"batch_size": 4, "iterations": 2, "lr_drops": []}
        raw["evaluation"] = {"train_examples": 4, "test_examples": 4}
        for section, field in Model.model_fields.items():
            if not field.is_required():
                raw.pop(section, None)
        for section, changed in sections.items():
            raw[section] = raw.get(section, {}) | changed
        file = write_study(raw)
        images["sha256"] = folder.digest(load(file, digest=False).data.images)
        return load(write_study(raw))

    return make


def test_what_is_left_out_is_counted_and_stands_in_the_result(study, capsys):
    mine = study(plain())
    data(mine)
    identity = read_header(stages.data_file(mine).path)["identity"]
    assert (identity["classes"], identity["train_examples"], identity["test_examples"]) == (2, 6, 6)
    read = load_data(stages.data_file(mine), mine.data.images, torch.device("cpu"))
    assert (read.classes, len(read.train.labels), len(read.test.labels)) == (2, 6, 6)
    # Said or not, these are the same images; said wrongly, they are not.
    images = mine.data.images.model_copy(update={"classes": 2, "train_examples": 6})
    said = mine.model_copy(update={"data": mine.data.model_copy(update={"images": images})})
    assert stages.data_file(said) == stages.data_file(mine)
    wrong = images.model_copy(update={"train_examples": 7})
    with pytest.raises(ArtifactError, match=r"data\.images\.train_examples = 7, but it holds 6"):
        load_data(stages.data_file(said), wrong, torch.device("cpu"))
    with pytest.raises(RunError, match=r"holds 6 images in train/.*train_examples = 7"):
        read_images(wrong)


def test_a_study_that_asks_for_more_than_was_counted_is_refused(study):
    kernel = {"every": 1, "until": 2, "kind": "full", "references": [0], "intervals": [1]}
    files = plain()
    mine = study(
        files,
        training={"batch_size": 7},
        evaluation={"test_examples": 8},
        kernel=kernel | {"examples_per_class": 4},
    )
    with pytest.raises(StudyError) as caught:
        data(mine)
    assert not stages.data_file(mine).path.exists()
    key = "workflow/config/mine.yaml: models.resnet"
    assert str(caught.value).splitlines() == [
        f"{key}.evaluation.test_examples = 8: must be at most 6, all of them",
        f"{key}.training.batch_size = 7: must be at most 6, all training examples",
        f"{key}.kernel.examples_per_class = 4: must be at most 3, the training examples of the "
        "rarest class",
    ]
    # The data may be there from before the study was changed.
    data(study(files))
    with pytest.raises(StudyError, match="batch_size = 7"):
        base(Run(study(files, training={"batch_size": 7}), "resnet", 0))


def blue():
    pixels = picture()
    pixels[..., :2] = 9
    return encoded(pixels)


def test_a_channel_that_is_the_same_everywhere_is_0_and_trains(study):
    mine = study({name: blue() for name in plain()})
    data(mine)
    read = load_data(stages.data_file(mine), mine.data.images, torch.device("cpu"))
    pixels = read.normalised(read.train.images)
    assert not pixels[:, :2].any()
    assert abs(float(pixels[:, 2].std()) - 1) < 1e-5
    base(Run(mine, "resnet", 0))


def test_a_channel_that_only_test_images_use_is_refused(study):
    files = {name: blue() for name in plain()} | {"test/b/odd.png": encoded(picture())}
    with pytest.raises(RunError, match="channel 0 of the images .* is 9 in every training image"):
        data(study(files))
    grey = {name: encoded(Image.new("RGB", (SIZE, SIZE), (5, 5, 5))) for name in plain()}
    with pytest.raises(RunError, match="every pixel .* is the same"):
        data(study(grey | {"test/b/odd.png": grey["test/b/0.png"]}))


def test_the_digest_is_printed_as_a_line_to_paste(study, capsys, raw):
    mine = study(plain())
    digest(mine)
    assert capsys.readouterr().out == f"sha256: {mine.data.images.sha256}\n"


def test_other_sources_take_no_digest(smoke):
    with pytest.raises(Problem, match="'digits' takes no sha256"):
        digest(smoke)
