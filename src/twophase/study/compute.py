"""Section `compute`: where and how numbers are computed."""

from __future__ import annotations

from typing import Literal

from twophase.study.records import Count, Record


class Compute(Record):
    """Where and how numbers are computed; part of what makes a result.

    `tf32` is how PyTorch computes convolutions on a GPU unless told otherwise; kernels are computed
    in float32 even so.
    """

    device: Literal["cpu", "cuda"]
    threads: Count
    precision: Literal["float32", "tf32"]

    def of_kernels(self) -> Compute:
        """The same, never in TF32: its 11 bits are too few for the kernel's check of itself."""
        return self.model_copy(update={"precision": "float32"})
