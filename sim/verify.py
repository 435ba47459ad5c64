"""Shows a build equal to the golden model: every logit, class and flag, every counter, every memory word."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from lmht.gen.build import Build
from lmht.gen.images import read_image
from lmht.sim.cocotb_engine import CocotbEngine
from lmht.sim.compare import compare_registers, compare_results
from lmht.sim.driver_checks import compare_speed, outside_fault
from lmht.sim.driver_engine import DriverEngine
from lmht.sim.expectations import Expectations, expect
from lmht.sim.golden import GoldenModel
from lmht.sim.harness import Harness
from lmht.sim.locate import Fault, locate, stall_text
from lmht.sim.memory_check import MemoryDifference, memory_differences
from lmht.sim.report import Difference, VerifyReport, stage_table, summarize_cycles
from lmht.sim.simulation import Progress, SimulationRun, frame_bytes

__all__ = ["Engine", "verify"]

Engine = Literal["harness", "cocotb", "driver"]

_LAYER_IMAGES = 8  # images compared layer by layer where nothing else differs
_SEARCHED_EVENTS = 2**22  # events of all links in which the cause of a wrong counter is looked for


def verify(
    build: Build,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    *,
    engine: Engine = "harness",
    idle: float = 0.0,
    back_pressure: float = 0.0,
    seed: int = 0,
    disturb: int = 0,
    layer_images: int = _LAYER_IMAGES,
    optimize: bool = True,
    progress: Progress | None = None,
) -> VerifyReport:
    """Stream images through the emitted design and compare everything with the golden model.

    Then images are streamed again with every link between the components observed and compared layer by layer: up to
    the first wrong image if anything differs, so that the report's first difference names the component at fault;
    else the first few, since a fault may cancel out before the logits.

    Parameters
    ----------
    build : Build
    images : numpy.ndarray of uint8, shape (N, C, H, W)
    labels : numpy.ndarray of int64, shape (N,), optional
        For the accuracy.
    engine : {"harness", "cocotb", "driver"}
        The driver needs a build with AXI ports; its speed is compared with the harness's.
    idle, back_pressure : float
        Probabilities, 0 to below 1, that input and output pause in a cycle.
    seed : int
        Of both.
    disturb : int
        With the driver: reset the core in the middle of a frame and send a malformed packet before every so many
        images (:meth:`~lmht.sim.driver_engine.DriverEngine.run`); 0 for never.
    layer_images : int
        Images compared layer by layer where nothing else differs, at least 1.
    optimize : bool
        False builds the C++ programs in a third of the time; they then simulate several times slower.
    progress : callable, optional
        Called with the images done and the images in all (not by cocotb).

    Raises
    ------
    ImageError
        If the memory image is damaged or belongs to another design.
    SimulationError, ToolchainError
        If the engine cannot be built or dies, or a call of the driver fails.
    TypeError, ValueError
        If an argument is out of range, the images do not fit the design, or the build has not the ports that the engine
        needs.
    """
    if engine not in ("harness", "cocotb", "driver"):
        raise ValueError(f"engine must be harness, cocotb or driver, not {engine!r}")
    if disturb and engine != "driver":
        raise ValueError(f"disturb must be 0 with the engine {engine}: only the driver can be disturbed")
    if layer_images < 1:
        raise ValueError(f"layer_images must be at least 1, not {layer_images}")
    start = time.perf_counter()
    images = np.asarray(images)
    frame_bytes(images, build.parameters)  # refuses images that do not fit
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"labels must be {len(images)}, one for each image, not {len(labels)}")
    simulator = _Simulator(
        _make_engine(build, engine, optimize),
        images,
        {"idle": idle, "back_pressure": back_pressure, "seed": seed},
        disturb,
    )
    memory = memory_differences(
        build.parameters, build.network, read_image(build.image_file, build.parameters.design_hash)
    )
    expected = expect(build.network, build.parameters, images)
    golden_seconds = time.perf_counter() - start

    run = simulator.run(progress=progress)
    differences = [
        *(Difference(kind="memory", message=str(item), stage=item.stage) for item in memory),
        *compare_results(expected, run),
        *compare_registers(build.parameters, expected, run),
    ]
    candidates = _candidates(expected, differences, min(run.images, layer_images))
    place = _find_place(build, images, simulator, candidates, memory)
    speed = None
    if engine == "driver":
        harness = Harness.for_build(build, optimize=optimize)
        place = place or outside_fault(harness, images, expected, differences)
        speed = compare_speed(harness, images, run, **simulator.pauses)
    if place is not None:
        differences.insert(0, place)
    accuracy = None
    if labels is not None and run.images:
        accuracy = float((run.classes == np.asarray(labels)[: run.images]).mean())
    report = VerifyReport(
        ok=not differences,
        engine=engine,
        images=len(images),
        logits=expected.logits.size,
        layer_images=len(candidates),
        levels=len(candidates) * sum(layer.neurons * layer.steps for layer in build.network.layers[:-1]),
        differences=tuple(differences),
        message="",
        accuracy=accuracy,
        # A disturbed stream is in no steady state.
        cycles=None if disturb else summarize_cycles(run),
        stages=() if disturb else stage_table(expected, build.parameters, run),
        registers=run.registers,
        fifo_words=run.fifo_words,
        classes=run.classes,
        golden_classes=expected.predictions,
        idle=idle,
        back_pressure=back_pressure,
        seed=seed,
        disturb=disturb,
        speed=speed,
        golden_seconds=golden_seconds,
        simulation_seconds=run.simulation_seconds,
        wall_seconds=time.perf_counter() - start,
    )
    return replace(report, message=_message(report))


class _Pauses(TypedDict):
    idle: float
    back_pressure: float
    seed: int


def _make_engine(build: Build, engine: Engine, optimize: bool) -> Harness | CocotbEngine | DriverEngine:
    if engine == "driver":
        return DriverEngine(build, optimize=optimize)
    return (
        Harness.for_build(build, optimize=optimize) if engine == "harness" else CocotbEngine.for_build(build)
    )


class _Simulator:
    """One engine with one stimulus, so that a run can be repeated exactly."""

    def __init__(
        self,
        engine: Harness | CocotbEngine | DriverEngine,
        images: NDArray[np.uint8],
        pauses: _Pauses,
        disturb: int,
    ):
        self._engine = engine
        self._images = images
        self.pauses = pauses
        self._disturb = disturb

    def run(
        self, count: int | None = None, observe: range | None = None, progress: Progress | None = None
    ) -> SimulationRun:
        """Stream the first `count` images."""
        images = self._images[:count]
        if isinstance(self._engine, CocotbEngine):
            return self._engine.run(images, **self.pauses, observe=observe)
        if isinstance(self._engine, Harness):
            return self._engine.run(images, **self.pauses, observe=observe, progress=progress)
        return self._engine.run(
            images, **self.pauses, disturb=self._disturb, observe=observe, progress=progress
        )


def _candidates(expected: Expectations, differences: list[Difference], layer_images: int) -> range:
    """Images to compare layer by layer: the first wrong one, or the first `layer_images`.

    A fault may cancel out before the logits, so images are looked at in any case.
    """
    images = len(expected.logits)
    affected = [item.image for item in differences if item.image is not None and item.image < images]
    if affected:
        return range(min(affected), min(affected) + 1)
    if any(item.kind != "memory" for item in differences):
        # Only counters or error bits differ: whichever image did it, its words at the taps show it.
        events = np.cumsum(expected.link_events.sum(axis=1))
        return range(max(layer_images, int(np.searchsorted(events, _SEARCHED_EVENTS))))
    return range(layer_images)


def _find_place(
    build: Build,
    images: NDArray[np.uint8],
    simulator: _Simulator,
    candidates: range,
    memory: tuple[MemoryDifference, ...],
) -> Difference | None:
    """Observe the links while the images pass, and compare them layer by layer up to the first fault."""
    # The images behind it keep the design as busy as it was.
    count = min(len(images), candidates.stop + len(build.parameters.layers) + 2)
    observed = simulator.run(count, candidates)
    model = GoldenModel(build.network)
    for image in candidates:
        fault = locate(build.parameters, model, images[image], image, observed)
        if fault is not None:
            return _describe(fault, observed, memory)
    return None


def _describe(fault: Fault, run: SimulationRun, memory: tuple[MemoryDifference, ...]) -> Difference:
    message = f"image {fault.image}: {fault.stage}: {fault.what}"
    causes = [str(item) for item in memory if item.stage == fault.stage]
    if causes:
        message += f", because {'; '.join(causes)}"
    if run.stalled:
        message += f"; {stall_text(run.states)}"
    return Difference(
        kind="spike",
        message=message,
        stage=fault.stage,
        image=fault.image,
        layer=fault.layer,
        y=fault.y,
        x=fault.x,
        channel=fault.channel,
        neuron=fault.neuron,
        step=fault.step,
        expected=fault.expected,
        found=fault.found,
    )


def _message(report: VerifyReport) -> str:
    """One paragraph that says what was found."""
    stress = (
        f", idle {report.idle:g}, back-pressure {report.back_pressure:g}, seed {report.seed}"
        if report.idle or report.back_pressure
        else ""
    )
    if report.disturb:
        stress += f", a soft reset and a malformed packet before every {report.disturb} of them"
    through = f"{report.images} images through {report.engine}{stress}"
    if report.ok:
        return (
            f"{through}: all {report.logits} logits equal the golden model's, and so do all {report.levels} levels of "
            f"the hidden layers in {report.layer_images} of the images; no frame was flagged, every counter and memory "
            "word is as expected."
        )
    first, *others = report.differences
    kinds = {
        kind: sum(item.kind == kind for item in report.differences)
        for kind in dict.fromkeys(d.kind for d in others)
    }
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{through}: {first.message}." + (f" Differences in all: {listed}." if others else "")
