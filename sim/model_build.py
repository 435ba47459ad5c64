"""Verilog to a program: Verilator, then make, in a folder whose path both of them take.

Neither quotes: a blank, an apostrophe, ``#`` or ``$`` in the path of a build, of Verilator or of cocotb stops make.
So a model is built in a temporary folder with a plain path, and everything else is reached through links in it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lmht.model.build_cache import build_key, cached_build, keep_log
from lmht.model.compiler import compiler_command
from lmht.sim.toolchain import (
    ToolchainError,
    make_values,
    tool_identity,
    toolchain_environment,
    verilator_command,
    verilator_root,
)

__all__ = ["LINT_WAIVERS", "Workplace", "first_reason", "library", "workplace"]

# What Amaranth's Verilog is known to warn about; anything else stays an error.
LINT_WAIVERS = ("WIDTHEXPAND", "WIDTHTRUNC", "CASEINCOMPLETE", "PROCASSINIT", "UNUSEDSIGNAL")

_OBJECTS = "objects"
# With a net that is open to benches, which takes more of the library.
_EMPTY = b"module empty(input clk, output q /* verilator public_flat_rw */); assign q = clk; endmodule\n"
_HEADER = "runtime.h"
_PLAIN = re.compile(r"[\w./+=@-]+", re.ASCII)


class Workplace:
    """A folder to build in, and the log of what was run there.

    Parameters
    ----------
    folder : Path
        Its path is plain.
    what : str
        Is built; the subject of messages.
    key : str
        Names the log that is kept of a failure.

    Attributes
    ----------
    objects : Path
        Where Verilator writes C++ and make its objects.
    """

    def __init__(self, folder: Path, what: str, key: str):
        self.folder = folder
        self.objects = folder / _OBJECTS
        self.log = ""
        self._what = what
        self._key = key
        self._root = self.link(verilator_root())

    def link(self, path: Path) -> Path:
        """`path` itself if it is plain, else a link to it that is."""
        if _PLAIN.fullmatch(str(path)):
            return path
        link = self.folder / f"link{len(list(self.folder.glob('link*')))}"
        link.symlink_to(path)
        return link

    def call(self, command: Sequence[str], folder: Path | None = None) -> None:
        """Run a program in a folder, this one by default.

        Raises
        ------
        ToolchainError
            If it fails: the first line that says why, and where the log is kept.
        """
        done = subprocess.run(
            command,
            cwd=folder or self.folder,
            env=toolchain_environment(self._root),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        self.log += f"$ {shlex.join(command)}\n{done.stdout}"
        if done.returncode:
            reason = first_reason(done.stdout) or f"{command[0]} ended with status {done.returncode}"
            kept = keep_log(f"{self._what} {self._key[:8]}", self.log)
            raise ToolchainError(f"{self._what} does not build: {reason} (log: {kept})")

    def compile(
        self, arguments: Sequence[str], prefix: str, values: Sequence[str], runtime: Path | None = None
    ) -> None:
        """Verilate and compile.

        Parameters
        ----------
        arguments : sequence of str
            Of Verilator.
        prefix : str
            Of the C++ classes and of the makefile.
        values : sequence of str
            ``NAME=VALUE`` for make.
        runtime : Path, optional
            Result of :func:`library`.
        """
        self.call(verilator_command("--cc", "--Mdir", _OBJECTS, "--prefix", prefix, *arguments))
        # After the makefile, than which they must not look older.
        for path in runtime.glob("*.o") if runtime else ():
            shutil.copy(path, self.objects)
        common = ["VM_PARALLEL_BUILDS=0", *make_values(sys.executable)]
        self.call(["make", "-j2", "-f", f"{prefix}.mk", *common, *values], self.objects)


@contextmanager
def workplace(what: str, key: str) -> Iterator[Workplace]:
    """A :class:`Workplace` that is gone afterwards.

    Raises
    ------
    ToolchainError
        If no folder for temporary files has a plain path.
    """
    roots = [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    plain = (
        root for root in map(os.path.realpath, roots) if _PLAIN.fullmatch(root) and os.access(root, os.W_OK)
    )
    root = next(plain, None)
    if root is None:
        raise ToolchainError(
            f"{what} does not build: TMPDIR must be a folder whose path has letters, digits and ./_+=@- only, "
            f"not {roots[0]}"
        )
    with tempfile.TemporaryDirectory(prefix="lmht-build-", dir=root) as name:
        yield Workplace(Path(name), what, key)


def library(arguments: Sequence[str], values: Sequence[str], header: str = "") -> Path:
    """Folder with the objects of Verilator's own library, which are the same for every design.

    They take most of a build. Without their dependency files, which name headers of the environment that made them: it
    may be gone when they are used. The key names all that they depend on.

    Parameters
    ----------
    arguments, values : sequence of str
        As of :meth:`Workplace.compile`, without those of a design.
    header : str
        Text of a header to precompile, ``runtime.h``, if the compiler is GCC: reading Verilator's headers takes longer
        than the model of a small design.

    Raises
    ------
    ToolchainError
        If a tool is missing or something does not build.
    """
    tools = tool_identity()
    key = build_key([_EMPTY, header.encode()], [*arguments, *values], tools)

    def build(folder: Path) -> None:
        with workplace("Verilator's library", key) as work:
            (work.folder / "empty.v").write_bytes(_EMPTY)
            work.compile([*arguments, "--top-module", "empty", "empty.v"], "Vtop", values)
            # The headers of another compiler would be checked against files that may be gone.
            if header and "Free Software Foundation" in tools:
                _precompile(work, header)
            for path in (*work.objects.glob("verilated*.o"), *work.objects.glob(f"{_HEADER}*")):
                shutil.move(path, folder)

    return cached_build("library", key, build)


def _precompile(work: Workplace, header: str) -> None:
    """The command is the one that compiled the model: with other flags the compiler would read the header itself."""
    line = next(line for line in work.log.splitlines() if line.endswith("-c -o Vtop__ALL.o Vtop__ALL.cpp"))
    (work.objects / _HEADER).write_text(header)
    words, compiler = shlex.split(line), list(compiler_command())
    while words[: len(compiler)] != compiler:  # ccache
        del words[0]
    command = [word for word in words[:-4] if word != "-MMD"]
    work.call([*command, "-x", "c++-header", "-o", f"{_HEADER}.gch", _HEADER], work.objects)


def first_reason(text: str) -> str | None:
    """The first line of a log that says why a build failed."""
    # Verilator's last line only says how many errors there were.
    lines = [line.strip() for line in text.splitlines() if line.strip() and "Exiting due to" not in line]
    named = re.compile(r"%Error|\berror:|undefined reference|: cannot |: not found|No space left")
    for line in lines:
        if named.search(line):
            return line
    for before, line in zip(["", *lines], lines, strict=False):
        if ": *** " in line:
            # make repeats that a command failed, and what that said stands above.
            return before if before and re.search(r"\] Error \d+$", line) else line
    # Warnings stop Verilator, too.
    return next((line for line in lines if line.startswith("%Warning")), lines[-1] if lines else None)
