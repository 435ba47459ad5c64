"""First engine: the cocotb bench of the top level, run on a build's Verilog."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmht.gen.build import Build
from lmht.rtl.parameters import DesignParameters
from lmht.sim.runner import run_cocotb
from lmht.sim.simulation import (
    STATUS_FILE,
    SimulationError,
    SimulationRun,
    check_pauses,
    frame_bytes,
    read_run,
)
from lmht.sim.taps import design_taps, locate_nets

__all__ = ["CocotbEngine"]


class CocotbEngine:
    """The cocotb bench of one design; the interface of :class:`~lmht.sim.harness.Harness`.

    Parameters
    ----------
    parameters : DesignParameters
    verilog_files : sequence of Path
    image_file : Path
    """

    def __init__(self, parameters: DesignParameters, verilog_files: Sequence[Path], image_file: Path):
        self.parameters = parameters
        self.verilog_files = tuple(verilog_files)
        self.image_file = Path(image_file)

    @classmethod
    def for_build(cls, build: Build) -> CocotbEngine:
        """Engine of a build folder."""
        return cls(build.parameters, build.verilog_files, build.image_file)

    def run(
        self,
        images: NDArray[np.uint8],
        *,
        idle: float = 0.0,
        back_pressure: float = 0.0,
        seed: int = 0,
        observe: range | None = None,
        expected: Mapping[str, NDArray[np.int64]] | None = None,
        waves: str | None = None,
        waveform: Path | None = None,
    ) -> SimulationRun:
        """Stream images and collect what comes back.

        Parameters
        ----------
        images : numpy.ndarray of uint8, shape (N, C, H, W)
        idle, back_pressure : float
            Probabilities, 0 to below 1.
        seed : int
        observe : range, optional
            Images whose words at all taps are recorded.
        expected : mapping, optional
            ``logits``, shape (N, classes), and ``levels<layer>``, shape (T, N, positions on the link behind the layer):
            the bench itself compares, the levels of the images in `observe`.
        waves : {"fst", "vcd"}, optional
            Record a waveform into the folder `waveform`.

        Raises
        ------
        BenchFailure
            If the bench sees something wrong.
        SimulationError
            If it leaves no results.
        ToolchainError
            If a tool is missing or the sources do not build.
        TypeError, ValueError
            If a number lies outside its range or the images do not fit the design.
        """
        check_pauses(idle, back_pressure)
        data = frame_bytes(images, self.parameters)
        with tempfile.TemporaryDirectory(prefix="lmht-cocotb-") as name:
            folder = Path(name)
            data.tofile(folder / "frames.bin")
            settings: dict[str, object] = {
                "parameters": asdict(self.parameters),
                "image_file": str(self.image_file.absolute()),
                "frames": str(folder / "frames.bin"),
                "folder": str(folder),
                "idle": idle,
                "back_pressure": back_pressure,
            }
            text = "\n".join(path.read_text(encoding="utf-8") for path in self.verilog_files)
            taps = locate_nets(design_taps(self.parameters), self.parameters.name, text)
            if observe is not None:
                settings |= {"observe": [observe.start, observe.stop], "nets": [tap.nets for tap in taps]}
            if expected is not None:
                arrays: dict[str, Any] = {key: np.asarray(value) for key, value in expected.items()}
                np.savez(folder / "expected.npz", **arrays)
                settings["expected"] = str(folder / "expected.npz")
            start = time.perf_counter()
            run_cocotb(
                self.verilog_files,
                self.parameters.name,
                "lmht.sim.benches.accelerator",
                parameters=settings,
                open_nets=[net for tap in taps for net in tap.nets],
                seed=seed,
                waves=waves,
                folder=waveform or folder / "bench",
            )
            wall = time.perf_counter() - start
            if not (folder / STATUS_FILE).exists():
                raise SimulationError("the bench left no results")
            return read_run(folder, self.parameters, len(data), wall)
