"""Second engine: a C++ program around the Verilated design that streams whole data sets through it.

The program is generated beside the Verilog (:mod:`lmht.sim.harness_source`), built once per content and run as a
subprocess; frames, results and events pass through files.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmht.gen.build import Build
from lmht.rtl.parameters import DesignParameters
from lmht.sim.harness_build import build_harness, waveform_format
from lmht.sim.program import run_program
from lmht.sim.simulation import (
    EVENTS_FILE,
    RESULTS_FILE,
    STATUS_FILE,
    Progress,
    SimulationError,
    SimulationRun,
    check_pauses,
    frame_bytes,
    image_span,
    read_run,
    stall_cycles,
)
from lmht.sim.taps import Tap, design_taps, locate_nets

__all__ = ["Harness"]

_log = logging.getLogger(__name__)


class Harness:
    """The harness of one design, built on first use.

    Parameters
    ----------
    parameters : DesignParameters
    verilog_files : sequence of Path
        The emitted design, its top module named as in `parameters`.
    image_file : Path
        Memory image that is loaded through the configuration bus.
    optimize : bool
        False builds in a third of the time and simulates several times slower: for some hundred images.
    """

    def __init__(
        self,
        parameters: DesignParameters,
        verilog_files: Sequence[Path],
        image_file: Path,
        *,
        optimize: bool = True,
    ):
        self.parameters = parameters
        self.optimize = optimize
        self.verilog_files = tuple(verilog_files)
        self.image_file = Path(image_file)

    @classmethod
    def for_build(cls, build: Build, *, optimize: bool = True) -> Harness:
        """Harness of a build folder."""
        return cls(build.parameters, build.verilog_files, build.image_file, optimize=optimize)

    def taps(self) -> tuple[Tap, ...]:
        """The taps that a run can observe."""
        text = "\n".join(path.read_text(encoding="utf-8") for path in self.verilog_files)
        return locate_nets(design_taps(self.parameters), self.parameters.name, text)

    def prepare(self, *, trace: str | None = None) -> Path:
        """Executable, with a waveform of that format or none; from the cache if it was built before.

        Raises
        ------
        ToolchainError
            If a tool is missing or the sources do not build.
        """
        return build_harness(
            self.parameters, self.verilog_files, self.taps(), trace=trace, optimize=self.optimize
        )

    def run(
        self,
        images: NDArray[np.uint8],
        *,
        idle: float = 0.0,
        back_pressure: float = 0.0,
        seed: int = 0,
        observe: range | None = None,
        waves: range | None = None,
        waveform: Path | None = None,
        progress: Progress | None = None,
    ) -> SimulationRun:
        """Stream images and collect what comes back.

        Parameters
        ----------
        images : numpy.ndarray of uint8, shape (N, C, H, W)
            Pixels from 0 to 255.
        idle : float
            Probability, 0 to below 1, that no new beat is offered in a cycle.
        back_pressure : float
            Probability, 0 to below 1, that no result is accepted in a cycle.
        seed : int
            Of both, at least 0.
        observe : range, optional
            Images whose words at all taps are recorded.
        waves : range, optional
            Images of which a waveform is recorded.
        waveform : Path, optional
            Where to; its suffix becomes ``.fst``, or ``.vcd`` where FST cannot be built.
        progress : callable, optional
            Called with the images done and the images in all.

        Raises
        ------
        SimulationError
            If the memory image is refused or the simulation dies.
        ToolchainError
            If a tool is missing or the sources do not build.
        TypeError, ValueError
            If a number lies outside its range or the images do not fit the design.
        """
        check_pauses(idle, back_pressure)
        if seed < 0:
            raise ValueError(f"seed must be at least 0, not {seed}")
        data = frame_bytes(images, self.parameters)
        trace = waveform_format() if waves is not None else None
        if trace == "vcd":
            _log.warning("FST needs the headers of lz4 and zlib: the waveform is written as VCD")
        executable = self.prepare(trace=trace)
        with tempfile.TemporaryDirectory(prefix="lmht-harness-") as name:
            folder = Path(name)
            options: dict[str, object] = {"idle": idle, "back-pressure": back_pressure, "seed": seed}
            if observe is not None:
                options |= {"observe": image_span(observe), "events": folder / EVENTS_FILE}
            if waves is not None:
                waveform = (waveform or Path("waveform")).with_suffix(f".{trace}")
                options |= {"wave-images": image_span(waves), "wave": waveform}
            wall = self._execute(executable, folder, data, options, progress)
            return read_run(folder, self.parameters, len(data), wall, waveform)

    def run_bare(self, images: NDArray[np.uint8]) -> tuple[int, float]:
        """Cycles and seconds of a loop that does nothing but clock the model and feed these images.

        Its speed is the limit of the harness; nothing is recorded or checked.
        """
        data = frame_bytes(images, self.parameters)
        with tempfile.TemporaryDirectory(prefix="lmht-harness-") as name:
            folder = Path(name)
            self._execute(self.prepare(), folder, data, {"bare": 1}, None)
            status = json.loads((folder / STATUS_FILE).read_text())
        if status["stalled"]:
            raise SimulationError("the design stalled")
        return status["cycles"], status["seconds"]

    def _execute(
        self,
        executable: Path,
        folder: Path,
        data: NDArray[np.uint8],
        options: Mapping[str, object],
        progress: Progress | None,
    ) -> float:
        """Run the program; its seconds."""
        frames = folder / "frames.bin"
        data.tofile(frames)
        named = {
            "image": self.image_file,
            "frames": frames,
            "count": len(data),
            "results": folder / RESULTS_FILE,
            "status": folder / STATUS_FILE,
            "timeout": stall_cycles(self.parameters),
            **options,
        }
        return run_program(executable, named, images=len(data), progress=progress)
