"""Building the harness: Verilator and g++ once per content."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lmht.rtl.parameters import DesignParameters
from lmht.sim.cache import build_key, cached_build, cached_folder
from lmht.sim.harness_source import harness_sources, readable_nets
from lmht.sim.runner import LINT_WAIVERS
from lmht.sim.taps import Tap
from lmht.sim.toolchain import ToolchainError, toolchain_environment, verilator_version

__all__ = ["build_harness", "waveform_format"]

# Verilator may choose any value where the Verilog says x: the design never reads one that matters (every register has a
# reset value and memories are loaded first), and choosing freely is faster.
_VERILATOR_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--no-timing")
# All of a model is compiled as one file: its headers take longer than most designs, and -O3 gains nothing over -O2.
# OPT_FAST is for the model and the harness, OPT_GLOBAL for Verilator's own library.
_OPTIMIZED, _QUICKLY_BUILT, _LIBRARY = "OPT_FAST=-O2", "OPT_FAST=-O0", "OPT_GLOBAL=-O1"


def waveform_format() -> str:
    """``fst`` where its headers are installed, else ``vcd``."""
    headers = all(
        any((Path(root) / name).exists() for root in ("/usr/include", "/usr/local/include"))
        for name in ("lz4.h", "zlib.h")
    )
    return "fst" if headers else "vcd"


def build_harness(
    parameters: DesignParameters,
    verilog_files: Sequence[Path],
    taps: Sequence[Tap],
    *,
    trace: str | None = None,
    optimize: bool = True,
) -> Path:
    """Path of the executable, from the cache if the same was built before.

    Parameters
    ----------
    parameters : DesignParameters
    verilog_files : sequence of Path
    taps : sequence of Tap
        Streams whose nets are made readable.
    trace : {"vcd", "fst"}, optional
        Waveform format to build for.
    optimize : bool
        False for a build in less time.

    Raises
    ------
    ToolchainError
        If a tool is missing or the sources do not build.
    """
    sources = harness_sources(parameters, taps, trace=trace)
    verilog = [path.read_bytes() for path in verilog_files]
    config = readable_nets(parameters, taps)
    flags = [
        *_VERILATOR_FLAGS,
        *(f"-Wno-{name}" for name in LINT_WAIVERS),
        *([f"--trace-{trace}"] if trace else []),
    ]
    if trace:
        flags += ["-CFLAGS", "-DWAVEFORM"]
    version = verilator_version()
    # The library is the same for both, so its objects are shared.
    runtime_key = build_key([], [*flags, _LIBRARY], version)
    for flag in (_OPTIMIZED if optimize else _QUICKLY_BUILT, _LIBRARY, "VM_PARALLEL_BUILDS=0"):
        flags += ["-MAKEFLAGS", flag]
    runtime = cached_folder("harness-runtime", runtime_key)

    def build(folder: Path) -> None:
        for name, content in sources.items():
            (folder / name).write_bytes(content)
        (folder / "taps.vlt").write_bytes(config)
        inputs = ["taps.vlt"]
        for index, content in enumerate(verilog):
            (folder / f"source{index}.v").write_bytes(content)
            inputs.append(f"source{index}.v")
        objects = folder / "objects"
        objects.mkdir()
        # Verilator's own library takes most of a build; its objects serve every design built with these flags.
        # Its makefile, written anew, must not look younger than they.
        later = time.time() + 3600
        for path in runtime.glob("verilated*"):
            os.utime(shutil.copy(path, objects), (later, later))
        command = [
            "verilator",
            "--cc",
            "--exe",
            "--build",
            "-j",
            "2",
            *flags,
            "--top-module",
            parameters.name,
        ]
        # The wheel's makefile names the Python that it was built with.
        command += ["-MAKEFLAGS", f"PYTHON3={sys.executable}"]
        command += ["--Mdir", "objects", "-o", "harness", "-CFLAGS", "-I..", *inputs, "harness.cpp"]
        result = subprocess.run(
            command, cwd=folder, env=toolchain_environment(), capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise ToolchainError(f"the harness of {parameters.name} does not build: {_first_error(result)}")
        if not runtime.is_dir():
            cached_build("harness-runtime", runtime_key, lambda kept: _keep_runtime(objects, kept))
        (objects / "harness").rename(folder / "harness")
        shutil.rmtree(objects)

    key = build_key([*sources.values(), *verilog, config], [parameters.name, *flags], version)
    return cached_build("harness", key, build) / "harness"


def _keep_runtime(objects: Path, folder: Path) -> None:
    for path in (*objects.glob("verilated*.o"), *objects.glob("verilated*.d")):
        shutil.copy(path, folder)


def _first_error(result: subprocess.CompletedProcess[str]) -> str:
    lines = (result.stderr + result.stdout).splitlines()
    for marks in (("%Error:", "%Error-", " error:"), ("%Warning",)):
        for line in lines:
            if any(mark in line for mark in marks) and "Exiting due to" not in line:
                return line
    return lines[-1] if lines else f"status {result.returncode}"
