"""Passes over a window of neurons in C, compiled at first use where there is a compiler.

A step of a window is a handful of operations on a number that is in a register; as tensor operations each of them goes
to memory and back, and waits for all cores. :mod:`lmht.model.fused` uses these passes for float32 and bfloat16 on a
CPU, and tensor operations wherever :func:`library` is None. ``LMHT_NATIVE=0`` in the environment switches them off.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

__all__ = ["MAX_STEPS", "Window", "library", "over_neurons", "pointer", "share_count"]

MAX_STEPS = 16
"""Longest window that the passes take."""

# Neurons of one share of the work. Shares do not depend on the number of threads, and so neither do the sums.
_SHARE = 65536
_SOURCE = Path(__file__).with_name("window.c")
# No contraction: m = λ v + J is two roundings, as in the plain loop.
_FLAGS = (
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
)


class Window(ctypes.Structure):
    """``Window`` of the C source: the neurons' constants, and how many steps and neurons there are."""

    _fields_ = [
        *((name, ctypes.c_float) for name in ("leak", "theta", "levels", "initial", "low", "high")),
        ("steps", ctypes.c_ssize_t),
        ("neurons", ctypes.c_ssize_t),
    ]


@functools.cache
def library() -> Any:
    """The compiled passes, a ``ctypes.CDLL``; None without a compiler, or with ``LMHT_NATIVE=0``."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None or os.environ.get("LMHT_NATIVE") == "0":
        return None
    with tempfile.TemporaryDirectory(prefix="lmht-native-", ignore_cleanup_errors=True) as folder:
        target = Path(folder, "window.so")
        command = [compiler, *_FLAGS, "-shared", "-fPIC", str(_SOURCE), "-o", str(target), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            loaded = ctypes.CDLL(str(target))
        except (OSError, subprocess.SubprocessError):
            return None
    numbers: list[Any] = [ctypes.POINTER(Window), ctypes.c_ssize_t, ctypes.c_ssize_t]
    for name, tensors in (("forward", 3), ("backward", 8), ("forward_bfloat16", 4), ("backward_bfloat16", 7)):
        function = getattr(loaded, name)
        function.argtypes, function.restype = numbers + [ctypes.c_void_p] * tensors, None
    return loaded


def over_neurons(neurons: int, work: Callable[[int, int, int], None]) -> None:
    """Call ``work(share, from, to)`` for all shares of the neurons, on as many threads as PyTorch has."""
    starts = range(0, neurons, _SHARE)

    def one(share: int) -> None:
        work(share, starts[share], min(starts[share] + _SHARE, neurons))

    threads = min(torch.get_num_threads(), len(starts))
    if threads <= 1:
        for share in range(len(starts)):
            one(share)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(len(starts))))


def share_count(neurons: int) -> int:
    """How many shares :func:`over_neurons` makes."""
    return -(-neurons // _SHARE)


def pointer(tensor: torch.Tensor | None) -> int | None:
    """Address of a tensor's values; None is C's NULL."""
    return None if tensor is None else tensor.data_ptr()
