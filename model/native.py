"""Passes over a window of neurons in C++, compiled at their first use where there is a compiler and kept in the cache.

A step of a window is a handful of operations on a number that is in a register; as tensor operations each of them goes
to memory and back, and waits for all cores. :mod:`lmht.model.fused` uses these passes for float32 and bfloat16 on a
CPU, and tensor operations wherever :func:`library` is None. ``LMHT_NATIVE=0`` in the environment switches them off.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from .build_cache import build_key, cached_build
from .compiler import compiler_command, compiler_identity
from .environment import own_environment

__all__ = ["MAX_STEPS", "Window", "has_library", "library", "pointer", "share_count"]

MAX_STEPS = 8
"""Longest window that the passes take."""

# Neurons of one share of the work: enough to be worth a thread, few enough for small layers to have several.
_SHARE = 32768
_LIBRARY = "window.so"
_SOURCE = Path(__file__).with_name("window.cpp")
# Vectors are written out in the source; -O3 finds no more of them, and its code took a fifth longer.
_FLAGS = ("-O2", "-march=native", "-fno-math-errno", "-fno-trapping-math", f"-DSHARE={_SHARE}")
# The OpenMP library is known by its name, so that it is the one that PyTorch has loaded: its threads are awake after a
# tensor operation, while others would have to wait for a core that they keep busy.
_PARALLEL = "-fopenmp"


class Window(ctypes.Structure):
    """``Window`` of the C++ source: the neurons' constants, and how their numbers lie in memory."""

    _fields_ = [
        *((name, ctypes.c_float) for name in ("leak", "theta", "levels", "initial", "low", "high")),
        *((name, ctypes.c_int) for name in ("threads", "detaches")),
        *((name, ctypes.c_ssize_t) for name in ("neurons", "current_apart", "upstream_apart")),
        ("omega", ctypes.c_void_p),
    ]


def has_library() -> bool:
    """Whether there is a compiler that makes the passes."""
    return library(2, torch.float32) is not None


@functools.cache
def library(steps: int, dtype: torch.dtype) -> Any:
    """The compiled passes for windows of ``steps``, a ``ctypes.CDLL``.

    None without a compiler, with ``LMHT_NATIVE=0``, for other types than float32 and bfloat16 and for more than
    :data:`MAX_STEPS` steps.
    """
    known = dtype in (torch.float32, torch.bfloat16) and 1 <= steps <= MAX_STEPS
    if os.environ.get("LMHT_NATIVE") == "0" or not known:
        return None
    try:
        compiler = compiler_command()
    except FileNotFoundError:
        return None
    kind = ["-DBFLOAT16"] if dtype == torch.bfloat16 else []
    flags = [*_FLAGS, f"-DSTEPS={steps}", *kind, "-shared", "-fPIC"]
    loaded = _load(compiler, [*flags, _PARALLEL]) or _load(compiler, flags)
    if loaded is None:
        return None
    for name, tensors in (("forward", 3), ("backward", 4), ("backward_marks", 3)):
        function = getattr(loaded, name)
        function.argtypes = [ctypes.POINTER(Window), *[ctypes.c_void_p] * tensors]
        function.restype = None
    return loaded


def _load(compiler: tuple[str, ...], flags: list[str]) -> Any:
    """The library built with these flags, from the cache if it is there."""

    def build(folder: Path) -> None:
        command = [*compiler, *flags, str(_SOURCE), "-o", str(folder / _LIBRARY)]
        subprocess.run(command, env=own_environment(), check=True, capture_output=True, timeout=60)

    try:
        # `-march=native` on another processor is another build.
        version = f"{compiler_identity(compiler)} {_processor()}"
        return ctypes.CDLL(
            str(cached_build("native", build_key([_SOURCE], flags, version), build) / _LIBRARY)
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    """What tells the processor's instructions, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line for line in lines if line.lower().startswith(("flags", "features"))), platform.machine()
    )


def share_count(neurons: int) -> int:
    """How many shares the passes make of so many neurons; their sums do not depend on the number of threads."""
    return -(-neurons // _SHARE)


def pointer(tensor: torch.Tensor | None) -> int | None:
    """Address of a tensor's values; None is C's null."""
    return None if tensor is None else tensor.data_ptr()
