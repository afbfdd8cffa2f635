"""Images as people have them: each is read as torchvision reads it, or refused by its name."""

import warnings
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from conftest import read_images
from pictures import SIZE, as_torchvision, encoded, options, picture, plain, png16, read, rng, write
from PIL import Image

from twophase.datasets import folder, pictures
from twophase.errors import ArtifactError, Problem, RunError, StudyError
from twophase.stages.base import base
from twophase.stages.data import data, digest
from twophase.store.artifacts import read_header
from twophase.study import stages
from twophase.study.model import Model
from twophase.study.run import Run
from twophase.study.studyfile import load
from twophase.training.batches import load_data


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
        except pictures.Refused as error:
            refused.append(str(error))
    assert 100 < len(refused) < 600
    assert not any("\n" in line for line in refused)


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
        ours = pictures.fitted(image, options(write(tmp_path, plain()), resize=True))
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
    assert str(caught.value).splitlines() == [
        f"workflow/config/mine.yaml: {line} (model resnet)"
        for line in (
            "evaluation.test_examples = 8: must be at most 6, all of them",
            "training.batch_size = 7: must be at most 6, all training examples",
            "kernel.examples_per_class = 4: must be at most 3, the training examples of the rarest "
            "class",
        )
    ]
    with pytest.raises(StudyError) as caught:
        data(study(files, evaluation={"train_examples": 6, "test_examples": 1000}))
    assert str(caught.value).splitlines()[1].endswith("give train_examples: 6 and test_examples: 6")
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


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_frames_that_are_left_out_are_told(kind, tmp_path, capsys):
    def stack(frames):
        first, *others = (Image.fromarray(picture()) for _ in range(frames))
        return encoded(first, kind, save_all=True, append_images=others)

    files = plain() | {f"train/a/{k}.png": stack(k) for k in (1, 2, 3)}
    read(write(tmp_path, files))
    (line,) = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1:]
    assert "2 of 13 files hold several pictures" in line
    assert any(f"train/a/{k}.png with {k};" in line for k in (2, 3))
    read(write(tmp_path / "plain", plain()))
    assert "several pictures" not in capsys.readouterr().err


def test_images_that_are_there_twice_are_told(tmp_path, capsys):
    files = plain()
    files["test/b/x.bmp"] = encoded(Image.fromarray(first := picture()), "bmp")
    files["train/a/y.png"] = files["train/b/z.png"] = encoded(first)
    read(write(tmp_path, files))
    said = capsys.readouterr().err
    assert "1 of 7 test images are training images, too" in said
    assert "1 training images are there with two labels" in said


def test_a_zip_is_told_what_to_do_with(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.tar", "w") as archive:
        for name, content in plain().items():
            archive.writestr(name, content)
    with pytest.raises(RunError, match=r"images\.tar: is a zip; .* unpack it"):
        read(tmp_path / "images.tar")
