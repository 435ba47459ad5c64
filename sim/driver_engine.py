"""Third engine: the C driver in the loop.

Its source, compiled for this machine, runs the Verilated design through its AXI ports. Results, counters and words at
the taps come back in the files of the other engines.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmht.gen.build import Build
from lmht.gen.driver_files import DRIVER_FILES
from lmht.gen.files import wrapper_name
from lmht.gen.header import HEADER_FILE
from lmht.rtl.bus_accelerator import BUSES
from lmht.sim.cross_compiler import STRICT_FLAGS
from lmht.sim.harness_source import design_sources, fixed_sources, readable_nets
from lmht.sim.program import build_program, run_program
from lmht.sim.simulation import (
    EVENTS_FILE,
    RESULTS_FILE,
    STATUS_FILE,
    Progress,
    SimulationRun,
    check_pauses,
    frame_bytes,
    image_span,
    read_run,
    stall_cycles,
)
from lmht.sim.taps import design_taps, locate_nets

__all__ = ["DRIVER_FLAGS", "DriverEngine"]

DRIVER_FLAGS = (*STRICT_FLAGS, "-O2")
"""What the driver is compiled with."""

_BUS = "axi"
_CORE = "core"  # instance of the design in the module that puts the ports around it


class DriverEngine:
    """A build with AXI ports, the driver in it, and a model of AXI4-Lite master and DMA channels in between.

    Parameters
    ----------
    build : Build
        Compiled with ``bus="axi"``; its own copy of the driver is the one that runs.
    optimize : bool
        False builds in less time and simulates several times slower.

    Raises
    ------
    ValueError
        If the build has no AXI ports.
    """

    def __init__(self, build: Build, *, optimize: bool = True):
        self.build = build
        self.optimize = optimize
        self.top = wrapper_name(build.manifest.name, _BUS)
        self._wrapper = build.folder / f"{self.top}.v"
        if self._wrapper.name not in build.manifest.files:
            others = [
                bus for bus in BUSES if f"{wrapper_name(build.manifest.name, bus)}.v" in build.manifest.files
            ]
            lacks = (
                f"its registers are on {others[0].capitalize()}, not on AXI"
                if others
                else "it has no AXI ports"
            )
            raise ValueError(f"{build.folder}: {lacks}: for the engine driver, compile it with --bus {_BUS}")
        missing = [name for name in DRIVER_FILES if name not in build.manifest.files]
        if missing:
            raise ValueError(f"{build.folder} has no {missing[0]}: compile it again")

    def prepare(self) -> Path:
        """The program, from the cache if the same was built before.

        Raises
        ------
        ToolchainError
            If a tool is missing or something does not build.
        """
        build = self.build
        text = "\n".join(path.read_text(encoding="utf-8") for path in build.verilog_files)
        taps = locate_nets(design_taps(build.parameters), build.parameters.name, text)
        sources = {
            **{name: (build.folder / name).read_bytes() for name in (*DRIVER_FILES, HEADER_FILE)},
            **design_sources(build.parameters, taps, top=self.top, instances=[_CORE]),
            **fixed_sources("driver_host.cpp", "driver_system.h"),
        }
        return build_program(
            "driver",
            self.top,
            sources,
            [self._wrapper, *build.verilog_files],
            readable_nets(build.parameters, taps),
            main="driver_host.cpp",
            c_sources={"lmht.c": DRIVER_FLAGS},
            optimize=self.optimize,
        )

    def run(
        self,
        images: NDArray[np.uint8],
        *,
        idle: float = 0.0,
        back_pressure: float = 0.0,
        seed: int = 0,
        disturb: int = 0,
        observe: range | None = None,
        progress: Progress | None = None,
    ) -> SimulationRun:
        """Load the memory image through the driver, send all images and collect what comes back.

        Parameters
        ----------
        images : numpy.ndarray of uint8, shape (N, C, H, W)
            Pixels from 0 to 255.
        idle, back_pressure : float
            Probability, 0 to below 1, that the stream of frames, or that of results, pauses in a cycle.
        seed : int
            Of both, at least 0.
        disturb : int
            Before every so many images, give up frames in their middle by a soft reset, and send a malformed packet,
            whose result must be flagged; 0 for never. Counters and cycles of the images leave that out.
        observe : range, optional
            Images whose words at all taps are recorded.
        progress : callable, optional
            Called with the images done and the images in all.

        Raises
        ------
        SimulationError
            If a call of the driver does not return ``LMHT_OK``, or a disturbance has another effect than it should.
        ToolchainError
            If a tool is missing or the sources do not build.
        TypeError, ValueError
            If a number lies outside its range or the images do not fit the design.
        """
        check_pauses(idle, back_pressure)
        for name, value in (("seed", seed), ("disturb", disturb)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, not {value}")
        parameters = self.build.parameters
        data = frame_bytes(images, parameters)
        program = self.prepare()
        with tempfile.TemporaryDirectory(prefix="lmht-driver-") as name:
            folder = Path(name)
            data.tofile(folder / "frames.bin")
            options: dict[str, object] = {
                "image": self.build.image_file.absolute(),
                "frames": folder / "frames.bin",
                "count": len(data),
                "results": folder / RESULTS_FILE,
                "status": folder / STATUS_FILE,
                "timeout": stall_cycles(parameters),
                "idle": idle,
                "back-pressure": back_pressure,
                "seed": seed,
                "disturb": disturb,
            }
            if observe is not None:
                options |= {"observe": image_span(observe), "events": folder / EVENTS_FILE}
            wall = run_program(program, options, images=len(data), progress=progress)
            return read_run(folder, parameters, len(data), wall)
