"""Builds of cocotb benches: Verilog to an executable, cached by content."""

from __future__ import annotations

import functools
import logging
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cocotb_tools.runner import get_runner

from lmht.model.build_cache import build_key, cached_build
from lmht.sim.toolchain import ToolchainError, tool_environment, toolchain_environment, verilator_version

__all__ = ["LINT_WAIVERS", "build_bench"]

# What Amaranth's Verilog is known to warn about; anything else stays an error.
LINT_WAIVERS = ("WIDTHEXPAND", "WIDTHTRUNC", "CASEINCOMPLETE", "PROCASSINIT", "UNUSEDSIGNAL")

# All of a model is compiled as one file: its headers take longer than most designs.
_MAKE_VALUES = "VM_PARALLEL_BUILDS=0 OPT_FAST=-O1 OPT_GLOBAL=-Os"
_HEADER = "runtime.h"
_HEADER_TEXT = "".join(f'#include "verilated{part}.h"\n' for part in ("", "_dpi", "_vpi"))
_EMPTY = b"module empty(input clk, output q); assign q = clk; endmodule\n"


def build_bench(
    sources: Sequence[Path | str],
    top: str,
    build_args: Sequence[str] = (),
    *,
    open_nets: Sequence[str] = (),
    waves: str | None = None,
) -> Path:
    """Folder with the executable ``<top>``, from the cache if the same was built before.

    Parameters
    ----------
    sources : sequence of Path or str
        Verilog files; a string is Verilog text itself.
    top : str
        Top module.
    build_args : sequence of str
        Further arguments of Verilator.
    open_nets : sequence of str
        Nets of the top module that the bench reads, beside its ports.
    waves : {"fst", "vcd"}, optional
        Waveform format to build for.

    Raises
    ------
    ToolchainError
        If a tool is missing or the sources do not build.
    """
    inputs = [_opened(sources, top, open_nets), *sources]
    texts = [source.encode() if isinstance(source, str) else Path(source).read_bytes() for source in inputs]
    waivers = [f"-Wno-{name}" for name in LINT_WAIVERS]
    arguments = [*waivers, "--no-public-flat-rw", *build_args, *_trace_flags(waves)]
    traced = waves is not None
    flags = [f"traced={traced}", _MAKE_VALUES, *arguments]
    tools = (
        f"{verilator_version()} cocotb {version('cocotb')} in {Path(get_runner.__code__.co_filename).parent} "
        f"{_compiler_version()}"
    )

    def build_runtime(folder: Path) -> None:
        objects = folder / "objects"
        log = _compile([_EMPTY], "empty", arguments, objects, traced=traced)
        for path in _runtime_objects(objects):
            path.rename(folder / path.name)
        _precompile_header(folder, objects, log)
        shutil.rmtree(objects)

    def build(folder: Path) -> None:
        objects = folder / "objects"
        objects.mkdir()
        runtime = cached_build(
            "runtime", build_key([_HEADER_TEXT.encode(), _EMPTY], flags, tools), build_runtime
        )
        # The makefile, written anew, must not look younger than the objects.
        later = time.time() + 3600
        for path in _runtime_objects(runtime):
            os.utime(shutil.copy(path, objects), (later, later))
        for name in (_HEADER, f"{_HEADER}.gch"):
            (objects / name).symlink_to(runtime / name)
        _compile(texts, top, [*arguments, "-CFLAGS", f"-include {_HEADER}"], objects, traced=traced)
        # Only the executable is needed again.
        (objects / top).rename(folder / top)
        shutil.rmtree(objects)

    return cached_build("cocotb", build_key([*texts, _HEADER_TEXT.encode()], [top, *flags], tools), build)


def _opened(sources: Sequence[Path | str], top: str, nets: Sequence[str]) -> str:
    """Verilator configuration that opens the ports of `top`, and `nets`, to cocotb.

    Opening every net of the design, as cocotb does by default, makes simulations slower and lets builds take minutes.
    """
    module = re.compile(rf"^module {re.escape(top)}\b.*?(?:^endmodule|\Z)", re.MULTILINE | re.DOTALL)
    texts = (
        source if isinstance(source, str) else Path(source).read_text(encoding="utf-8") for source in sources
    )
    body = next((match[0] for text in texts if (match := module.search(text))), None)
    if body is None:
        raise ToolchainError(f"{top} does not build: no source holds that module")
    names = [*re.findall(r"\b(?:input|output)\b[^;,)]*?(\w+)\s*[;,)\n]", body), *nets]
    lines = [f'public_flat_rw -module "{top}" -var "{name}"' for name in dict.fromkeys(names)]
    return "\n".join(["`verilator_config", *lines, ""])


def _trace_flags(waves: str | None) -> tuple[str, ...]:
    if waves == "fst" and not any(
        Path(folder, "lz4.h").exists() for folder in ("/usr/include", "/usr/local/include")
    ):
        raise ToolchainError(
            "FST waveforms need lz4.h (Debian package: liblz4-dev); waves='vcd' works without"
        )
    return {"fst": ("--trace-fst",), "vcd": ("--trace-vcd",)}.get(waves or "", ())


@functools.cache
def _compiler_version() -> str:
    """First line of what the compiler of Verilator's makefile says of itself: objects are no use to another.

    Raises
    ------
    ToolchainError
        If it is missing.
    """
    command = ["c++", "--version"]
    environment = toolchain_environment()
    if shutil.which(command[0], path=environment["PATH"]) is None:
        raise ToolchainError("c++ is not on PATH; Verilator needs it (Debian package: g++)")
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return result.stdout.partition("\n")[0]


def _compile(
    texts: Sequence[bytes], top: str, arguments: Sequence[str], objects: Path, *, traced: bool
) -> str:
    """Verilate and compile into `objects`, beside which the sources go; returns the log.

    Raises
    ------
    ToolchainError
        If the sources do not build; one line.
    """
    folder = objects.parent
    paths = []
    for index, text in enumerate(texts):
        path = folder / f"source{index}.v"
        path.write_bytes(text)
        paths.append(path)
    log = folder / "build.log"
    runner = get_runner("verilator")
    runner.log.setLevel(logging.CRITICAL)
    make_values = f"{toolchain_environment()['MAKEFLAGS']} {_MAKE_VALUES}"
    with tool_environment({"MAKEFLAGS": make_values}):
        try:
            runner.build(
                sources=paths,
                hdl_toplevel=top,
                build_args=list(arguments),
                build_dir=objects,
                always=True,
                timescale=("1ns", "1ps"),
                waves=traced,
                log_file=log,
            )
        except (SystemExit, RuntimeError) as error:
            raise ToolchainError(f"{top} does not build: {_first_error(log, error)}") from error
    return log.read_text(errors="replace")


def _runtime_objects(folder: Path) -> list[Path]:
    """Objects and dependency files of Verilator's library, which are the same for every design."""
    return sorted((*folder.glob("verilated*.o"), *folder.glob("verilated*.d")))


def _precompile_header(folder: Path, objects: Path, log: str) -> None:
    """Precompile Verilator's headers, which take longer than the model of a small design.

    The command is the one that compiled the model, so that its flags are the same, without which the compiler would
    read the header itself.

    Raises
    ------
    ToolchainError
        If the log does not show that command, or it fails.
    """
    line = next((line for line in log.splitlines() if line.endswith("-c -o Vtop__ALL.o Vtop__ALL.cpp")), None)
    if line is None:
        raise ToolchainError("empty does not build: its log does not say how")
    (folder / _HEADER).write_text(_HEADER_TEXT)
    command = [part for part in shlex.split(line)[:-4] if part not in ("ccache", "-MMD")]
    command += ["-x", "c++-header", "-o", str(folder / f"{_HEADER}.gch"), str(folder / _HEADER)]
    result = subprocess.run(
        command, cwd=objects, env=toolchain_environment(), capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise ToolchainError(
            f"{_HEADER} does not compile: {(result.stderr.splitlines() or ['no message'])[0]}"
        )


def _first_error(log: Path, error: BaseException) -> str:
    """The first line of the build log that names an error."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    # Its last line only says how many there were.
    lines = [line for line in lines if "Exiting due to" not in line]
    named = (line for line in lines if line.startswith("%Error") or "error:" in line)
    warnings = (line for line in lines if line.startswith("%Warning"))
    return next(named, None) or next(warnings, None) or str(error)
