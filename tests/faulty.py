"""Networks that a stage would fail with, and what is said of them."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from test_odd_networks import Plain
from torch import nn
from torch.utils.checkpoint import checkpoint


class Net(Plain):
    """Plain, with something between its layers in training and in evaluation."""

    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.between = self.part()

    def part(self):
        return nn.Identity()

    def forward(self, x):
        return self.h(self.between(F.relu(self.a(x))).mean((2, 3)))


class NoStatistics(Net):
    def part(self):
        return nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8, track_running_stats=False))


class OwnNorm(Net):
    """As batch norm of the batch at hand, by hand."""

    def part(self):
        class Standard(nn.Module):
            def forward(self, x):
                return (x - x.mean((0, 2, 3), keepdim=True)) / (x.std() + 1)

        return Standard()


class DropoutForEver(Net):
    def forward(self, x):
        return self.h(F.dropout(self.between(F.relu(self.a(x))).mean((2, 3)), 0.1))


class DropoutOfItsOwn(Net):
    """From a generator that nobody else knows."""

    def part(self):
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.draw = np.random.default_rng(0).random

            def forward(self, x):
                return x * self.draw() if self.training else x

        return Own()


class NumpyNoise(Net):
    """Only in evaluation, as with random crops of test images."""

    def part(self):
        class Shift(nn.Module):
            def forward(self, x):
                return x if self.training else x + float(np.random.rand())

        return Shift()


class Counter(Net):
    """What a non-deterministic operation looks like: each call rounds otherwise."""

    def part(self):
        class Uneven(nn.Module):
            calls = 0

            def forward(self, x):
                Uneven.calls += 1
                return x * (1 + 1e-7 * Uneven.calls)

        return Uneven()


class Attribute(Net):
    """A running mean that is no buffer, so no state holds it."""

    def part(self):
        class Running(nn.Module):
            mean = 0.0

            def forward(self, x):
                if self.training:
                    self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()
                return x - self.mean

        return Running()


class UnevenBackward(Net):
    def part(self):
        class Uneven(torch.autograd.Function):
            calls = 0

            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, g):
                Uneven.calls += 1
                return g * (1 + 1e-7 * Uneven.calls)

        class Layer(nn.Module):
            def forward(self, x):
                return Uneven.apply(x)

        return Layer()


class Cache(Net):
    """Evaluates with the weights that it saw first."""

    def part(self):
        class Scale(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale, self.kept = nn.Parameter(torch.ones(1)), None

            def forward(self, x):
                if self.training:
                    return x * self.scale
                if self.kept is None:
                    self.kept = self.scale.detach().clone()
                return x * self.kept

        return Scale()


class StartsAnywhere(Net):
    def part(self):
        norm = nn.GroupNorm(2, 8)
        nn.init.constant_(norm.bias, float(np.random.default_rng().normal()))
        return norm


class MoreOutputs(Net):
    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.h = nn.Linear(8, classes + 3)


class OnePerPixel(Net):
    def forward(self, x):
        return self.h(F.relu(self.a(x)).permute(0, 2, 3, 1))


class Dictionary(Net):
    def forward(self, x):
        return {"logits": super().forward(x)}


class LogOfZero(Net):
    def part(self):
        class Log(nn.Module):
            def forward(self, x):
                return x.log() * 0

        return nn.Sequential(nn.ReLU(), Log())


class RootOfZero(Net):
    """Finite; but the root's derivative at zero is not."""

    def forward(self, x):
        return self.h(F.relu(self.a(x)).amin((2, 3)).mul(0).sqrt())


class InPlace(Net):
    """Changes what the derivative of the exponential function needs."""

    def part(self):
        class Exp(nn.Module):
            def forward(self, x):
                y = x.exp()
                y += 1
                return y

        return Exp()


class Once(torch.autograd.Function):
    """Twice x, whose derivative has none, as with kernels written by hand."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g


class DifferentiableOnce(Net):
    def part(self):
        class Twice(nn.Module):
            def forward(self, x):
                return Once.apply(x)

        return Twice()


class OwnPrecision(Net):
    """Calculates with a tensor that no `.double()` reaches."""

    def part(self):
        class Fixed(nn.Module):
            weight = torch.ones(8, 8)

            def forward(self, x):
                return F.conv2d(x, self.weight[:, :, None, None])

        return Fixed()


class FixedBatch(Net):
    def forward(self, x):
        return super().forward(x).view(16, -1)


class Auxiliary(Net):
    """Gives more in training, as Inception does."""

    def forward(self, x):
        out = super().forward(x)
        return (out, out) if self.training else out


class RandomDepth(Net):
    """Leaves out a layer, now and then."""

    def forward(self, x):
        x = F.relu(self.a(x))
        if random.random() < 0.5:
            x = self.between(x)
        return self.h(x.mean((2, 3)))

    def part(self):
        return nn.Conv2d(8, 8, 1)


class NoSuchLayer(Net):
    def part(self):
        return nn.Conv2d(8, 8, 3, groups=3)


class TwoByTwo(Net):
    """Divides by the spread of one image's pixels after pooling, of which there is one."""

    def part(self):
        class Whiten(nn.Module):
            def forward(self, x):
                x = F.adaptive_avg_pool2d(x, 1)
                return x / x.std((2, 3), keepdim=True)

        return Whiten()


class Overflow(Net):
    """Infinite in training, where no mask makes it finite."""

    def part(self):
        class Power(nn.Module):
            def forward(self, x):
                return (100 * x.abs()).exp() if self.training else x

        return Power()


class Detached(Net):
    def forward(self, x):
        return super().forward(x).detach()


class Reentrant(Net):
    """Whose parameters no gradient reaches."""

    def forward(self, x):
        return checkpoint(super().forward, x.clone().requires_grad_(), use_reentrant=True)


class Complex(Net):
    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.w = nn.Parameter(torch.ones(8, classes, dtype=torch.complex64))

    def forward(self, x):
        return (F.relu(self.a(x)).mean((2, 3)) * (1 + 0j) @ self.w).abs()


class Lazy(Net):
    def part(self):
        return nn.LazyConv2d(8, 1)


class AllFrozen(Net):
    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.requires_grad_(False)


class SparseBuffer(Net):
    def part(self):
        layer = nn.Identity()
        layer.register_buffer("mixing", torch.eye(8).to_sparse())
        return layer


class EightBits(Net):
    def part(self):
        layer = nn.Identity()
        layer.register_buffer("scale", torch.ones(8).to(torch.float8_e4m3fn))
        return layer


class Compiled(Net):
    def part(self):
        return torch.jit.script(nn.Conv2d(8, 8, 1))


class ChangesImages(Net):
    def forward(self, x):
        return super().forward(x.mul_(0.5))


class Unfollowed(Net):
    """Its logits are no function of an example alone, by so little that only the kernel tells."""

    def forward(self, x):
        out = super().forward(x)
        return out if self.training else out * (1 + 1e-2 * (len(out) % 2))


FAULTS = {
    Auxiliary: ("base", "Auxiliary itself", "a tuple in training; return only the logits"),
    RandomDepth: ("base", "RandomDepth itself", r"\(random\) in training.*torch's generator"),
    NoSuchLayer: ("base", "NoSuchLayer itself", "must be divisible by groups; mend the network"),
    TwoByTwo: ("base", "layer between (Whiten)", "NaN.*divisions"),
    Overflow: ("base", "layer between (Power)", "infinity.*overflow"),
    Detached: ("base", "layer unknown", "does not require grad"),
    NoStatistics: ("kernel", "layer between.1 (BatchNorm2d)", "running statistics"),
    OwnNorm: ("kernel", "layer between (Standard)", "the others of its batch"),
    DropoutForEver: ("base", "DropoutForEver itself", r"\(torch\) in eval mode.*only in training"),
    DropoutOfItsOwn: ("base", "layer between (Own)", "not deterministic"),
    NumpyNoise: ("base", "layer between (Shift)", r"random numbers \(numpy\)"),
    Counter: ("base", "layer between (Uneven)", "not deterministic"),
    Attribute: ("base", "layer between (Running)", "register_buffer"),
    UnevenBackward: ("base", "a.bias", "not deterministic"),
    Cache: ("base", "layer between (Scale)", "register_buffer"),
    StartsAnywhere: ("base", "between.bias", "draw them from torch's generator"),
    MoreOutputs: ("base", "layer h (Linear)", r"\(16, 13\), not \(16, 10\)"),
    OnePerPixel: ("base", "layer h (Linear)", r"\(16, 8, 8, 10\)"),
    Dictionary: ("base", "Dictionary itself", "a dict; return only the logits"),
    LogOfZero: ("base", "layer between.1 (Log)", "gives NaN.*logarithms"),
    RootOfZero: ("base", "layer a (Conv2d)", "gradient of bias is not finite.*root"),
    InPlace: ("base", "layer between (Exp)", "modified by an inplace operation"),
    DifferentiableOnce: (
        "curvature",
        "layer between (Twice)",
        "once_differentiable.*`curvature: false`",
    ),
    OwnPrecision: ("growth", "layer between (Fixed)", "`growth: false`"),
    Reentrant: ("base", "Reentrant itself", "changes no parameter.*use_reentrant"),
    Complex: ("base", "Complex itself", "w is a complex parameter; keep real and imaginary"),
    Lazy: ("base", "layer between (LazyConv2d)", "weight has no size yet"),
    AllFrozen: ("base", "AllFrozen itself", "no parameter requires gradients"),
    SparseBuffer: ("base", "layer between (Identity)", "mixing is sparse.*to_dense"),
    EightBits: ("base", "layer between (Identity)", "scale is torch.float8_e4m3fn.*16 bits"),
    Compiled: ("base", "RecursiveScriptModule itself", "not supported on ScriptModules"),
    ChangesImages: ("base", "ChangesImages itself", "changes its images in place"),
    Unfollowed: ("kernel", "Unfollowed itself", "depend on how many.*`kernel: false`"),
    FixedBatch: ("kernel", "FixedBatch itself", "shape.*`kernel: false`"),
}
