"""C cross compilers for processors without an operating system: from pip (``ziglang``) or Debian's gcc."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmht.model.build_cache import keep_log
from lmht.model.environment import module_path, own_environment
from lmht.rtl.checks import check_choice
from lmht.sim.toolchain import ToolchainError

__all__ = ["COMPILERS", "STRICT_FLAGS", "TARGETS", "CrossCompiler", "Target", "find_compiler"]

COMPILERS = ("zig", "gcc")
"""Kinds of compilers, in the order in which they are looked for."""

STRICT_FLAGS = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Werror",
)
"""Language and warnings that all C of the project is compiled with."""

_BARE_FLAGS = (
    "-ffreestanding",
    "-fomit-frame-pointer",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)


@dataclass(frozen=True)
class Target:
    """A processor.

    Parameters
    ----------
    name : str
    zig_flags : tuple of str
        For ``zig cc``.
    gcc : str
        Debian's compiler.
    gcc_flags : tuple of str
    gcc_package : str
        Debian package that it comes in.
    """

    name: str
    zig_flags: tuple[str, ...]
    gcc: str
    gcc_flags: tuple[str, ...]
    gcc_package: str


TARGETS = {
    "riscv": Target(
        "RV32IM",
        ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m"),
        "riscv64-unknown-elf-gcc",
        ("-march=rv32im", "-mabi=ilp32"),
        "gcc-riscv64-unknown-elf",
    ),
    "cortex-m4": Target(
        "Arm Cortex-M4",
        ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4"),
        "arm-none-eabi-gcc",
        ("-mthumb", "-mcpu=cortex-m4"),
        "gcc-arm-none-eabi",
    ),
    "cortex-m0": Target(
        "Arm Cortex-M0",
        ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m0"),
        "arm-none-eabi-gcc",
        ("-mthumb", "-mcpu=cortex-m0"),
        "gcc-arm-none-eabi",
    ),
}
"""Processors that the driver is compiled for, by name."""


@dataclass(frozen=True)
class CrossCompiler:
    """A compiler for one target.

    Parameters
    ----------
    kind : {"zig", "gcc"}
    command : tuple of str
        Program, and flags that choose the target.
    """

    kind: str
    command: tuple[str, ...]

    def compile(self, arguments: Sequence[str], folder: Path) -> None:
        """Run it in `folder`.

        Raises
        ------
        ToolchainError
            If it complains; one line with its first complaint and where the log is kept.
        """
        result = subprocess.run(
            [*self.command, *_BARE_FLAGS, *arguments],
            cwd=folder,
            env=own_environment(module_path()),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            said = result.stderr + result.stdout
            lines = said.splitlines()
            named = [line for line in lines if "error" in line]
            kept = keep_log(" ".join(self.command[-2:]), f"$ {shlex.join(result.args)}\n{said}")
            raise ToolchainError(f"{self.kind}: {(named or lines or ['failed'])[0].strip()} (log: {kept})")


def find_compiler(target: Target, kind: str | None = None) -> CrossCompiler:
    """The compiler of that kind, or the first one that is installed.

    Raises
    ------
    ToolchainError
        If it is not installed; says how to get one.
    ValueError
        If `kind` is none of :data:`COMPILERS`.
    """
    if kind is not None:
        check_choice("compiler", kind, COMPILERS)
    if kind in ("zig", None) and importlib.util.find_spec("ziglang") is not None:
        return CrossCompiler("zig", (sys.executable, "-m", "ziglang", "cc", *target.zig_flags))
    if kind in ("gcc", None) and shutil.which(target.gcc) is not None:
        return CrossCompiler("gcc", (target.gcc, *target.gcc_flags))
    ways = {"zig": "pip install ziglang", "gcc": f"the Debian package {target.gcc_package}"}
    offered = " or ".join(ways.values()) if kind is None else ways[kind]
    raise ToolchainError(f"no compiler {kind or ''} for {target.name}: {offered}".replace("  ", " "))
