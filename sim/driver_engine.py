"""The C driver in the loop: its source, compiled for this machine, runs the Verilated design through its AXI ports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmht.gen.build import Build
from lmht.gen.files import wrapper_name
from lmht.gen.header import HEADER_FILE
from lmht.sim.cache import build_key, cached_build
from lmht.sim.runner import LINT_WAIVERS
from lmht.sim.simulation import frame_bytes, stall_cycles
from lmht.sim.toolchain import ToolchainError, toolchain_environment, verilator_version

__all__ = ["DriverEngine", "DriverError", "DriverRun"]

DRIVER_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-O2")
_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--no-timing")
_HOST = "driver_host.cpp"


class DriverError(RuntimeError):
    """A call of the driver failed; one line that names it."""


@dataclass(frozen=True, eq=False)
class DriverRun:
    """What came back through the driver.

    Attributes
    ----------
    logits : ndarray, (images, classes)
    classes, flagged : ndarray, (images,)
    frames : int
        Frames that the hardware counted.
    errors : bool
        Some stage has seen an error.
    cycles : int
    seconds : float
    """

    logits: NDArray[np.int64]
    classes: NDArray[np.int64]
    flagged: NDArray[np.bool_]
    frames: int
    errors: bool
    cycles: int
    seconds: float


class DriverEngine:
    """A build with AXI ports (``bus="axi"``), its driver, and a bus model in between.

    Parameters
    ----------
    build : Build
    firmware : Path
        Folder of the driver's source.

    Raises
    ------
    ValueError
        If the build has no AXI ports.
    ToolchainError
        If a tool is missing or something does not build.
    """

    def __init__(self, build: Build, firmware: Path):
        self.build = build
        self.top = wrapper_name(build.manifest.name, "axi")
        wrapper = build.folder / f"{self.top}.v"
        if wrapper.name not in build.manifest.files:
            raise ValueError(f"{build.folder} has no AXI ports: compile it with the bus axi")
        self._verilog = [wrapper, *build.verilog_files]
        self._sources = {
            "lmht.c": (firmware / "lmht.c").read_bytes(),
            "lmht.h": (firmware / "lmht.h").read_bytes(),
            HEADER_FILE: (build.folder / HEADER_FILE).read_bytes(),
            _HOST: (files("lmht.sim.templates") / _HOST).read_bytes(),
            "driver_model.h": f'#pragma once\n#include "V{self.top}.h"\nusing Model = V{self.top};\n'.encode(),
        }
        self.program = self._program()

    def run(
        self,
        images: NDArray[np.uint8],
        *,
        idle: float = 0.0,
        back_pressure: float = 0.0,
        disturb_every: int = 0,
        seed: int = 0,
    ) -> DriverRun:
        """Load the memory image and send all images.

        Parameters
        ----------
        images : ndarray of uint8, (N, C, H, W)
        idle, back_pressure : float
            Probability of a pause of the streams, 0 to 1.
        disturb_every : int
            Before every so many frames, give up one in its middle by a soft reset, and send a packet that is too
            short; 0 for never.
        seed : int

        Raises
        ------
        DriverError
            If a call of the driver does not return LMHT_OK.
        """
        parameters = self.build.parameters
        with tempfile.TemporaryDirectory(prefix="lmht-driver-") as name:
            folder = Path(name)
            frame_bytes(images, parameters).tofile(folder / "frames.bin")
            command = [str(self.program), "--image", str(self.build.image_file.absolute())]
            command += ["--frames", str(folder / "frames.bin"), "--results", str(folder / "results.bin")]
            command += ["--polls", str(stall_cycles(parameters)), "--idle", str(idle), "--seed", str(seed)]
            command += ["--back-pressure", str(back_pressure), "--disturb-every", str(disturb_every)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise DriverError((done.stderr.splitlines() or [f"status {done.returncode}"])[-1])
            status = json.loads(done.stdout)
            records = np.fromfile(folder / "results.bin", np.int64).reshape(len(images), -1)
        return DriverRun(
            logits=records[:, :-2],
            classes=records[:, -2],
            flagged=records[:, -1].astype(bool),
            frames=status["frames"],
            errors=status["errors"],
            cycles=status["cycles"],
            seconds=status["seconds"],
        )

    def _program(self) -> Path:
        texts = [*self._sources.values(), *(path.read_bytes() for path in self._verilog)]
        flags = [*_FLAGS, *(f"-Wno-{name}" for name in LINT_WAIVERS), "-MAKEFLAGS", "OPT_FAST=-O2"]
        flags += ["-MAKEFLAGS", "OPT_GLOBAL=-O1", "-MAKEFLAGS", f"PYTHON3={sys.executable}"]
        key = build_key(texts, [self.top, *flags, *DRIVER_FLAGS], verilator_version())
        return cached_build("driver", key, lambda folder: self._compile(folder, flags)) / "driver"

    def _compile(self, folder: Path, flags: list[str]) -> None:
        for name, content in self._sources.items():
            (folder / name).write_bytes(content)
        verilog = []
        for index, path in enumerate(self._verilog):
            shutil.copy(path, folder / f"source{index}.v")
            verilog.append(f"source{index}.v")
        # The driver is C: a C compiler makes its object.
        _call(["gcc", *DRIVER_FLAGS, "-c", "lmht.c", "-o", "lmht.o"], folder)
        command = ["verilator", "--cc", "--exe", "--build", *flags, "--top-module", self.top]
        command += ["--Mdir", "objects", "-o", "driver", "-CFLAGS", "-I..", *verilog, _HOST, "../lmht.o"]
        _call(command, folder)
        (folder / "objects" / "driver").rename(folder / "driver")
        shutil.rmtree(folder / "objects")


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, env=toolchain_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr + done.stdout).splitlines()
        named = [line for line in lines if "rror" in line and "Exiting due to" not in line]
        raise ToolchainError(f"{command[0]}: {(named or lines or ['failed'])[0]}")
