import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from torchvision.transforms.v2 import functional as tv

from twophase.errors import StudyError
from twophase.study.data import Augmentation
from twophase.training.batches import (
    AUGMENTATION,
    Data,
    Split,
    balanced_subset,
    batch,
    batch_indices,
)
from twophase.training.perturbation import At


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, 3, 8, 6), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(50) % 5)
    return Data(split, split, 5, torch.zeros(3), torch.ones(3))


def test_an_epoch_shows_each_example_once_and_the_next_is_shuffled_anew():
    first, second = (
        [batch_indices(3, epoch * 5 + k, 50, 10) for k in range(5)] for epoch in (0, 1)
    )
    assert sorted(np.concatenate(first)) == list(range(50))
    assert sorted(np.concatenate(second)) == list(range(50))
    assert not np.array_equal(first, second)


def test_a_batch_depends_on_seed_and_step_alone(data):
    augmentation = Augmentation(shift=2, flip=True)
    images, labels = batch(data, augmentation, 1, 7, 10)
    batch(data, augmentation, 5, 3, 10)  # what happened before does not count
    again, _ = batch(data, augmentation, 1, 7, 10)
    assert torch.equal(images, again)
    assert not torch.equal(images, batch(data, augmentation, 1, 8, 10)[0])
    assert not torch.equal(images, batch(data, augmentation, 2, 7, 10)[0])
    assert torch.equal(labels, data.train.labels[batch_indices(1, 7, 50, 10)])
    assert not np.array_equal(batch_indices(1, 7, 50, 10), batch_indices(2, 7, 50, 10))


def test_augmentation_is_torchvisions_pad_crop_and_flip(data):
    images, _ = batch(data, Augmentation(shift=2, flip=True), 1, 7, 10)
    rng = np.random.default_rng((AUGMENTATION, 1, 7))
    offsets, flips = rng.integers(0, 5, (2, 10)), rng.integers(0, 2, 10)
    assert 0 < flips.sum() < 10
    for image, index, top, left, flip in zip(
        images, batch_indices(1, 7, 50, 10), *offsets, flips, strict=True
    ):
        expected = tv.crop(tv.pad(data.train.images[index], [2]), int(top), int(left), 8, 6)
        expected = tv.hflip(expected) if flip else expected
        assert torch.equal(image, expected.float())


def test_without_drop_last_an_epoch_shows_all_examples_once(data):
    sizes = 50, 20, False
    epochs = [[batch_indices(3, 3 * epoch + k, *sizes) for k in range(3)] for epoch in (0, 1)]
    for epoch in epochs:
        assert [len(chosen) for chosen in epoch] == [20, 20, 10]
        assert sorted(np.concatenate(epoch)) == list(range(50))
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    augmentation = Augmentation(shift=2, flip=True, cutout=3)
    images, labels = batch(data, augmentation, 3, 5, 20, False)
    assert images.shape == (10, 3, 8, 6)
    assert torch.equal(labels, data.train.labels[epochs[1][2]])
    # Where nothing is left over, it says nothing.
    assert np.array_equal(batch_indices(3, 7, 50, 10, False), batch_indices(3, 7, 50, 10))


def test_a_cut_out_is_a_square_of_zeros_around_a_random_pixel(data):
    """In each image, at most `side` wide, at the border less; and nothing else changes."""
    data = replace(data, mean=torch.full((3,), -1.0))  # so that no other value is 0
    for side in (1, 2, 5):
        whole, labels = batch(data, Augmentation(shift=2, flip=True), 1, 7, 10)
        images, same = batch(data, Augmentation(shift=2, flip=True, cutout=side), 1, 7, 10)
        assert torch.equal(labels, same)
        rng = np.random.default_rng((AUGMENTATION, 1, 7))
        rng.integers(0, 5, (2, 10)), rng.integers(0, 2, 10)  # shift and flip come before
        centres = rng.integers(0, 2**32, (2, 10)) / 2**32 * [[8], [6]]
        for image, before, (y, x) in zip(images, whole, centres.astype(int).T, strict=True):
            top, left = y - side // 2, x - side // 2
            before[:, max(0, top) : top + side, max(0, left) : left + side] = 0
            assert torch.equal(image, before)


def test_every_pixel_is_as_often_the_centre_of_a_cut_out(data):
    augmentation = Augmentation(shift=0, flip=False, cutout=1)
    data = replace(data, mean=torch.full((3,), -1.0))
    counts = sum(
        (batch(data, augmentation, 0, step, 50)[0] == 0).all(1).sum(0) for step in range(40)
    )
    assert int(counts.sum()) == 50 * 40  # one in each
    expected = 50 * 40 / 48
    assert float((counts - expected).abs().max()) < 5 * expected**0.5


def test_without_augmentation_images_are_as_they_are(data):
    images, _ = batch(data, Augmentation(shift=0, flip=False), 1, 7, 10)
    assert torch.equal(images, data.train.images[batch_indices(1, 7, 50, 10)].float())


def test_a_balanced_subset_has_the_same_number_of_each_class():
    labels = torch.tensor([0, 0, 1, 0, 1, 2, 2, 2])
    assert balanced_subset(labels, 2).tolist() == [0, 1, 2, 4, 5, 6]
    with pytest.raises(StudyError, match="class 1 has only 2"):
        balanced_subset(labels, 3)


def test_a_balanced_subset_keeps_the_order_of_the_examples():
    assert balanced_subset(torch.tensor([2, 1, 0, 0, 1, 2]), 1).tolist() == [0, 1, 2]


def test_no_two_uses_share_their_random_numbers():
    # A counter that seeds a generator begins with a number of its own, whoever draws; or with the
    # seed of another order, which is beyond all of them.
    code = "\n".join(file.read_text() for file in sorted((ROOT / "src").rglob("*.py")))
    used = set(re.findall(r"(?:default_rng|SeedSequence)\(\((\w+),", code))
    used.remove("other")
    assert min(At(None, seed, 1).other_seed() for seed in range(100)) >= 2**32
    numbers = {}
    for names, values in re.findall(r"^([A-Z_, ]+) = (\d+(?:, \d+)*)\b", code, re.M):
        numbers |= dict(zip(names.split(", "), values.split(", "), strict=False))
    assert {"ORDER", "AUGMENTATION", "DIRECTION", "ARRANGEMENT", "NOISE", "DRAWN"} <= used
    assert len({numbers[name] for name in used}) == len(used)
