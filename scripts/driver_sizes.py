"""Bytes of the C driver for one design, by processor and compiler: ``python scripts/driver_sizes.py BUILD``."""

from __future__ import annotations

import sys
from pathlib import Path

from lmht.gen.header import HEADER_FILE
from lmht.sim.cross_compiler import COMPILERS, TARGETS, Target, find_compiler
from lmht.sim.elf import text_bytes
from lmht.sim.soc_firmware import compile_driver
from lmht.sim.toolchain import ToolchainError

OPTIMIZATIONS = ("-Os", "-O2")


def size(header: bytes, target: Target, kind: str, optimization: str) -> str:
    """Bytes, or ``-`` where the compiler is not installed."""
    try:
        compiler = find_compiler(target, kind)
    except ToolchainError:
        return "-"
    return f"{text_bytes(compile_driver(header, compiler, optimization)):,}"


def main(build: Path) -> None:
    header = (build / HEADER_FILE).read_bytes()
    columns = [(kind, optimization) for kind in COMPILERS for optimization in OPTIMIZATIONS]
    print(f"| processor | {' | '.join(' '.join(column) for column in columns)} |")
    print(f"| --- |{' ---: |' * len(columns)}")
    for target in TARGETS.values():
        print(f"| {target.name} | {' | '.join(size(header, target, *column) for column in columns)} |")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / HEADER_FILE).is_file():
        sys.exit(f"usage: {sys.argv[0]} BUILD (a folder that holds {HEADER_FILE})")
    main(Path(sys.argv[1]))
