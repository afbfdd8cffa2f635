"""Small studies of each task, for tests: their files, and how one is written."""

import copy
import hashlib

from twophase.study import studyfile

TEXT = "the quick brown fox jumps over the lazy dog, again and again. " * 30
FUNCTIONS = """
import numpy as np

def lines(outputs=1, scale=1.0):
    rng = np.random.default_rng(0)
    x = scale * rng.standard_normal((90, 4))
    y = np.tanh(x @ rng.standard_normal((4, outputs)))
    y = y[:, 0] if outputs == 1 else y
    return {"train_vectors": x[:60], "train_labels": y[:60],
            "test_vectors": x[60:], "test_labels": y[60:]}

def halves():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 4))
    y = (x[:, 0] > 0).astype(int)
    return {"train_vectors": x[:60], "train_labels": y[:60],
            "test_vectors": x[60:], "test_labels": y[60:]}

def parities():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (90, 6))
    y = x[:, 0] % 2
    return {"train_tokens": x[:60], "train_labels": y[:60],
            "test_tokens": x[60:], "test_labels": y[60:]}
"""
NETWORKS = """
from torch import nn

def bag(vocabulary, classes, length, width=8):
    layers = nn.Embedding(vocabulary, width), nn.Flatten(), nn.Linear(length * width, 16)
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(16, classes))

def line(features, outputs):
    return nn.Linear(features, outputs)
"""
OWN = """
def absolute(out, labels):
    return (out - labels).abs()

def sign(out):
    return (out > 0).long()

def total(out, labels):
    return (out - labels).abs().sum()

def noisy(out, labels):
    import torch
    return (out - labels).abs() * torch.rand_like(out)

def apart(out, labels):
    return (out - labels).abs().detach()

def product(out, labels):
    return out @ labels

def words(out):
    return out.tolist()
"""
OWN_TASK = {"file": "mine_task.py", "loss": "absolute", "prediction": "sign", "unit": "mm"}
VECTORS = {"source": "vectors", "file": "mine_data.py", "function": "lines", "features": 4}
MLP = {"architecture": "mlp", "widths": [8]}
STUDIES = {
    "regression": (VECTORS | {"task": "regression"}, MLP),
    "several outputs": (VECTORS | {"task": "regression", "options": {"outputs": 3}}, MLP),
    "vectors": (VECTORS | {"function": "halves"}, MLP),
    "own": (VECTORS | {"task": OWN_TASK}, MLP),
    "tokens": (
        {"source": "tokens", "file": "mine_data.py", "function": "parities", "length": 6}
        | {"vocabulary": 5},
        {"file": "mine_networks.py", "builder": "bag"},
    ),
    "next token": (
        {"source": "text", "path": "mine.txt", "length": 8, "test_share": 0.3}
        | {"sha256": hashlib.sha256(TEXT.encode()).hexdigest()},
        {"architecture": "gpt", "width": 8, "depth": 1, "heads": 2, "expansion": 2},
    ),
}


def write(raw, write_study, folder, name, change=lambda raw: None):
    """Write the small study of a task with `write_study`, its files too, and load it. `raw` is the
    smoke study; `change` changes what is written.
    """
    raw, (images, network) = copy.deepcopy(raw), STUDIES[name]
    raw["data"] = {"images": copy.deepcopy(images)}
    raw["models"] = {"net": {"network": network}}
    raw["training"] |= {"iterations": 6, "batch_size": 8, "lr_drops": []}
    raw["evaluation"] = {"train_examples": 20, "test_examples": 20}
    raw["chaos"] |= {"forks": [0, 2], "compare": [4, 6], "control": [0], "directions": 1}
    raw["kernel"] |= {"every": 2, "until": 6, "references": [0], "intervals": [2, 4]}
    if name not in ("tokens", "vectors"):
        del raw["kernel"]["examples_per_class"]
        raw["kernel"]["examples"] = 5
    raw["linearized"] = {"switches": [0, 4]}
    raw["curvature"] |= {"every": 3, "examples": 20}
    raw["growth"] = {"forks": [2], "steps": 2, "examples": 10}
    change(raw)
    path = write_study(raw)
    for file, text in (("data", FUNCTIONS), ("networks", NETWORKS), ("task", OWN)):
        (path.parent / f"mine_{file}.py").write_text(text)
    (folder / "mine.txt").write_text(TEXT)
    return studyfile.load(path)
