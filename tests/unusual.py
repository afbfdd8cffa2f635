"""Networks that are unusual and right."""

import torch
from faulty import DifferentiableOnce, Net, NoStatistics
from test_odd_networks import ODD
from torch import nn
from torch.nn.utils import prune


class Dropout(Net):
    def part(self):
        return nn.Dropout(0.2)


class DropoutByFunction(Net):
    def forward(self, x):
        x = self.between(nn.functional.relu(self.a(x))).mean((2, 3))
        return self.h(nn.functional.dropout(x, 0.1, self.training))


class StochasticDepth(Net):
    def part(self):
        class Skip(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(8, 8, 1)

            def forward(self, x):
                return x + self.conv(x) if not self.training or torch.rand(()) < 0.5 else x

        return Skip()


class Double(Net):
    """All in float64, with a buffer of its own kind."""

    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.register_buffer("on", torch.tensor([True, False, True]))
        self.double()

    def forward(self, x):
        return super().forward(x.double())


class Masked(Net):
    """Infinite on the way, and finite in the end."""

    def part(self):
        class Mask(nn.Module):
            def forward(self, x):
                return x.masked_fill(x < 0.1, -torch.inf)

        return nn.Sequential(Mask(), nn.Softmax(1))


class InPlaceAndRight(Net):
    def part(self):
        return nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(inplace=True))


class Constant(Net):
    """Whose logits are zero at first."""

    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        nn.init.zeros_(self.h.weight)


class Recurrent(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.rows, self.h = nn.GRU(8 * channels, 8, batch_first=True), nn.Linear(8, classes)

    def forward(self, x):
        return self.h(self.rows(x.flatten(1, 2))[0][:, -1])


class Spectral(Net):
    """With a weight that is computed, from buffers that each call in training changes."""

    def part(self):
        return nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 1))


class Pruned(Net):
    """With a mask, so that its weight is computed."""

    def part(self):
        return prune.random_unstructured(nn.Conv2d(8, 8, 1), "weight", 0.5)


class OldWeightNorm(Net):
    def part(self):
        return nn.utils.weight_norm(nn.Conv2d(8, 8, 1))


class Groups(Net):
    def part(self):
        return nn.GroupNorm(2, 8)


# Networks that are right, and the sections that they must do without.
GOOD = dict.fromkeys(ODD.values(), ("matching",)) | {
    ODD["Frozen"]: (),
    Dropout: (),
    DropoutByFunction: (),
    StochasticDepth: ("matching",),
    Double: ("growth", "matching"),  # it knows one precision
    Masked: ("matching",),
    InPlaceAndRight: (),
    Constant: (),
    Groups: (),
    Recurrent: ("matching",),
    Spectral: ("matching",),
    Pruned: ("matching",),
    OldWeightNorm: ("matching",),
    NoStatistics: ("kernel",),
    DifferentiableOnce: ("curvature", "linearized", "matching"),
}
