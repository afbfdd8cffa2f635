"""Code of the user's own that reaches beyond its own call: seeds, switches, modules that it keeps,
arrays of the moment.
"""

import pytest
import torch
from conftest import read_images
from torch import nn

from twophase.errors import RunError
from twophase.stages import network_checks as trial
from twophase.stages import network_starts as start
from twophase.study import studyfile
from twophase.study.datasets import FunctionOfArrays
from twophase.study.run import Run
from twophase.training import switches
from twophase.training.batches import Data, Split
from twophase.training.loop import build, initial_state

HEAD = """
import functools
import numpy as np
import torch
from torch import nn

def mlp(hidden=6):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

"""


@pytest.fixture
def run(raw, write_study):
    """Function of a network's code, and its options: a run that trains it."""

    def run(code, **options):
        path = write_study(raw)
        (path.parent / "net.py").write_text(HEAD + code)
        raw["models"] = {"mine": {"network": {"file": "net.py", "builder": "net", **options}}}
        study = studyfile.load(write_study(raw))
        return Run(study, "mine", study.seeds[0])

    return run


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(40) % 10)
    return Data(split, split, 10, torch.tensor([127.0]), torch.tensor([70.0]))


SAME = {
    "reads them": "STATE = np.linspace(-1, 1, 2000)\n"
    "def net():\n"
    "    m = mlp()\n"
    "    for p in m.parameters():\n"
    "        p.data = torch.from_numpy(STATE[: p.numel()]).float().view(p.shape)\n"
    "    return m\n",
    "a generator of its own": "def net():\n"
    "    m, g = mlp(), torch.Generator().manual_seed(3)\n"
    "    nn.init.normal_(m[1].weight, generator=g)\n"
    "    nn.init.zeros_(m[1].bias)\n"
    "    return m\n",
    "the seed, half-way": "def net():\n"
    "    m = mlp(60)\n"
    "    torch.manual_seed(17)\n"
    "    nn.init.normal_(m[3].weight)\n"
    "    return m\n",
    "zeros": "def net():\n"
    "    m = mlp()\n"
    "    for p in m.parameters():\n"
    "        p.data.zero_()\n"
    "    return m\n",
    "numpy": "def net():\n"
    "    m, r = mlp(), np.random.default_rng(5)\n"
    "    m[1].weight.data = torch.from_numpy(r.normal(size=(6, 64))).float()\n"
    "    return m\n",
}


@pytest.mark.parametrize("how", SAME)
def test_weights_that_no_seed_draws_are_told_before_training(how, run, data):
    with pytest.raises(RunError, match=r"layer [13] \(Linear\): weight starts from the same.*seed"):
        start.other_weights(run(SAME[how]), data)
    start.other_weights(run(SAME[how], same_weights=True), data)


def test_weights_that_the_seed_draws_pass_and_a_few_others_are_told(run, data, capsys):
    start.other_weights(run("def net(): return mlp()\n"), data)
    assert not capsys.readouterr().err
    code = "def net():\n    m = mlp()\n    nn.init.eye_(m[3].weight)\n    return m\n"
    start.other_weights(run(code), data)
    assert "layer 3 (Linear): weight starts from the same numbers" in capsys.readouterr().err


def test_a_seed_at_the_top_of_a_file_seeds_no_network(run, data):
    """It would only that of the process's first network."""
    model = run("torch.manual_seed(1)\ndef net(): return mlp()\n").model
    ones = [initial_state(model, data, seed).model[1].weight for seed in (0, 1, 0)]
    assert torch.equal(ones[0], ones[2])
    assert not torch.equal(ones[0], ones[1])


TURNED = {
    "torch.set_num_threads(3)": "torch.set_num_threads(3)",
    "torch.set_default_dtype(torch.float64)": "torch.set_default_dtype(torch.float64)",
    "torch.set_grad_enabled(False)": "torch.set_grad_enabled(False)",
    "torch.use_deterministic_algorithms(True)": "torch.set_deterministic_debug_mode(2)",
    "torch.backends.cudnn.benchmark = True": "torch.backends.cudnn.benchmark = True",
    "torch.backends.mkldnn.enabled = False": "torch.backends.mkldnn.enabled = False",
    "torch.set_flush_denormal(True)": "torch.set_flush_denormal(True)",
    "torch.set_default_device('meta')": "torch.set_default_device(meta)",
    "torch.set_float32_matmul_precision('medium')": "torch.set_float32_matmul_precision('medium')",
}


@pytest.mark.parametrize("line", TURNED)
@pytest.mark.parametrize("where", ["file", "builder"])
def test_switches_of_pytorch_are_set_back_and_told(line, where, run, capsys):
    if where == "file":
        code = f"{line}\ndef net(): return mlp()\n"
    else:
        code = f"def net():\n    m = mlp()\n    {line}\n    return m\n"
    network, before = run(code).model.network, switches.read()
    try:
        torch.set_deterministic_debug_mode(0)  # whatever tests before have left
        ours = switches.read()
        build(network, 1, 10)
        assert switches.read() == ours
    finally:
        switches.set_back(before)
    said = capsys.readouterr().err
    assert "net.py" in said
    assert TURNED[line] in said


def test_what_a_failing_file_turned_is_set_back_too(run):
    before = switches.read()
    with pytest.raises(ZeroDivisionError):
        build(
            run("torch.set_num_threads(5)\n1 / 0\ndef net(): return mlp()\n").model.network, 1, 10
        )
    assert switches.read() == before


def test_a_forward_pass_that_turns_a_switch_is_refused(run, data):
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = mlp()
    def forward(self, x):
        torch.set_num_threads(2 + self.training)
        return self.m(x)
net = Net
"""
    before = switches.read()
    tried = run(code)
    with pytest.raises(RunError, match=r"Net itself: sets torch.set_num_threads\(\d\) in its forw"):
        trial.two_steps(tried, data, data.normalised(data.train.images[:16]))
    assert switches.read() == before


AGAIN = {
    "cached": "@functools.cache\ndef net(): return mlp()\n",
    "a layer": "PART = nn.Linear(6, 10)\n"
    "def net():\n    return nn.Sequential(*mlp()[:3], nn.Tanh(), PART)\n",
    "a frozen norm": "NORM = nn.BatchNorm1d(6).requires_grad_(False)\n"
    "def net():\n    return nn.Sequential(*mlp()[:3], NORM, nn.Linear(6, 10))\n",
    "a parameter": "BIAS = nn.Parameter(torch.zeros(10))\n"
    "def net():\n    m = mlp()\n    m[3].bias = BIAS\n    return m\n",
    "numbers": "BIAS = torch.zeros(10)\n"
    "def net():\n    m = mlp()\n    m[3].bias = nn.Parameter(BIAS)\n    return m\n",
}


@pytest.mark.parametrize("how", AGAIN)
def test_a_builder_must_make_each_network_anew(how, run):
    network = run(AGAIN[how]).model.network
    first = build(network, 1, 10)
    with pytest.raises(RunError, match="returned the same (module|parameter).* twice; make a new"):
        build(network, 1, 10)
    del first


def test_networks_may_share_what_holds_no_numbers(run):
    network = run(
        "ACT = nn.ReLU()\ndef net():\n    m = mlp()\n    m[2] = ACT\n    return m\n"
    ).model
    one, other = (build(network.network, 1, 10) for _ in range(2))
    assert one[2] is other[2]


def test_a_buffer_that_two_networks_share_is_found_in_training(run, data):
    code = """
SEEN = torch.zeros(1)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = mlp()
        self.register_buffer("seen", SEEN)
    def forward(self, x):
        if self.training:
            self.seen += 1
        return self.m(x)
net = Net
"""
    with pytest.raises(
        RunError, match=r"Net itself: seen changes when another network of the same"
    ):
        trial.two_steps(run(code), data, data.normalised(data.train.images[:16]))


def test_a_sparse_gradient_is_refused_by_its_layer(run, data):
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.h = nn.Embedding(16, 4, sparse=True), nn.Linear(4, 10)
    def forward(self, x):
        return self.h(self.e((x.flatten(1) * 4).long().clamp(-8, 7) + 8).mean(1))
net = Net
"""
    with pytest.raises(RunError, match=r"layer e \(Embedding\): the gradient of weight is sparse"):
        trial.two_steps(run(code), data, data.normalised(data.train.images[:16]))


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def forward(self, x):
        return torch.round(self.m(x))


def test_a_kernel_of_zeros_is_refused():
    with (
        pytest.warns(UserWarning, match="kernel is zero"),
        pytest.raises(RunError, match="Steps itself: the kernel of two"),
    ):
        trial.two_examples(Steps(), torch.randn(2, 1, 8, 8), "full")


ARRAYS = """
import os, time
import numpy as np

def arrays():
    images, labels = np.zeros((12, 1, 2, 2), np.uint8), np.arange(12) % 3
    {line}
    return {{"train_images": images, "train_labels": labels, "test_images": images,
            "test_labels": labels}}
"""


@pytest.mark.parametrize(
    "line",
    [
        "images[:, 0, 0, 0] = np.array([list({'a', 'b', 'c', 'd', 'e'}).index('a')])",
        "images[0, 0, 0, :] = np.frombuffer(os.urandom(2), np.uint8)",
        "labels = (labels + os.getpid()) % 3 if 0 else np.random.permutation(labels)",
    ],
)
def test_arrays_that_are_others_in_another_process_are_refused(line, tmp_path):
    (tmp_path / "arr.py").write_text(ARRAYS.format(line=line))
    own = {"source": "function", "file": str(tmp_path / "arr.py"), "function": "arrays"}
    with pytest.raises(RunError, match="returns other arrays in another process .*without a seed"):
        read_images(FunctionOfArrays(**own, channels=1, image_size=2))
