"""C++ programs around a Verilated model: built once per content, run as subprocesses that report their progress."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from lmht.model.build_cache import build_key, cached_build
from lmht.model.compiler import compiler_command
from lmht.model.environment import own_environment
from lmht.sim.model_build import LINT_WAIVERS, library, workplace
from lmht.sim.simulation import Progress, SimulationError
from lmht.sim.toolchain import tool_identity

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
        *([f"--trace-{trace}", "-CFLAGS", "-DWAVEFORM"] if trace else []),
    ]
    values = [_OPTIMIZED if optimize else _QUICKLY_BUILT, _LIBRARY]
    options = [option for name, options in c_sources.items() for option in (name, *options)]
    named = [part for name, content in sources.items() for part in (name.encode(), content)]
    key = build_key([*named, *verilog, config], [top, *flags, *values, *options], tool_identity())

    def build(folder: Path) -> None:
        runtime = library(flags, [_QUICKLY_BUILT, _LIBRARY])
        with workplace(f"the {kind} of {top}", key) as work:
            inputs = ["taps.vlt", *(f"source{index}.v" for index in range(len(verilog)))]
            for name, content in (*sources.items(), *zip(inputs, (config, *verilog), strict=True)):
                (work.folder / name).write_bytes(content)
            for name, options in c_sources.items():
                work.call([*compiler_command(), "-x", "c", *options, "-c", name, "-o", f"{name}.o"])
                inputs.append(f"../{name}.o")
            command = ["--exe", "-j", "2", *flags, "--top-module", top, "-o", kind, "-CFLAGS", "-I.."]
            work.compile([*command, *inputs, main], f"V{top}", values, runtime)
            shutil.move(work.objects / kind, folder)

    return cached_build(kind, key, build) / kind


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
        process = stack.enter_context(
            subprocess.Popen(command, env=own_environment(), stderr=subprocess.PIPE, text=True)
        )
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
