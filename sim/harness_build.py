"""Building the harness: Verilator and g++ once per content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmht.rtl.parameters import DesignParameters
from lmht.sim.harness_source import harness_sources, readable_nets
from lmht.sim.program import build_program
from lmht.sim.taps import Tap

__all__ = ["build_harness", "waveform_format"]


def waveform_format() -> str:
    """``fst`` where its headers are installed, else ``vcd``."""
    headers = all(
        any((Path(root) / name).exists() for root in ("/usr/include", "/usr/local/include"))
        for name in ("lz4.h", "zlib.h")
    )
    return "fst" if headers else "vcd"


def build_harness(
    parameters: DesignParameters,
    verilog_files: Sequence[Path],
    taps: Sequence[Tap],
    *,
    trace: str | None = None,
    optimize: bool = True,
) -> Path:
    """Path of the executable, from the cache if the same was built before.

    Parameters
    ----------
    parameters : DesignParameters
    verilog_files : sequence of Path
    taps : sequence of Tap
        Streams whose nets are made readable.
    trace : {"vcd", "fst"}, optional
        Waveform format to build for.
    optimize : bool
        False for a build in less time.

    Raises
    ------
    ToolchainError
        If a tool is missing or the sources do not build.
    """
    return build_program(
        "harness",
        parameters.name,
        harness_sources(parameters, taps, trace=trace),
        verilog_files,
        readable_nets(parameters, taps),
        main="harness.cpp",
        trace=trace,
        optimize=optimize,
    )
