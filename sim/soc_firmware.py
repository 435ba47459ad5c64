"""The program of the RISC-V system, and the driver alone, compiled for a design."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmht.gen.driver_files import driver_sources
from lmht.gen.header import HEADER_FILE
from lmht.gen.soc_files import LINKER_SCRIPT, firmware_sources
from lmht.rtl.soc_map import RAM
from lmht.sim.cross_compiler import STRICT_FLAGS, CrossCompiler
from lmht.sim.elf import ElfError, loaded_bytes
from lmht.sim.toolchain import ToolchainError

__all__ = ["compile_driver", "compile_firmware"]


def compile_firmware(header: bytes, compiler: CrossCompiler) -> bytes:
    """Bytes of the system's RAM from its first one on.

    Parameters
    ----------
    header : bytes
        The design's ``lmht_design.h``.
    compiler : CrossCompiler
        For the target ``riscv``.

    Raises
    ------
    ToolchainError
        If it does not compile without a warning, or does not fit the RAM.
    """
    sources = {**firmware_sources(), HEADER_FILE: header}
    compiled = [name for name in sources if name.endswith((".c", ".S"))]
    libraries = ["-lgcc"] if compiler.kind == "gcc" else []
    arguments = ["-O2", "-nostdlib", "-static", "-T", LINKER_SCRIPT, *compiled, *libraries]
    try:
        return loaded_bytes(_compile(sources, arguments, compiler), RAM.base, RAM.size)
    except ElfError as error:
        raise ToolchainError(f"firmware: {error}") from None


def compile_driver(header: bytes, compiler: CrossCompiler, optimization: str = "-Os") -> bytes:
    """Object file of the driver, for any target.

    Parameters
    ----------
    header : bytes
        The design's ``lmht_design.h``.
    compiler : CrossCompiler
    optimization : str

    Raises
    ------
    ToolchainError
        If it does not compile without a warning.
    """
    return _compile({**driver_sources(), HEADER_FILE: header}, [optimization, "-c", "lmht.c"], compiler)


def _compile(sources: Mapping[str, bytes], arguments: Sequence[str], compiler: CrossCompiler) -> bytes:
    """What the compiler makes of the sources, which lie in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="lmht-firmware-") as name:
        folder = Path(name)
        for source, content in sources.items():
            (folder / source).write_bytes(content)
        compiler.compile([*STRICT_FLAGS, *arguments, "-o", "compiled"], folder)
        return (folder / "compiled").read_bytes()
