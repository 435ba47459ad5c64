"""Fourth engine: a RISC-V processor in the loop. Its firmware, with the C driver, runs the Verilated design."""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmht.gen.build import Build
from lmht.gen.files import wrapper_name
from lmht.gen.header import HEADER_FILE
from lmht.gen.soc_files import flash_contents
from lmht.model.environment import own_environment
from lmht.rtl.axi_stream import STREAM_BYTES
from lmht.rtl.bus_accelerator import BusAccelerator
from lmht.rtl.checks import check_choice
from lmht.rtl.soc import Soc
from lmht.rtl.soc_map import CLOCKS_PER_BIT, FLASH, RAM
from lmht.rtl.verilog import emit_verilog
from lmht.sim.cross_compiler import CrossCompiler
from lmht.sim.program import build_program
from lmht.sim.simulation import Progress, SimulationError, frame_bytes, stall_cycles
from lmht.sim.soc_firmware import compile_firmware
from lmht.sim.soc_report import SocReport
from lmht.sim.toolchain import ToolchainError

__all__ = ["SocEngine", "SocRun", "cpu_source"]

_BUS = "axi"
_HOST = "soc_host.cpp"
# Far more than the processor needs for a byte of the memory image, which it checks and loads without a word.
_LOAD_CYCLES_PER_BYTE = 1000
_QUIET_CYCLES = 1_000_000
_TIMEOUT_FACTOR = 4  # the processor polls while the core works


@dataclass(frozen=True)
class SocRun:
    """A run of the firmware to its end.

    Parameters
    ----------
    report : SocReport
    cycles : int
        Clock cycles of the system, from reset on.
    seconds : float
        The simulation took.
    """

    report: SocReport
    cycles: int
    seconds: float


class SocEngine:
    """A build in a system with PicoRV32, RAM, flash, UART and DMA (:class:`~lmht.rtl.soc.Soc`).

    The design is behind AXI4-Lite and AXI4-Stream, in the build's own file if it was compiled with ``bus="axi"``.

    Parameters
    ----------
    build : Build
    compiler : CrossCompiler
        For the target ``riscv``.
    optimize : bool
        False builds in less time and simulates several times slower.

    Attributes
    ----------
    firmware : bytes
        What the RAM holds at the start.

    Raises
    ------
    ToolchainError
        If a tool or the processor is missing, or something does not build.
    ValueError
        If the design's beats have neither 4 nor 8 bytes.
    """

    def __init__(self, build: Build, compiler: CrossCompiler, *, optimize: bool = True):
        check_choice(
            "bytes_per_beat of the RISC-V system", build.parameters.frame.bytes_per_beat, STREAM_BYTES
        )
        self.build = build
        self.firmware = compile_firmware((build.folder / HEADER_FILE).read_bytes(), compiler)
        self._program = _build_model(build, optimize=optimize)

    def run(
        self, images: NDArray[np.uint8], *, image: bytes | None = None, progress: Progress | None = None
    ) -> SocRun:
        """Let the firmware load the memory image and classify all images.

        Parameters
        ----------
        images : ndarray of uint8, (N, C, H, W)
        image : bytes, optional
            Memory image in flash, instead of the build's.
        progress : callable, optional
            Called with the images done and the images in all.

        Raises
        ------
        SocError
            If the firmware gives up; says which call of the driver failed.
        SimulationError
            If the system does not reach the firmware's end.
        TypeError, ValueError
            If the images do not fit the design, or not into the flash.
        """
        parameters = self.build.parameters
        image = self.build.image_file.read_bytes() if image is None else image
        timeout = _TIMEOUT_FACTOR * stall_cycles(parameters)
        flash = flash_contents(image, frame_bytes(images, parameters), timeout_cycles=timeout)
        quiet = _LOAD_CYCLES_PER_BYTE * len(image) + 2 * timeout + _QUIET_CYCLES
        report = SocReport()
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="lmht-soc-") as name, ExitStack() as stack:
            folder = Path(name)
            for region, content in ((RAM, self.firmware), (FLASH, flash)):
                (folder / f"{region.name}.hex").write_text(_hex_words(content))
            process = stack.enter_context(
                subprocess.Popen(
                    [self._program, f"+ram={RAM.name}.hex", f"+flash={FLASH.name}.hex", f"+quiet={quiet}"],
                    cwd=folder,
                    env=own_environment(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)  # where this ends early; harmless once it has ended
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                if not line.endswith("\n"):
                    break  # cut off: the error output says why
                report.add(line)
                if progress is not None:
                    progress(len(report.images), len(images))
            kind, _, rest = process.stderr.read().strip().partition(" ")
            status = process.wait()
            if kind == "error":
                raise SimulationError(rest)
            if status or kind != "cycles":
                raise SimulationError(f"the system ended with status {status}")
        return SocRun(report, int(rest), time.perf_counter() - start)


def cpu_source() -> Path:
    """Verilog of PicoRV32 in the package ``pythondata-cpu-picorv32``.

    Raises
    ------
    ToolchainError
        If it is not installed.
    """
    spec = importlib.util.find_spec("pythondata_cpu_picorv32")
    if spec is None or spec.origin is None:
        raise ToolchainError("the processor is missing: pip install pythondata-cpu-picorv32")
    return Path(spec.origin).parent / "verilog" / "picorv32.v"


def _build_model(build: Build, *, optimize: bool) -> Path:
    """The Verilated system as a program."""
    name = build.manifest.name
    top, core = f"{name}_soc", wrapper_name(name, _BUS)
    cpu = cpu_source()
    with tempfile.TemporaryDirectory(prefix="lmht-soc-") as temporary:
        folder = Path(temporary)
        (folder / f"{top}.v").write_text(emit_verilog(Soc(parameters=build.parameters, core=core), top))
        wrapper = build.folder / f"{core}.v"
        if wrapper.name not in build.manifest.files:
            wrapper = folder / wrapper.name
            wrapper.write_text(emit_verilog(BusAccelerator(parameters=build.parameters, bus=_BUS), core))
        memory = folder / "soc_memory.v"
        memory.write_bytes((files("lmht.rtl") / memory.name).read_bytes())
        verilog = [folder / f"{top}.v", wrapper, *build.verilog_files, memory, cpu]
        # The program's build numbers its sources. The processor is not ours to mend, and has outputs that
        # nothing needs.
        config = (
            f'`verilator_config\nlint_off -file "source{verilog.index(cpu)}.v"\n'
            'lint_off -rule PINMISSING -file "source0.v"\nlint_off -rule TIMESCALEMOD\n'
        )
        model = f'#include "V{top}.h"\nusing Model = V{top};\nconstexpr int soc_clocks_per_bit = {CLOCKS_PER_BIT};\n'
        return build_program(
            "soc",
            top,
            {
                **{part: (files("lmht.sim.templates") / part).read_bytes() for part in (_HOST, "host.h")},
                "soc_model.h": f"#pragma once\n{model}".encode(),
            },
            verilog,
            config.encode(),
            main=_HOST,
            optimize=optimize,
        )


def _hex_words(content: bytes) -> str:
    """Bytes as little-endian words for ``$readmemh``."""
    words = np.frombuffer(content.ljust(-(-len(content) // 4) * 4, b"\0"), "<u4")
    return "\n".join(f"{word:08x}" for word in words.tolist()) + "\n"
