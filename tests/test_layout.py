"""Training and all that starts from it lies channels last in memory, which is the faster layout of
convolutions on a processor. Files hold no strides, so a state that was read must lie as one that
was trained: sums in another order would be other bits.
"""

import pytest
import torch
from torch import nn

from twophase.stages.linearized import linearize
from twophase.study import stages
from twophase.study.run import Run
from twophase.study.studyfile import load
from twophase.training.batches import Data, Split, batch
from twophase.training.loop import advance, initial_state, load_state, save_state

NETWORKS = {
    "resnet20": {"architecture": "resnet20", "width": 0.25},
    "vgg16": {"architecture": "vgg16", "width": 0.0625},
}


@pytest.fixture(params=NETWORKS)
def run(request, raw, write_study, in_tmp):
    """A run on images of 32 x 32 pixels in three channels, of which nothing is there yet."""
    images = {"source": "folder", "path": "photos", "sha256": 64 * "0", "image_size": 32}
    raw["data"] = {"images": images, "augmentation": {"shift": 4, "flip": True}}
    raw["models"] = {"net": {"network": NETWORKS[request.param]}}
    raw["training"]["batch_size"] = 8
    (in_tmp / "workflow/config/photos").mkdir(parents=True)
    return Run(load(write_study(raw)), "net", 0)


@pytest.fixture
def images():
    """Random images of that shape."""
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8, generator=drawn)
    split = Split(pixels, torch.arange(40) % 10)
    return Data(split, split, 10, torch.full((3,), 127.0), torch.full((3,), 74.0))


def _lies_channels_last(tensor):
    return tensor.dim() != 4 or tensor.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_and_what_convolutions_make_of_it_lie_channels_last(run, images):
    state = initial_state(run.model, images, 0)
    first, _ = batch(images, run.study.data.augmentation, 0, 0, 8)
    seen = [first]
    for layer in state.model.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            layer.register_forward_hook(lambda _, __, out: seen.append(out))
    state.model.train()(first)
    assert len(seen) > 20
    assert all(map(_lies_channels_last, seen))


def test_a_state_that_was_read_lies_as_one_that_was_trained(run, images):
    whole, first, then = (initial_state(run.model, images, seed) for seed in (0, 0, 1))
    advance(whole, run, images, 3)
    advance(first, run, images, 1)
    file = stages.base_state(run, 1)
    save_state(file, first)
    load_state(file, then, 1)
    linear = linearize(then)
    for tensors in (then.tensors(), linear.tensors()):
        assert any(tensor.dim() == 4 and tensor.shape[2] > 1 for tensor in tensors.values())
        assert all(map(_lies_channels_last, tensors.values()))
    advance(then, run, images, 3)
    theirs = then.tensors()
    for name, tensor in whole.tensors().items():
        assert tensor.stride() == theirs[name].stride(), name
        assert torch.equal(tensor, theirs[name]), name
