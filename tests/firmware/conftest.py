"""A small design and the driver compiled for it, on a mocked core."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.sim.cross_compiler import STRICT_FLAGS
from lmht.sim.random_networks import random_network

ROOT = Path(__file__).parents[2]
FIRMWARE = ROOT / "firmware"
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass
class Driver:
    """The driver's program for one design, its constants and its image."""

    program: Path
    build: Build
    numbers: dict[str, int]
    statuses: dict[str, int]

    def __call__(self, *commands: str) -> list[str]:
        """Lines that the program prints for these commands."""
        done = subprocess.run(
            [str(self.program)], input="\n".join(commands) + "\n", capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def status(self, line: str) -> str:
        """Name of the status in a line ``= STATUS …``."""
        number = int(line.split()[1])
        return next(name for name, value in self.statuses.items() if value == number)

    def reads(self, *registers: str) -> list[str]:
        return [f"r {self.numbers['LMHT_REG_' + name]}" for name in registers]

    def write(self, register: str, value: int) -> str:
        return f"w {self.numbers['LMHT_REG_' + register]} {value}"


def compile_c(sources: Sequence[Path], program: Path, *flags: str) -> None:
    command = ["gcc", *STRICT_FLAGS, *flags, f"-I{FIRMWARE}", *map(str, sources), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("firmware")
    network = random_network(np.random.default_rng(4), input_shape=(1, 4, 4), widths=(12, 4), leak=True)
    compile_network(network, folder / "build", CompileOptions(name="compact", lanes=4, split={0: 2}))
    program = folder / "driver"
    sources = [FIRMWARE / "lmht.c", Path(__file__).with_name("mock_host.c")]
    compile_c(sources, program, *SANITIZERS, f"-I{folder / 'build'}")
    header = (folder / "build" / "lmht_design.h").read_text()
    pairs = re.findall(r"#define (\w+) (0x\w+|\d+)u", header)
    listed = re.search(r"typedef enum lmht_status \{(.*?)\}", (FIRMWARE / "lmht.h").read_text(), re.DOTALL)
    names = re.findall(r"LMHT_\w+", re.sub(r"/\*.*?\*/", "", listed[1]))
    return Driver(
        program,
        Build.open(folder / "build"),
        {name: int(value, 0) for name, value in pairs},
        {name: number for number, name in enumerate(names)},
    )
