"""The C++ compiler: ``CXX`` if set, else ``c++``."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from .environment import own_environment

__all__ = ["compiler_command", "compiler_identity"]


def compiler_command() -> tuple[str, ...]:
    """Program and first arguments, as ``CXX`` gives them (``ccache g++`` is two parts).

    Raises
    ------
    FileNotFoundError
        If it is not on ``PATH``.
    """
    chosen = os.environ.get("CXX", "").strip()
    # A path with a space in it is a program, too.
    parts = [chosen] if shutil.which(chosen) else shlex.split(chosen) if chosen else ["c++"]
    program = shutil.which(parts[0])
    if program is None:
        wanted = f"CXX={chosen}" if chosen else "c++"
        raise FileNotFoundError(f"{wanted} is not on PATH; Verilator needs it (Debian package: g++)")
    return (program, *parts[1:])


@functools.cache
def compiler_identity(command: tuple[str, ...]) -> str:
    """What tells this compiler and its C library from others, wherever they lie.

    What it says of itself, the bytes of its program and the arguments it is given: a wrapper script of the same version
    may choose another one.
    """
    said = subprocess.run(
        [*command, "--version"], env=own_environment(), capture_output=True, text=True, check=False
    ).stdout
    with Path(command[0]).open("rb") as program:
        digest = hashlib.file_digest(program, "sha256").hexdigest()
    return "\n".join((said, digest, *command[1:], platform.machine(), *platform.libc_ver()))
