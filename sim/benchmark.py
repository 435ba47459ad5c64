"""Figures of a build: cycles, utilization, speed of every engine, time to emit, size and clock on an FPGA."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.table import Table

from lmht.gen.build import Build
from lmht.gen.place import DEVICES, PlaceResult, place_design
from lmht.sim.cocotb_engine import CocotbEngine
from lmht.sim.expectations import expect
from lmht.sim.harness import Harness
from lmht.sim.report import stage_table, summarize_cycles
from lmht.sim.simulation import SimulationError, SimulationRun

__all__ = ["BenchmarkResult", "StageFigures", "benchmark"]

_WARM_UP_IMAGES = 20


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageFigures(_Figures):
    """One stage in the steady state: its binding resource, cycles an image that this must work, and the part of the
    cycles taken that this makes (0 to 1)."""

    stage: str
    resource: str
    work_cycles: float
    utilization: float


class BenchmarkResult(_Figures):
    """Figures of a build; what was not measured is None.

    Attributes
    ----------
    name, architecture, design_hash : str
        What was measured.
    images, cocotb_images : int
        Images through the harness and through cocotb.
    equal : bool
        Every logit of both engines equals the golden model's.
    cycles_per_image : float
        In the steady state, from class to class, on average.
    latency_cycles : float
        From an image's first input beat to its class, on average.
    expected_cycles_per_image : float
        The compiler's estimate for an average image.
    utilization : float
        Of the busiest stage, 0 to 1.
    stages : tuple of StageFigures
    golden_images_per_second, cocotb_images_per_second : float
    harness_images_per_second : float
        On one core, loading left out, the best of `repeats`.
    harness_cycles_per_second, bare_cycles_per_second : float
        Clock cycles simulated in a second by the harness, and by a loop that only clocks the model and feeds it.
    harness_to_bare : float
        Their ratio.
    harness_build_seconds : float
        Verilator and g++; nearly 0 where the cache held the program.
    emit_seconds : float or None
        Compiling the network into the build.
    place : PlaceResult or None
    """

    name: str
    architecture: str
    design_hash: str
    images: int
    cocotb_images: int
    equal: bool
    cycles_per_image: float
    latency_cycles: float
    expected_cycles_per_image: float
    utilization: float
    stages: tuple[StageFigures, ...]
    golden_images_per_second: float
    harness_images_per_second: float
    harness_cycles_per_second: float
    bare_cycles_per_second: float
    harness_to_bare: float
    harness_build_seconds: float
    cocotb_images_per_second: float | None
    emit_seconds: float | None
    place: PlaceResult | None

    @property
    def busiest(self) -> StageFigures:
        """The stage with the highest utilization."""
        return max(self.stages, key=lambda stage: stage.utilization)

    def table(self) -> Table:
        """The figures for a terminal."""
        table = Table(title=f"{self.name} ({self.architecture})")
        table.add_column("figure")
        table.add_column("value", justify="right")
        table.add_row("images", f"{self.images:,}")
        table.add_row("logits equal to the golden model", "all" if self.equal else "NO")
        table.add_row("cycles an image", f"{self.cycles_per_image:,.1f}")
        table.add_row("latency in cycles", f"{self.latency_cycles:,.1f}")
        busiest = self.busiest
        for stage in self.stages:
            name = f"{stage.stage}, {stage.resource}" + (" (busiest)" if stage is busiest else "")
            table.add_row(f"utilization of {name}", f"{stage.utilization:.1%}")
        table.add_row("golden model, images/s", f"{self.golden_images_per_second:,.0f}")
        table.add_row("harness, images/s on one core", f"{self.harness_images_per_second:,.0f}")
        table.add_row("harness, speed of the bare model", f"{self.harness_to_bare:.0%}")
        if self.cocotb_images_per_second is not None:
            table.add_row("cocotb, images/s", f"{self.cocotb_images_per_second:,.1f}")
        if self.emit_seconds is not None:
            table.add_row("emitted in", f"{self.emit_seconds:.1f} s")
        if self.place is not None:
            table.add_row("LUT4 (ECP5)", f"{self.place.lut4:,}")
            table.add_row("flip-flops", f"{self.place.flip_flops:,}")
            table.add_row("block RAM (DP16KD)", f"{self.place.block_rams:,}")
            table.add_row("DSP (MULT18X18D)", f"{self.place.multipliers:,}")
            table.add_row("clock after routing", f"{self.place.clock_mhz:.1f} MHz")
        return table


def benchmark(
    build: Build,
    images: NDArray[np.uint8],
    *,
    cocotb_images: int = 20,
    repeats: int = 3,
    emit: Callable[[], object] | float | None = None,
    place: str | None = None,
    place_folder: Path | None = None,
    optimize: bool = True,
) -> BenchmarkResult:
    """Measure a build.

    Parameters
    ----------
    build : Build
    images : numpy.ndarray of uint8, shape (N, C, H, W)
        At least 2 of them.
    cocotb_images : int
        How many of them go through cocotb; 0 leaves it out.
    repeats : int
        Runs of the harness and of the bare model, taken in turn; the fastest of each counts.
    emit : callable or float, optional
        Something that compiles the network again, which is timed; or the seconds it took.
    place : {"ecp5"}, optional
        Synthesize, place and route for this device.
    place_folder : Path, optional
        Where its netlist and logs stay.
    optimize : bool
        False builds the harness in less time, which says nothing about its speed: for tests.

    Raises
    ------
    PlaceError
        If the tools for `place` are not installed or fail.
    SimulationError, ToolchainError
        If an engine cannot be built, dies, or stalls.
    ValueError
        If there are too few images or they do not fit the design.
    """
    images = np.asarray(images)
    if len(images) < 2:
        raise ValueError(f"images must be at least 2, not {len(images)}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    if place is not None and place not in DEVICES:
        raise ValueError(f"place must be one of {', '.join(DEVICES)}, not {place!r}")
    emit_seconds = _seconds(emit) if callable(emit) else emit

    expect(build.network, build.parameters, images[:_WARM_UP_IMAGES])
    start = time.perf_counter()
    expected = expect(build.network, build.parameters, images)
    golden_seconds = time.perf_counter() - start

    harness = Harness.for_build(build, optimize=optimize)
    build_seconds = _seconds(harness.prepare)
    runs, bare_speed = [], 0.0
    for _ in range(repeats):
        runs.append(_finished(harness.run(images)))
        cycles, seconds = harness.run_bare(images)
        bare_speed = max(bare_speed, cycles / seconds)
    run = min(runs, key=lambda item: item.simulation_seconds)
    equal = bool((run.logits == expected.logits).all())
    cocotb_speed = None
    if cocotb_images:
        bench = _finished(CocotbEngine.for_build(build).run(images[:cocotb_images]))
        equal &= bool((bench.logits == expected.logits[:cocotb_images]).all())
        cocotb_speed = bench.images_per_second
    stages = stage_table(expected, build.parameters, run)
    summary = summarize_cycles(run)
    assert summary is not None
    speed = run.cycles / run.simulation_seconds
    return BenchmarkResult(
        name=build.parameters.name,
        architecture=build.network.architecture,
        design_hash=build.parameters.design_hash,
        images=len(images),
        cocotb_images=min(cocotb_images, len(images)),
        equal=equal,
        cycles_per_image=summary.steady_mean,
        latency_cycles=summary.latency_mean,
        expected_cycles_per_image=build.manifest.expected_cycles_per_image,
        utilization=max(stage.utilization for stage in stages),
        stages=tuple(
            StageFigures(
                stage=row.stage, resource=row.resource, work_cycles=row.work, utilization=row.utilization
            )
            for row in stages
        ),
        golden_images_per_second=len(images) / golden_seconds,
        harness_images_per_second=run.images_per_second,
        harness_cycles_per_second=speed,
        bare_cycles_per_second=bare_speed,
        harness_to_bare=speed / bare_speed,
        harness_build_seconds=build_seconds,
        cocotb_images_per_second=cocotb_speed,
        emit_seconds=emit_seconds,
        place=place_design(build.verilog_files, build.parameters.name, device=place, folder=place_folder)
        if place is not None
        else None,
    )


def _finished(run: SimulationRun) -> SimulationRun:
    if run.stalled or run.images < run.expected_images:
        raise SimulationError(f"the design stalled after {run.images} of {run.expected_images} images")
    return run


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
