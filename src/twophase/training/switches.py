"""Switches of all of PyTorch that code of the user's own may turn: they are the study's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.backends import cuda, cudnn, mha, mkldnn


class Switch(NamedTuple):
    """How a switch is read and turned; `with_value` is how a person would write that."""

    read: Callable[[], Any]
    turn: Callable[[Any], object]
    with_value: str


def _of(owner: Any, name: str, written: str) -> Switch:
    """A switch that is an attribute."""
    return Switch(
        lambda: getattr(owner, name), lambda value: setattr(owner, name, value), f"{written} = {{}}"
    )


def _flushes() -> bool:
    """Whether the smallest numbers become 0; PyTorch has no word for it."""
    return not torch.tensor(1e-310, dtype=torch.float64, device="cpu").mul(1.0).item()


def _default_device(device: torch.device) -> None:
    torch.set_default_device(None if device == torch.device("cpu") else device)


SWITCHES = (
    Switch(torch.get_num_threads, torch.set_num_threads, "torch.set_num_threads({})"),
    Switch(
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
        "torch.set_deterministic_debug_mode({})",
    ),
    Switch(torch.is_grad_enabled, torch.set_grad_enabled, "torch.set_grad_enabled({})"),
    Switch(torch.get_default_dtype, torch.set_default_dtype, "torch.set_default_dtype({})"),
    Switch(torch.get_default_device, _default_device, "torch.set_default_device({})"),
    Switch(_flushes, torch.set_flush_denormal, "torch.set_flush_denormal({})"),
    Switch(
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
        "torch.set_autocast_enabled('cpu', {})",
    ),
    Switch(
        lambda: torch.is_autocast_enabled("cuda"),
        lambda on: torch.set_autocast_enabled("cuda", on),
        "torch.set_autocast_enabled('cuda', {})",
    ),
    Switch(
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
        "torch.set_float32_matmul_precision({!r})",
    ),
    _of(
        torch.utils.deterministic,
        "fill_uninitialized_memory",
        "torch.utils.deterministic.fill_uninitialized_memory",
    ),
    *(
        _of(cudnn, name, f"torch.backends.cudnn.{name}")
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    ),
    *(_of(mkldnn, name, f"torch.backends.mkldnn.{name}") for name in ("enabled", "deterministic")),
    *(
        _of(cuda.matmul, name, f"torch.backends.cuda.matmul.{name}")
        for name in (
            "allow_tf32",
            "allow_fp16_reduced_precision_reduction",
            "allow_bf16_reduced_precision_reduction",
        )
    ),
    *(
        Switch(
            getattr(cuda, f"{name}_sdp_enabled"),
            getattr(cuda, f"enable_{name}_sdp"),
            f"torch.backends.cuda.enable_{name}_sdp({{}})",
        )
        for name in ("flash", "mem_efficient", "math", "cudnn")
    ),
    Switch(
        mha.get_fastpath_enabled,
        mha.set_fastpath_enabled,
        "torch.backends.mha.set_fastpath_enabled({})",
    ),
)


def read() -> list[Any]:
    """How all switches stand."""
    return [switch.read() for switch in SWITCHES]


def set_back(before: list[Any]) -> list[str]:
    """Turn all switches to where they stood; returns, as Python, what had been done to them."""
    turned = []
    for switch, value in zip(SWITCHES, before, strict=True):
        if (now := switch.read()) != value:
            turned.append(switch.with_value.format(now))
            switch.turn(value)
    return turned


@contextmanager
def kept(who: str) -> Iterator[None]:
    """What the code within the block turns is set back after it, and said to be of `who`."""
    before = read()
    try:
        yield
    finally:
        if turned := set_back(before):
            print(
                f"{who}: sets {', '.join(turned)}; set back, for it is the study that says how "
                "numbers are computed (`compute`)",
                file=sys.stderr,
            )
