"""The first minutes on a GPU: does it keep the bits, agree with the CPU, and how fast is it?

    python benchmarks/gpu.py --output gpu.json      # some three minutes

In this order, each with its result or its error in the file:

- smoke: every stage of the study `smoke`, on CUDA, twice; the bytes of the results are compared;
- float64: losses of 20 steps on CPU and CUDA, in float64;
- bits: weights after 20 steps, twice as a CUDA graph and once without; with dropout too;
- steps: seconds a step of ResNet-20 and VGG-16: as a graph and without, float32 and tf32, channels
  last and not; and of keeping a state;
- kernels: seconds of the tangent kernel beside `torch.func`'s, and their difference in float64.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
import torch.nn.functional as F
from kernels import by_torch_func
from training import random_data

from twophase.entk import entk
from twophase.store.artifacts import sha256
from twophase.store.paths import Result
from twophase.study import studyfile
from twophase.study.compute import Compute
from twophase.study.run import Run
from twophase.study.stages import STAGES, runs_of
from twophase.training import loop
from twophase.training.batches import Data, Split, batch
from twophase.training.loop import State, advance, initial_state, optimizer_step, save_state
from twophase.training.machine import prepare
from twophase.training.noise import network_noise
from twophase.training.tensors import bits

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "workflow/config"
NETWORKS = {"ResNet-20": "resnet", "VGG-16": "vgg"}  # models of the study cifar10


def on(device: str, data: Data) -> Data:
    """The same data on another device."""
    splits = [Split(s.images.to(device), s.labels.to(device)) for s in (data.train, data.test)]
    return Data(*splits, data.classes, data.mean.to(device), data.std.to(device))


def of_study(model: str, **network) -> Run:
    """A run of the study cifar10, its network with other options."""
    study = studyfile.load(CONFIG / "cifar10.yaml")
    changed = study.models[model].network.model_copy(update=network)
    models = {model: study.models[model].model_copy(update={"network": changed})}
    return Run(study.model_copy(update={"models": models}), model, 0)


def weights(state: State) -> torch.Tensor:
    return torch.cat([bits(tensor) for tensor in state.tensors().values()])


def advance_plainly(state: State, run: Run, data: Data, stop: int) -> None:
    """As `advance`, one kernel launched after the other."""
    captured, loop.captured = loop.captured, lambda function, *_: function
    try:
        advance(state, run, data, stop)
    finally:
        loop.captured = captured


# ------------------------------------------------------------------------------------------ smoke


def smoke() -> dict:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        return twice([Path(one), Path(other)])


def twice(folders: list[Path]) -> dict:
    """The study in each of two folders: how many files it makes, and which of them differ."""
    for folder in folders:
        shutil.copytree(CONFIG, folder / "workflow/config")
        file = folder / "workflow/config/smoke.yaml"
        file.write_text(file.read_text().replace("device: cpu", "device: cuda"))
    study = studyfile.load(folders[0] / "workflow/config/smoke.yaml")
    errors: dict[str, str] = {}
    together(folders, [["data"]], errors)
    together(folders, [["check"]], errors)
    together(folders, [["run", "--model", m, "--seed", "0"] for m in study.models], errors)
    if errors:  # see how far each stage comes by itself
        for stage, row in STAGES.items():
            if row.scope == "run":
                models = {run.name for run in runs_of(study, stage)}
                jobs = [[stage, "--model", model, "--seed", "0"] for model in models]
                together(folders[:1], jobs, errors)
    found = [digests(folder / "results") for folder in folders]
    differ = sorted(name for name in found[0] if found[0][name] != found[1].get(name))
    return {"files": len(found[0]), "differ": differ, "errors": errors}


def together(folders: list[Path], jobs: list[list[str]], errors: dict[str, str]) -> None:
    """Run commands at the same time, and keep the last lines of those that fail."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}"}
    running = {
        (folder, " ".join(job)): subprocess.Popen(
            [sys.executable, "-m", "twophase", job[0], "workflow/config/smoke.yaml", *job[1:]],
            cwd=folder,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for folder in folders
        for job in jobs
    }
    for (_, name), process in running.items():
        message = process.communicate()[1]
        if process.returncode:
            errors[name] = message[-1500:]


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path) for path in files}


# ---------------------------------------------------------------------------------- float64, bits


def float64() -> dict:
    """Relative differences of the losses after some of 20 steps: training amplifies rounding."""
    result = {}
    for name, run in {
        "ResNet-20": of_study("resnet"),
        "VGG-16 of width 0.25": of_study("vgg", width=0.25),
    }.items():
        losses = []
        for device in ("cpu", "cuda"):
            data = on(device, random_data())
            state = initial_state(run.model, data, 0)
            state.model.double()
            parameters = list(state.model.parameters())
            momentum = {"momentum": [torch.zeros_like(p) for p in parameters]}
            state.model.train()
            options, augmentation = run.model.training, run.study.data.augmentation
            found = []
            for step in range(20):
                images, labels = batch(data, augmentation, 0, step, options.batch_size)
                with network_noise(0, step, images.device):
                    loss = F.cross_entropy(state.model(images.double()), labels)
                    gradients = torch.autograd.grad(loss, parameters)
                optimizer_step(parameters, gradients, momentum, options, step)
                found.append(float(loss.detach()))
            losses.append(found)
        differences = [abs(a - b) / abs(a) for a, b in zip(*losses, strict=True)]
        result[name] = {f"step {step + 1}": differences[step] for step in (0, 4, 9, 19)}
    return result


def same_bits() -> dict:
    data = on("cuda", random_data())
    result = {}
    for name, run in {
        "ResNet-20": of_study("resnet"),
        "VGG-16": of_study("vgg"),
        "VGG-16, wide head, dropout": of_study("vgg", wide_head=True, dropout=0.5),
    }.items():
        found = []
        for train in (advance, advance, advance_plainly):
            state = initial_state(run.model, data, 0)
            train(state, run, data, 10)  # two graphs
            train(state, run, data, 20)
            found.append(weights(state))
        result[name] = {
            "graph twice": bool(torch.equal(found[0], found[1])),
            "graph and plain": bool(torch.equal(found[0], found[2])),
        }
    return result


# ----------------------------------------------------------------------------------- steps, kernels


def seconds_of(function, count: int) -> float:
    """Seconds of one of `count` calls, after a call that warms up."""
    function()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        function()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


def steps() -> dict:
    data = on("cuda", random_data())
    result: dict = {}
    for name, model in NETWORKS.items():
        run = of_study(model)
        for precision in ("float32", "tf32"):
            prepare(Compute(device="cuda", threads=4, precision=precision))
            for layout in ("channels last", "plain"):
                state = initial_state(run.model, data, 0)
                if layout == "plain":
                    for tensor in state.model.parameters():
                        tensor.data = tensor.data.contiguous()
                    momentum = [torch.zeros_like(p) for p in state.model.parameters()]
                    state.optimizer["momentum"] = momentum
                for way, train in (("graph", advance), ("launches", advance_plainly)):
                    advance(state, run, data, state.step + 5)
                    short, long = [
                        statistics.median(of_advance(train, state, run, data, n) for _ in range(3))
                        for n in (20, 80)
                    ]
                    times = {"step": (long - short) / 60, "start": short - (long - short) / 3}
                    result[f"{name}, {precision}, {layout}, {way}"] = times
        prepare(Compute(device="cuda", threads=4, precision="float32"))
        with tempfile.TemporaryDirectory() as folder:
            file = Result(Path(folder) / "state.safetensors", {})
            result[f"{name}, keeping a state"] = seconds_of(lambda f=file, s=state: keep(f, s), 3)
    return result


def keep(file: Result, state: State) -> None:
    save_state(file, state)
    file.path.unlink()


def of_advance(train, state: State, run: Run, data: Data, count: int) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    train(state, run, data, state.step + count)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def kernels() -> dict:
    data = on("cuda", random_data())
    result: dict = {}
    for name, model in NETWORKS.items():
        network = initial_state(of_study(model).model, data, 0).model
        for count, reference in ((100, False), (16, True)):
            inputs = data.normalised(data.train.images[:count])
            times = {"engine": seconds_of(lambda n=network, x=inputs: entk(n, x), 2)}
            if reference:
                times["torch.func"] = seconds_of(lambda n=network, x=inputs: by_torch_func(n, x), 2)
            result[f"{name}, n = {count}"] = times
        torch.cuda.reset_peak_memory_stats()
        twice = [entk(network, inputs) for _ in range(2)]
        result[f"{name}, same bits"] = bool(torch.equal(*twice))
        network, inputs = network.double(), inputs[:4].double()
        ours, theirs = entk(network, inputs), by_torch_func(network, inputs)
        result[f"{name}, difference in float64"] = float((ours - theirs).norm() / theirs.norm())
        on_cpu = entk(network.cpu(), inputs.cpu())
        difference = float((ours.cpu() - on_cpu).norm() / on_cpu.norm())
        result[f"{name}, difference from the CPU's in float64"] = difference
    return result


SECTIONS = {
    "smoke": smoke,
    "float64": float64,
    "bits": same_bits,
    "steps": steps,
    "kernels": kernels,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--only", choices=list(SECTIONS), nargs="+", default=list(SECTIONS))
    arguments = parser.parse_args()
    prepare(Compute(device="cuda", threads=4, precision="float32"))
    report: dict = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    for name in arguments.only:
        started = time.perf_counter()
        try:
            result = SECTIONS[name]()
        except Exception:  # the others shall still be tried: a GPU may be there for minutes only
            result = {"error": traceback.format_exc()[-3000:]}
        report[name] = {"seconds": round(time.perf_counter() - started, 1), **result}
        print(name, json.dumps(report[name], indent=1), flush=True)
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
