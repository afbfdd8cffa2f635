"""Time and memory of the tangent kernel beside torch.func's.

`make bench`, or `python benchmarks/kernels.py --threads 2`. The reference is the Jacobian from
torch.func (`vmap(jacrev)`) and one matrix product per parameter: n C P numbers at once. Each
measurement runs in a process of its own: seconds are the best warm call, peak GB the process's
largest resident memory, which includes some 0.5 GB for PyTorch itself. The share of the machine's
matrix product counts the engine's own multiply-adds, each at the speed that `torch.mm` reaches on
2048 x 2048 matrices. Points that would need more memory than there is, or some three minutes a
call, are skipped for the reference.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch.func import functional_call, jacrev, vmap
from torch.utils.flop_counter import FlopCounterMode

from twophase.entk import entk
from twophase.networks.resnet import resnet20
from twophase.networks.vgg import vgg16

NETWORKS = {"resnet20": resnet20, "vgg16": vgg16}
POINTS = {"resnet20": (16, 64, 128), "vgg16": (16, 32, 64, 256)}
PATIENCE = 180  # seconds for one call of the reference
REPEAT_WITHIN = 15  # seconds: calls are repeated, at most five times, while they take less


def initialised(network):
    """A network with random parameters, always the same."""
    torch.manual_seed(0)
    return NETWORKS[network]()


def by_torch_func(model, inputs):
    """The kernel as a product of Jacobians, one for each parameter."""
    model.eval()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def logits(values, x):
        return functional_call(model, values, (x[None],))[0]

    jacobian = vmap(jacrev(logits), in_dims=(None, 0))(parameters, inputs)
    size = len(inputs) * model(inputs[:1]).shape[1]
    kernel = torch.zeros(size, size)
    for derivative in jacobian.values():
        rows = derivative.flatten(2).flatten(0, 1)
        kernel = kernel.to(rows).addmm_(rows, rows.T)
    return kernel


METHODS = {"torch.func": by_torch_func, "engine": partial(entk, check=False)}


def product_flop(total, left, right, out_shape=None, **_):
    """Floating-point operations of total + left @ right, from the shapes."""
    return 2 * left[0] * left[1] * right[1]


def timed(call, most, within, clock=time.perf_counter):
    """Seconds of the best of at most so many calls, and the process's peak GB."""
    times = []
    while len(times) < most and sum(times) < within:
        start = clock()
        call()
        times.append(clock() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": min(times), "peak": peak}


def measure(method, network, n):
    """Seconds of the best warm call, peak GB, and counted GFLOP of one call."""
    model = initialised(network)
    inputs = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    kernel = METHODS[method]
    kernel(model, inputs[:2])
    result = timed(partial(kernel, model, inputs), 5, REPEAT_WITHIN)
    if method == "engine":
        # The in-place form is not counted by default.
        in_place = {torch.ops.aten.addmm_: product_flop}
        with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            kernel(model, inputs)
        result["gflop"] = counter.get_total_flops() / 1e9
    return result


def difference(network, n=4):
    """Relative Frobenius distance of the two kernels in float64."""
    model = initialised(network).double()
    inputs = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    expected = by_torch_func(model, inputs)
    return float((entk(model, inputs) - expected).norm() / expected.norm())


def product_speed():
    """GFLOP/s of torch.mm."""
    x = torch.randn(2048, 2048)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(x, x)
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times) / 1e9


def in_a_process(threads, *arguments):
    """The result of this script with `arguments`, in a new process."""
    command = [sys.executable, __file__, "--threads", str(threads), "--one", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def available():
    """GB of memory that are free."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if "MemAvailable" in line)


def too_much(network, n, known):
    """Why the reference is skipped at this point, or an empty string."""
    parameters = sum(p.numel() for p in initialised(network).parameters())
    needed = n * 10 * parameters * 4 / 1e9
    if 1.3 * needed > available():  # the Jacobian, and what is alive beside it
        return f"needs {1.3 * needed:.0f} GB"
    if known and known[-1][1] * (n / known[-1][0]) ** 2 > PATIENCE:
        return f"some {known[-1][1] * (n / known[-1][0]) ** 2:.0f} s"
    return ""


def table(threads):
    """Measure and print everything."""
    speed = in_a_process(threads, "speed")
    print(f"float32, 10 classes, {threads} thread(s), torch {torch.__version__}; ", end="")
    print(f"torch.mm {speed:.0f} GFLOP/s\n")
    print("| network | n | torch.func s | GB | engine s | GB | time ratio | memory ratio | of mm |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for network, sizes in POINTS.items():
        known = []
        for n in sizes:
            engine = in_a_process(threads, "engine", network, n)
            share = engine["gflop"] / engine["seconds"] / speed
            ours = f"{engine['seconds']:.2f} | {engine['peak']:.2f}"
            skipped = too_much(network, n, known)
            if skipped:
                theirs, ratios = f"skipped: {skipped} | –", "– | –"
            else:
                other = in_a_process(threads, "torch.func", network, n)
                known.append((n, other["seconds"]))
                theirs = f"{other['seconds']:.2f} | {other['peak']:.2f}"
                ratios = f"{other['seconds'] / engine['seconds']:.1f} × faster | "
                ratios += f"{engine['peak'] / other['peak']:.2f}"
            print(f"| {network} | {n} | {theirs} | {ours} | {ratios} | {share:.0%} |", flush=True)
    for network in POINTS:
        error = in_a_process(threads, "difference", network)
        print(f"\n{network}: relative difference in float64, n = 4: {error:.1e}", flush=True)


def main():
    """Print the table, or as `--one ...` a single measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.one:
        table(options.threads)
        return
    what, *rest = options.one
    if what in METHODS:
        print(json.dumps(measure(what, rest[0], int(rest[1]))))
    else:
        print(json.dumps({"speed": product_speed, "difference": difference}[what](*rest)))


if __name__ == "__main__":
    main()
