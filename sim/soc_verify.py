"""Shows the RISC-V system equal to the golden model: every logit, class and flag, every counter of the core."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmht.gen.build import Build
from lmht.rtl.registers import RegisterMap
from lmht.sim.compare import compare_registers, compare_results
from lmht.sim.expectations import Expectations
from lmht.sim.report import Difference
from lmht.sim.simulation import SimulationRun
from lmht.sim.soc_engine import SocRun
from lmht.sim.soc_report import SocError

__all__ = ["compare_soc"]


def compare_soc(build: Build, expected: Expectations, run: SocRun) -> list[Difference]:
    """What differs, logits first; nothing if all is well.

    Parameters
    ----------
    build : Build
    expected : Expectations
        Of the images that were classified.
    run : SocRun

    Raises
    ------
    SocError
        If the firmware did not report every register, or every logit of an image.
    """
    seen = _as_simulation(build, len(expected.logits), run)
    return [*compare_results(expected, seen), *compare_registers(build.parameters, expected, seen)]


def _as_simulation(build: Build, images: int, run: SocRun) -> SimulationRun:
    """The run as the other engines give theirs."""
    results = run.report.images
    registers = RegisterMap.for_design(build.parameters).registers
    missing = [item.name for item in registers if item.readable and item.address not in run.report.registers]
    if missing:
        raise SocError(f"the firmware did not report the register {missing[0]}")
    classes = build.parameters.classes
    for image, result in enumerate(results):
        if len(result.logits) != classes:
            raise SocError(
                f"image {image}: the firmware reported {len(result.logits)} logits instead of {classes}"
            )
    logits = np.array([result.logits for result in results], np.int64).reshape(len(results), classes)

    def column(values: list[int]) -> NDArray[np.int64]:
        return np.array(values, np.int64)

    return SimulationRun(
        logits=logits,
        classes=column([result.winner for result in results]),
        errors=np.array([result.flagged for result in results], bool),
        words=np.full(len(results), classes),
        first_beat=column([0] * len(results)),
        result=column([result.core for result in results]),
        expected_images=images,
        surplus=0,
        stalled=False,
        registers={item.name: run.report.registers[item.address] for item in registers if item.readable},
        cycles=run.cycles,
        simulation_seconds=run.seconds,
        wall_seconds=run.seconds,
    )
